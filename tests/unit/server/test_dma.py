# SPDX-License-Identifier: MIT
import errno
import fcntl
import mmap
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt
import pytest

from pydev.ports import Gate
from pydev.recording.format import Flag, Kind
from pydev.units import Iova
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client
from qemu_plugin.vfio_user.header import Command
from qemu_plugin.vfio_user.memory import DmaMap, DmaUnmap, MapFlag, UnmapFlag

Events = Callable[[Kind], npt.NDArray[Any]]
PAGE = 4096
OPEN = Gate.INTERRUPTS_OFF
"""Bus mastering and awake: DMA is not refused."""


@pytest.fixture
def port(server: EndpointServer, client: Client) -> Any:
    server.port.set_gate(OPEN)
    return server.port


@pytest.fixture
def unsealed() -> Iterator[int]:
    fd = os.memfd_create("ram", os.MFD_CLOEXEC)
    os.ftruncate(fd, 16 * PAGE)
    yield fd
    os.close(fd)


def errno_of(call: Callable[[], object]) -> int:
    with pytest.raises(OSError, match="DMA_") as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


def test_dma_reaches_the_file_at_the_ranges_offset(client: Client, port: Any, ram: int) -> None:
    client.dma_map(0x1_0000_0000, 2 * PAGE, ram, offset=4 * PAGE)

    assert port.dma_write(Iova(0x1_0000_0010), b"hello")
    os.pwrite(ram, b"world", 5 * PAGE)

    assert os.pread(ram, 5, 4 * PAGE + 0x10) == b"hello"
    assert port.dma_read(Iova(0x1_0000_1000), 5) == b"world"


def test_dma_crosses_adjoining_ranges_wherever_they_lie_in_the_file(
    client: Client, port: Any, ram: int
) -> None:
    client.dma_map(0, PAGE, ram, offset=8 * PAGE)
    client.dma_map(PAGE, PAGE, ram, offset=2 * PAGE)

    assert port.dma_write(Iova(PAGE - 3), b"abcdef")

    assert os.pread(ram, 3, 9 * PAGE - 3) == b"abc"
    assert os.pread(ram, 3, 2 * PAGE) == b"def"
    assert port.dma_read(Iova(PAGE - 3), 6) == b"abcdef"


@pytest.mark.parametrize(("iova", "size"), [(PAGE * 2, 1), (PAGE * 2 - 1, 2), (2**64 - 8, 16), (0, 3 * PAGE)])
def test_dma_outside_the_mappings_is_refused_and_recorded_as_a_fault(
    client: Client, port: Any, ram: int, events: Events, iova: int, size: int
) -> None:
    client.dma_map(0, 2 * PAGE, ram)

    assert port.dma_read(Iova(iova), size) is None
    assert not port.dma_write(Iova(iova), bytes(size))

    assert events(Kind.DMA_READ)["flags"].tolist() == [Flag.BLOCKED | Flag.FAULT]
    assert events(Kind.DMA_WRITE)["flags"].tolist() == [Flag.BLOCKED | Flag.FAULT]


def test_a_range_without_a_file_is_known_and_not_accessible(
    client: Client, server: EndpointServer, port: Any
) -> None:
    client.dma_map(0, PAGE)
    assert server.engine.counts().ranges == 1
    assert port.dma_read(Iova(0), 4) is None


def test_a_read_only_range_is_not_written(client: Client, port: Any, ram: int) -> None:
    client.dma_map(0, PAGE, ram, flags=MapFlag.READABLE)
    assert not port.dma_write(Iova(0), b"x")
    assert port.dma_read(Iova(0), 1) == b"\0"


@pytest.mark.parametrize(
    "gate", [Gate.BUS_MASTER_OFF, Gate.POWER_STATE, Gate.IN_RESET, Gate.BUS_MASTER_OFF | Gate.POWER_STATE]
)
def test_a_gated_transaction_is_recorded_with_its_reasons_and_reaches_nothing(
    client: Client, port: Any, ram: int, events: Events, gate: Gate
) -> None:
    client.dma_map(0, PAGE, ram)
    port.set_gate(gate)

    assert not port.dma_write(Iova(0), b"x")

    (write,) = events(Kind.DMA_WRITE)
    assert (write["flags"], write["error"]) == (Flag.BLOCKED, gate)
    assert os.pread(ram, 1, 0) == b"\0"


def test_a_change_of_the_gate_lies_between_the_transactions_that_it_parts(
    client: Client, port: Any, ram: int, recording: Any
) -> None:
    client.dma_map(0, PAGE, ram)
    first = recording.head
    port.dma_write(Iova(0), b"a")
    port.set_gate(OPEN | Gate.BUS_MASTER_OFF)
    port.dma_write(Iova(0), b"b")
    port.set_gate(OPEN)
    port.set_gate(OPEN)

    records = recording.view(first, recording.head)
    kinds = [Kind(kind) for kind in records["kind"]]
    assert kinds == [Kind.DMA_WRITE, Kind.GATE, Kind.DMA_WRITE, Kind.GATE]
    assert (records[1]["extra"], records[1]["aux"]) == (OPEN, OPEN | Gate.BUS_MASTER_OFF)
    assert sorted(records["t_ns"].tolist()) == records["t_ns"].tolist()


@pytest.mark.parametrize(
    "message",
    [
        DmaMap(0, 0),
        DmaMap(2**64 - PAGE, 2 * PAGE),
        DmaMap(1, PAGE),
        DmaMap(0, PAGE + 1),
        DmaMap(0, PAGE, offset=5),
        DmaMap(0, 1 << 21),
        DmaMap(0, PAGE, offset=2**64 - PAGE),
        DmaMap(0, PAGE, flags=MapFlag(7)),
    ],
)
def test_a_map_that_is_empty_wrapping_unaligned_or_beyond_its_file_is_invalid(
    client: Client, server: EndpointServer, ram: int, message: DmaMap
) -> None:
    assert errno_of(lambda: client.call(Command.DMA_MAP, message.encode(), [ram])) == errno.EINVAL
    assert server.engine.counts().ranges == 0
    assert server.engine.counts().files == 0


def test_a_map_may_end_with_the_address_space(client: Client, port: Any, ram: int) -> None:
    client.dma_map(2**64 - PAGE, PAGE, ram)
    assert port.dma_write(Iova(2**64 - 1), b"z")
    assert not port.dma_write(Iova(2**64 - 1), b"zz")


@pytest.mark.parametrize("iova", [4 * PAGE, 5 * PAGE, 3 * PAGE, 7 * PAGE])
def test_a_map_over_another_is_refused_and_changes_nothing(
    client: Client, server: EndpointServer, ram: int, iova: int
) -> None:
    client.dma_map(4 * PAGE, 4 * PAGE, ram)
    assert errno_of(lambda: client.dma_map(iova, 2 * PAGE, ram)) == errno.EEXIST
    assert server.engine.counts().ranges == 1


@pytest.mark.parametrize("make", [os.pipe, lambda: os.pipe()[::-1]])
def test_a_file_that_is_no_memory_is_invalid(client: Client, make: Callable[[], tuple[int, int]]) -> None:
    ends = make()
    try:
        assert errno_of(lambda: client.dma_map(0, PAGE, ends[0])) == errno.EINVAL
    finally:
        for end in ends:
            os.close(end)


def test_more_files_than_one_are_invalid(client: Client, server: EndpointServer, ram: int) -> None:
    payload = DmaMap(0, PAGE).encode()
    assert errno_of(lambda: client.call(Command.DMA_MAP, payload, [ram, ram])) == errno.EINVAL
    assert server.engine.counts().files == 0


def test_one_file_is_mapped_once_for_all_its_ranges(client: Client, server: EndpointServer, ram: int) -> None:
    for page in range(32):
        duplicate = os.dup(ram)
        client.dma_map(page * 2 * PAGE, PAGE, duplicate, offset=page * PAGE)
        os.close(duplicate)
    assert (server.engine.counts().ranges, server.engine.counts().files) == (32, 1)


def test_an_unmap_takes_every_range_inside_it_and_none_is_no_error(
    client: Client, server: EndpointServer, port: Any, ram: int
) -> None:
    """QEMU sends unmaps that cover many maps or none, and sizes that run to the end of the address space."""
    for page in range(8):
        client.dma_map(page * 2 * PAGE, PAGE, ram)

    client.dma_unmap(2 * PAGE, 5 * PAGE)
    middle = server.engine.counts().ranges
    client.dma_unmap(0x100_0000, 0x1000)
    client.dma_unmap(0xFEF00000, 0xFFFFFFFF01100000)

    assert middle == 5
    assert server.engine.counts().ranges == 5
    assert port.dma_read(Iova(4 * PAGE), 1) is None
    assert port.dma_read(Iova(8 * PAGE), 1) is not None


@pytest.mark.parametrize(
    ("iova", "size"), [(PAGE, PAGE), (0, PAGE), (PAGE, 16 * PAGE), (0, 0), (PAGE, 2**64 - 1)]
)
def test_an_unmap_that_cuts_a_range_is_empty_or_wraps_is_invalid(
    client: Client, server: EndpointServer, ram: int, iova: int, size: int
) -> None:
    client.dma_map(0, 4 * PAGE, ram)
    assert errno_of(lambda: client.dma_unmap(iova, size)) == errno.EINVAL
    assert server.engine.counts().ranges == 1


def test_an_unmap_of_everything_releases_every_file(client: Client, server: EndpointServer, ram: int) -> None:
    client.dma_map(0, PAGE, ram)
    client.dma_map(PAGE, PAGE)
    client.dma_unmap(0, 0, UnmapFlag.ALL)
    assert (server.engine.counts().ranges, server.engine.counts().files) == (0, 0)


def test_an_unmaps_reply_repeats_the_request(client: Client) -> None:
    request = DmaUnmap(PAGE, PAGE).encode()
    assert client.call(Command.DMA_UNMAP, request) == request


def test_as_many_ranges_as_announced_fit_in_any_order_and_one_more_does_not(
    client: Client, server: EndpointServer, port: Any, ram: int
) -> None:
    pages = list(range(65535))
    random.Random(1).shuffle(pages)
    payloads = [DmaMap(page * 2 * PAGE, PAGE, offset=page % 256 * PAGE).encode() for page in pages]
    for begin in range(0, len(payloads), 64):
        for payload in payloads[begin : begin + 64]:
            client.send(Command.DMA_MAP, payload, [ram])
        for _ in payloads[begin : begin + 64]:
            assert not client.receive().header.is_error

    assert (server.engine.counts().ranges, server.engine.counts().files) == (65535, 1)
    assert errno_of(lambda: client.dma_map(PAGE, PAGE, ram)) == errno.ENOSPC
    for page in (0, 1, 77, 65534):
        assert port.dma_write(Iova(page * 2 * PAGE), page.to_bytes(4, "little"))
        assert os.pread(ram, 4, page % 256 * PAGE) == page.to_bytes(4, "little")
        assert port.dma_read(Iova(page * 2 * PAGE + PAGE), 1) is None
    client.dma_unmap(0, 2**63)
    assert server.engine.counts().ranges == 0


def test_ram_that_shrinks_under_its_mapping_is_a_fault_and_kills_nobody(
    client: Client, port: Any, unsealed: int, events: Events
) -> None:
    client.dma_map(0, 16 * PAGE, unsealed)
    assert port.dma_write(Iova(8 * PAGE), b"before")
    os.ftruncate(unsealed, 4 * PAGE)

    assert not port.dma_write(Iova(8 * PAGE), b"after")
    assert port.dma_read(Iova(8 * PAGE), 4) is None
    assert port.dma_write(Iova(PAGE), b"still")

    assert os.fstat(unsealed).st_size == 4 * PAGE
    assert os.pread(unsealed, 5, PAGE) == b"still"
    assert [int(e["flags"]) for e in events(Kind.DMA_WRITE)] == [0, Flag.BLOCKED | Flag.FAULT, 0]


def test_a_file_that_has_grown_is_mapped_at_its_new_size(client: Client, port: Any, unsealed: int) -> None:
    client.dma_map(0, 16 * PAGE, unsealed)
    os.ftruncate(unsealed, 32 * PAGE)
    client.dma_map(16 * PAGE, 16 * PAGE, unsealed, offset=16 * PAGE)
    assert port.dma_write(Iova(16 * PAGE - 2), b"abcd")
    assert os.pread(unsealed, 4, 16 * PAGE - 2) == b"abcd"


def test_a_read_only_file_is_read_and_not_lent_for_writing(client: Client, port: Any, tmp_path: Any) -> None:
    (tmp_path / "rom").write_bytes(b"rom!" * 1024)
    fd = os.open(tmp_path / "rom", os.O_RDONLY)
    try:
        assert errno_of(lambda: client.dma_map(0, PAGE, fd)) == errno.EACCES
        client.dma_map(0, PAGE, fd, flags=MapFlag.READABLE)
    finally:
        os.close(fd)
    assert port.dma_read(Iova(4), 4) == b"rom!"


def test_after_the_client_left_memory_is_out_of_reach_and_the_next_one_starts_afresh(
    server: EndpointServer, ram: int, events: Events
) -> None:
    server.port.set_gate(OPEN)
    with Client(server.socket_path) as first:
        first.dma_map(0, PAGE, ram)
        assert server.port.dma_write(Iova(0), b"x")
    with Client(server.socket_path) as second:
        assert second.device_info().irq_count == 5
        assert server.engine.counts().ranges == 0
        assert not server.port.dma_write(Iova(0), b"y")
        second.dma_map(0, PAGE, ram)
        assert server.port.dma_write(Iova(0), b"z")
    assert events(Kind.CLIENT)["value"].tolist()[:3] == [1, 0, 1]
    assert os.pread(ram, 1, 0) == b"z"


def test_maps_and_unmaps_are_recorded_as_sent(client: Client, ram: int, events: Events) -> None:
    client.dma_map(PAGE, 2 * PAGE, ram, offset=3 * PAGE, flags=MapFlag.READABLE)
    client.dma_map(8 * PAGE, PAGE)
    client.dma_unmap(0, 4 * PAGE)

    with_file, without = events(Kind.DMA_MAP)
    assert (with_file["address"], with_file["value"], with_file["extra"], with_file["aux"]) == (
        PAGE,
        2 * PAGE,
        3 * PAGE,
        1,
    )
    assert (with_file["flags"], without["flags"]) == (Flag.HAS_FD, 0)
    (unmap,) = events(Kind.DMA_UNMAP)
    assert (unmap["address"], unmap["value"], unmap["aux"]) == (0, 4 * PAGE, 0)


def test_the_mapping_sees_what_the_guest_sees(client: Client, port: Any, ram: int) -> None:
    client.dma_map(0, PAGE, ram)
    with mmap.mmap(ram, PAGE) as guest:
        guest[:4] = b"ping"
        assert port.dma_read(Iova(0), 4) == b"ping"
        port.dma_write(Iova(0), b"pong")
        assert guest[:4] == b"pong"
    assert fcntl.fcntl(ram, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
