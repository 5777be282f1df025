# SPDX-License-Identifier: MIT
import errno
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import pytest

from pydev.endpoint import on_write
from pydev.endpoints.stream import StreamEndpoint
from pydev.endpoints.stream_registers import Control
from pydev.pci import Function
from pydev.ports import Gate
from pydev.recording.format import Flag, Kind
from pydev.registers import Write
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client
from qemu_plugin.vfio_user.device import Irq, IrqFlag, RegionFlag
from qemu_plugin.vfio_user.header import Command
from qemu_plugin.vfio_user.region import RegionAccess

Events = Callable[[Kind], npt.NDArray[Any]]
CONFIG, BAR0 = 7, 0
COMMAND, MARK, SEQUENCE, CONTROL, PERIOD = 0x04, 0x58, 0x30, 0x08, 0x10


def test_the_device_says_what_qemu_needs_to_hear(client: Client) -> None:
    info = client.device_info()
    assert (info.region_count, info.irq_count, int(info.flags)) == (9, 5, 3)
    assert client.region_info(0).size_bytes == 0x4000
    assert client.region_info(7).size_bytes == 4096
    assert client.region_info(7).flags == RegionFlag.READ | RegionFlag.WRITE
    assert [client.region_info(i).size_bytes for i in (1, 2, 3, 4, 5, 6, 8)] == [0] * 7
    assert [client.irq_info(i).count for i in Irq] == [0, 0, 4, 1, 1]
    assert not any(client.irq_info(i).flags & IrqFlag.NORESIZE for i in Irq)


def test_a_passive_register_holds_what_was_written_at_any_width(client: Client) -> None:
    client.write(BAR0, MARK, 0x11223344)
    client.write(BAR0, MARK + 1, 0xAA, 1)
    client.write(BAR0, MARK + 2, 0xBBCC, 2)
    assert client.read(BAR0, MARK) == 0xBBCCAA44
    assert client.read(BAR0, MARK + 1, 2) == 0xCCAA


def test_a_config_write_is_recorded_with_the_value_before_and_after(client: Client, events: Events) -> None:
    client.write(CONFIG, COMMAND, 0xFFFF, 2)

    (write,) = events(Kind.REGION_WRITE)
    after = client.read(CONFIG, COMMAND, 2)
    assert (write["region"], write["address"], write["size"], write["function"]) == (CONFIG, COMMAND, 2, 0)
    assert (write["value"], write["extra"], write["aux"]) == (0xFFFF, 0, after)
    assert write["flags"] == Flag.TRAPPED
    assert after & 4
    assert not events(Kind.CONFIG_UPDATE).size


def test_a_read_is_recorded_with_its_value(client: Client, events: Events) -> None:
    value = client.read(CONFIG, 0)
    (read,) = events(Kind.REGION_READ)
    assert (read["value"], read["size"], read["region"], read["address"]) == (value, 4, CONFIG, 0)


def test_the_whole_of_config_space_can_be_read_at_once(client: Client, endpoint: StreamEndpoint) -> None:
    assert client.read_bytes(CONFIG, 0, 4096) == bytes(endpoint.config.image)


def test_a_wide_access_over_trapped_bytes_is_decided_in_pieces(client: Client) -> None:
    data = client.read_bytes(BAR0, 0x28, 0x30)
    assert data[SEQUENCE - 0x28 :][:8] == (1).to_bytes(8, "little")


def test_a_wide_write_over_trapped_bytes_reaches_every_register(client: Client) -> None:
    client.write_bytes(BAR0, CONTROL, bytes([0, 0, 0, 0, 0, 0, 0, 0]) + (5000).to_bytes(4, "little"))
    assert client.read(BAR0, PERIOD) == 5000


def test_posted_writes_are_done_in_order_and_not_answered(client: Client) -> None:
    for value in range(100):
        client.write(BAR0, MARK, value, posted=True)
    assert client.read(BAR0, MARK) == 99


def test_a_wrong_posted_write_is_not_answered_either(client: Client) -> None:
    client.write(BAR0, 0x4000, 1, posted=True)
    assert client.read(BAR0, 0) == 0x4C555343


def test_several_writes_in_one_message_are_done_in_order_through_models_too(
    client: Client, events: Events
) -> None:
    writes = [
        RegionAccess(BAR0, MARK, 4, b"\1\0\0\0"),
        RegionAccess(CONFIG, COMMAND, 2, b"\6\0"),
        RegionAccess(BAR0, MARK, 1, b"\2"),
        RegionAccess(CONFIG, COMMAND, 2, b"\2\0"),
    ]
    assert client.write_multi(writes) == 4
    assert client.read(BAR0, MARK) == 2
    assert events(Kind.REGION_WRITE)["value"].tolist() == [1, 6, 2, 2]
    assert client.read(CONFIG, COMMAND, 2) == 2


def test_a_multi_with_one_wrong_write_does_none(client: Client) -> None:
    writes = [RegionAccess(BAR0, MARK, 4, b"\1\0\0\0"), RegionAccess(BAR0, 0x3FFD, 4, bytes(4))]
    with pytest.raises(OSError, match="REGION_WRITE_MULTI"):
        client.write_multi(writes)
    assert client.read(BAR0, MARK) == 0


@pytest.mark.parametrize(
    ("region", "offset", "size"),
    [
        (0, 0x4000, 1),
        (0, 0x3FFD, 4),
        (0, 2**64 - 2, 4),
        (9, 0, 4),
        (2**32 - 1, 0, 4),
        (1, 0, 1),
        (7, 4096, 1),
        (0, 0, 0),
        (7, 0, 1 << 17),
    ],
)
def test_an_access_that_leaves_its_region_is_invalid_and_recorded(
    client: Client, events: Events, region: int, offset: int, size: int
) -> None:
    with pytest.raises(OSError, match="REGION_READ") as caught:
        client.read_bytes(region, offset, size)
    assert caught.value.errno == errno.EINVAL
    assert events(Kind.REGION_READ)["error"].tolist() == [errno.EINVAL]
    assert client.read(BAR0, 0) == 0x4C555343


def test_a_write_whose_data_is_shorter_than_its_count_is_invalid(client: Client) -> None:
    with pytest.raises(OSError, match="REGION_WRITE") as caught:
        client.call(Command.REGION_WRITE, RegionAccess(BAR0, MARK, 8, b"abcd").encode())
    assert caught.value.errno == errno.EINVAL


def test_a_sleeping_function_answers_config_space_only(
    client: Client, server: EndpointServer, events: Events
) -> None:
    client.write(BAR0, MARK, 5)
    server.port.set_gate(Gate.POWER_STATE)

    client.write(BAR0, MARK, 6)
    asleep = client.read(BAR0, MARK), client.read(BAR0, SEQUENCE, 8), client.read(CONFIG, 0) & 0xFFFF
    server.port.set_gate(Gate(0))

    assert asleep == (0xFFFFFFFF, 2**64 - 1, 0x1DE5)
    assert client.read(BAR0, MARK) == 5
    refused = [e for e in events(Kind.REGION_WRITE) if e["flags"] & Flag.BLOCKED]
    assert [(e["value"], e["error"]) for e in refused] == [(6, Gate.POWER_STATE)]


class Faulty(StreamEndpoint):
    """A model whose author made a mistake."""

    @on_write(Control)
    def control_written(self, write: Write) -> None:
        raise ZeroDivisionError("the author's mistake")


def test_a_models_mistake_is_an_io_error_for_the_guest_and_the_server_lives_on(
    serve: Callable[[Function], EndpointServer], events: Events
) -> None:
    server = serve(Faulty())
    with Client(server.socket_path) as client:
        with pytest.raises(OSError, match="REGION_WRITE") as caught:
            client.write(BAR0, CONTROL, 1)
        assert client.read(BAR0, 0) == 0x4C555343
    assert caught.value.errno == errno.EIO
    assert [type(error) for error in server.model_errors] == [ZeroDivisionError]
    assert errno.EIO in events(Kind.REGION_WRITE)["error"]


class Overriding(StreamEndpoint):
    """A model that has accesses of its own, for whole regions."""

    def region_read(self, region: int, offset: int, size: int) -> int:
        return 0x1234_5678_9ABC if region == BAR0 else super().region_read(region, offset, size)


def test_a_model_that_decides_every_access_of_a_region_is_asked(
    serve: Callable[[Function], EndpointServer],
) -> None:
    with Client(serve(Overriding()).socket_path) as client:
        assert client.read(BAR0, SEQUENCE) == 0x5678_9ABC
        assert client.read(BAR0, SEQUENCE, 2) == 0x9ABC


def test_a_client_that_touches_every_byte_of_what_a_model_decides_is_still_answered(
    serve: Callable[[Function], EndpointServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qemu_plugin.server.endpoint_server.ACCESSES_KEPT", 2)
    with Client(serve(StreamEndpoint()).socket_path) as client:
        for size in (1, 2, 4, 1, 2, 4):
            assert client.read(BAR0, SEQUENCE, size) == 1
