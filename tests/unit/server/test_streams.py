# SPDX-License-Identifier: MIT
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pydev.endpoints.payload import is_whole, slot_bytes
from pydev.ports import Gate, StreamProgram
from pydev.recording.format import Flag, Kind
from pydev.units import Iova
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.native.stream import NativeStream, ReferenceStream
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client
from qemu_plugin.vfio_user.device import Irq

Events = Callable[[Kind], npt.NDArray[Any]]
PAGE = 4096
BASE = 0x1_0000_0000
MAILBOX = BASE + 8 * PAGE
DEADLINE_S = 10.0


@pytest.fixture
def port(server: EndpointServer, client: Client, ram: int) -> Any:
    client.dma_map(BASE, 16 * PAGE, ram)
    server.port.set_gate(Gate(0))
    return server.port


@pytest.fixture
def guest(ram: int) -> Iterator[mmap.mmap]:
    with mmap.mmap(ram, 16 * PAGE) as memory:
        yield memory


def program(**changes: Any) -> StreamProgram:
    pages = (Iova(BASE + 3 * PAGE), Iova(BASE + PAGE))
    defaults: dict[str, Any] = {"engine": 1, "pages": pages, "period_ns": 20_000, "generation": 9}
    return StreamProgram(**{**defaults, **changes})


def run_until(stream: Any, sequence: int) -> None:
    """Let a stream run on until it has come to `sequence`, then stop it."""
    wait_for(stream, sequence)
    stream.stop()


def wait_for(stream: Any, sequence: int) -> None:
    turn = threading.Event()
    for _ in range(int(DEADLINE_S / 0.001)):
        if stream.status().next_sequence > sequence:
            return
        turn.wait(0.001)
    raise AssertionError(f"no transaction {sequence} in {DEADLINE_S} s: {stream.status()}")


def test_memory_holds_exactly_what_the_records_say_was_written(
    port: Any, guest: mmap.mmap, events: Events
) -> None:
    stream = port.stream(program())
    stream.start()
    run_until(stream, 300)

    writes = events(Kind.DMA_WRITE)
    expected = bytearray(2 * PAGE)
    for write in writes:
        slot = (int(write["value"]) - 1) % 128
        data = slot_bytes(
            int(write["t_ns"]),
            generation=9,
            engine=1,
            slot=slot,
            iova=int(write["address"]),
            sequence=int(write["value"]),
        )
        assert int.from_bytes(data[48:56], "little") == write["aux"]
        expected[64 * slot : 64 * slot + 64] = data
    assert guest[3 * PAGE : 4 * PAGE] + guest[PAGE : 2 * PAGE] == bytes(expected)
    assert all(is_whole(bytes(expected[at : at + 64])) for at in range(0, 2 * PAGE, 64))
    assert set(writes["flags"].tolist()) == {int(Flag.STREAM)}
    assert set(writes["extra"].tolist()) == {9 | 1 << 32}


def test_the_sequence_has_no_gap_and_no_transaction_is_early(port: Any, events: Events) -> None:
    stream = port.stream(program(first_sequence=1000))
    stream.start()
    run_until(stream, 1400)

    writes, (start, stop) = events(Kind.DMA_WRITE), events(Kind.ENGINE)
    assert writes["value"].tolist() == list(range(1000, 1000 + len(writes)))
    due = int(start["t_ns"]) + np.arange(len(writes)) * 20_000
    assert (writes["t_ns"].astype(np.int64) >= due).all()
    assert stop["aux"] == 1000 + len(writes) == stream.status().next_sequence
    assert stream.status().written == len(writes)


def test_start_and_stop_are_recorded_with_the_whole_program(port: Any, events: Events) -> None:
    stream = port.stream(program())
    stream.start()
    run_until(stream, 1)

    start, stop = events(Kind.ENGINE)
    assert (start["value"], stop["value"]) == (1, 0)
    assert (start["region"], start["address"], start["size"], start["extra"], start["aux"]) == (
        1,
        BASE + 3 * PAGE,
        128,
        20_000,
        1,
    )
    pages = events(Kind.ENGINE_PAGE)
    assert [(int(p["value"]), int(p["address"]), int(p["size"])) for p in pages] == [
        (0, BASE + 3 * PAGE, PAGE),
        (1, BASE + PAGE, PAGE),
    ]


def test_after_stop_no_transaction_follows(port: Any, recording: RecordingWriter) -> None:
    for _ in range(50):
        stream = port.stream(program(period_ns=1000))
        stream.start()
        stream.stop()
        head, status = recording.head, stream.status()
        stream.join()
        assert (recording.head, stream.status()) == (head, status)
        assert not stream.is_running


def test_a_stream_with_a_long_period_stops_at_once(port: Any) -> None:
    stream = port.stream(program(period_ns=2**32 - 1))
    stream.start()
    wait_for(stream, 1)
    stream.stop()
    joined = threading.Thread(target=stream.join)
    joined.start()
    joined.join(2.0)
    assert not joined.is_alive()


def test_a_refused_transaction_uses_its_number_up_and_touches_nothing(
    port: Any, guest: mmap.mmap, events: Events
) -> None:
    stream = port.stream(program())
    stream.start()
    wait_for(stream, 20)
    port.set_gate(Gate.BUS_MASTER_OFF)
    shut = stream.status().next_sequence
    before = bytes(guest[:])
    wait_for(stream, shut + 20)
    unchanged = bytes(guest[:]) == before
    port.set_gate(Gate(0))
    reopened = stream.status().next_sequence
    run_until(stream, reopened + 20)

    writes, gates = events(Kind.DMA_WRITE), events(Kind.GATE)
    blocked = writes[(writes["flags"] & int(Flag.BLOCKED)) != 0]
    assert unchanged
    assert writes["value"].tolist() == list(range(1, len(writes) + 1))
    assert np.diff(blocked["value"].astype(np.int64)).tolist() == [1] * (len(blocked) - 1)
    assert set(blocked["error"].tolist()) == {int(Gate.BUS_MASTER_OFF)}
    assert stream.status().blocked == len(blocked)
    shut_ns = gates[gates["aux"] == Gate.BUS_MASTER_OFF]["t_ns"][-1]
    open_ns = gates[gates["extra"] == Gate.BUS_MASTER_OFF]["t_ns"][-1]
    assert ((writes["t_ns"] > shut_ns) & (writes["t_ns"] < open_ns)).tolist() == (
        (writes["flags"] & int(Flag.BLOCKED)) != 0
    ).tolist()


def test_a_stream_into_unmapped_memory_faults(client: Client, port: Any, events: Events) -> None:
    client.dma_unmap(BASE, 16 * PAGE)
    stream = port.stream(program())
    stream.start()
    run_until(stream, 5)
    flags = int(Flag.STREAM | Flag.BLOCKED | Flag.FAULT)
    assert set(events(Kind.DMA_WRITE)["flags"].tolist()) == {flags}
    assert stream.status().written == 0


def test_a_client_that_leaves_takes_its_memory_and_the_stream_goes_on_refused(
    server: EndpointServer, ram: int, events: Events
) -> None:
    server.port.set_gate(Gate(0))
    with Client(server.socket_path) as client:
        client.dma_map(BASE, 16 * PAGE, ram)
        stream = server.port.stream(program())
        stream.start()
        wait_for(stream, 5)
    with Client(server.socket_path) as client:
        client.read(0, 0)
        run_until(stream, stream.status().next_sequence + 5)
    writes = events(Kind.DMA_WRITE)
    assert writes[0]["flags"] == Flag.STREAM
    assert writes[-1]["flags"] & Flag.FAULT
    assert writes["value"].tolist() == list(range(1, len(writes) + 1))


def test_an_interrupt_follows_every_kth_slot_with_the_mailbox_read_before_it(
    client: Client, port: Any, guest: mmap.mmap, events: Events, recording: RecordingWriter
) -> None:
    guest[8 * PAGE : 8 * PAGE + 8] = (0xABCDEF).to_bytes(8, "little")
    eventfd = os.eventfd(0, os.EFD_NONBLOCK)
    client.set_eventfds(Irq.MSIX, 0, [eventfd] * 4)
    first = recording.head
    stream = port.stream(program(interrupt_every=4, vector=2, mailbox=Iova(MAILBOX)))
    stream.start()
    run_until(stream, 40)
    os.close(eventfd)

    records = recording.view(first, recording.head)
    records = records[np.isin(records["kind"], [Kind.DMA_WRITE, Kind.DMA_READ, Kind.INTERRUPT])]
    assert [Kind(k) for k in records["kind"][:6]] == [Kind.DMA_WRITE] * 4 + [Kind.DMA_READ, Kind.INTERRUPT]
    assert records[3]["value"] == 4
    assert (records[4]["address"], records[4]["value"]) == (MAILBOX, 0xABCDEF)
    assert records[5]["address"] == 2
    assert stream.status().mailbox_value == 0xABCDEF
    assert stream.status().interrupts == stream.status().written // 4 == len(events(Kind.INTERRUPT))


def test_without_interrupts_the_mailbox_is_read_every_64_slots(port: Any, events: Events) -> None:
    stream = port.stream(program(mailbox=Iova(MAILBOX), period_ns=1000))
    stream.start()
    run_until(stream, 200)
    assert len(events(Kind.DMA_READ)) == (stream.status().next_sequence - 1) // 64


@pytest.mark.parametrize(
    "changes",
    [
        {"pages": ()},
        {"pages": (Iova(BASE + 4),)},
        {"period_ns": 0},
        {"first_sequence": 0},
        {"slot_bytes": 32},
    ],
)
def test_a_program_that_cannot_run_is_refused(port: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(OSError, match="stream"):
        port.stream(program(**changes))


def test_a_stream_is_started_once(port: Any) -> None:
    stream = NativeStream(port._engine, program())
    stream.start()
    with pytest.raises(RuntimeError, match="once"):
        stream.start()
    stream.stop()
    stream.join()


def test_the_guest_drives_the_endpoint_through_its_registers(
    client: Client, server: EndpointServer, ram: int, guest: mmap.mmap, events: Events
) -> None:
    client.dma_map(BASE, 16 * PAGE, ram)
    client.write(7, 4, 6, 2)
    client.write(0, 0x1000, BASE, 8)
    client.write(0, 0x14, 1)
    client.write(0, 0x10, 10_000)
    client.write(0, 0x08, 1)
    while client.read(0, 0x30, 8) < 100:
        pass
    client.write(0, 0x08, 0)
    after = client.read(0, 0x30, 8)
    assert client.read(0, 0x30, 8) == after == client.read(0, 0x38, 8) + 1
    assert client.read(0, 0x0C) == 0
    assert len(events(Kind.DMA_WRITE)) == after - 1
    assert is_whole(guest[0:64])
    assert server.model_errors == []


def test_the_reference_stream_ticks_on_its_grid(recording: RecordingWriter, events: Events) -> None:
    reference = ReferenceStream(recording, 100_000)
    reference.start()
    turn = threading.Event()
    while recording.head < 50:
        turn.wait(0.001)
    reference.stop()
    head = recording.head

    ticks = events(Kind.REFERENCE)
    assert ticks["value"].tolist() == list(range(1, len(ticks) + 1))
    assert set(np.diff(ticks["extra"].astype(np.int64)).tolist()) == {100_000}
    assert (ticks["t_ns"] >= ticks["extra"]).all()
    assert recording.head == head
