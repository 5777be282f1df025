# SPDX-License-Identifier: MIT
import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt
import pytest

from pydev.ports import Gate
from pydev.recording.format import Flag, Kind
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client
from qemu_plugin.vfio_user.device import Irq, SetIrqs, SetIrqsFlag
from qemu_plugin.vfio_user.header import Command

Events = Callable[[Kind], npt.NDArray[Any]]
PBA = 0x3000
F = SetIrqsFlag


@pytest.fixture
def eventfds() -> Iterator[list[int]]:
    fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(4)]
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def port(server: EndpointServer, client: Client) -> Any:
    server.port.set_gate(Gate(0))
    return server.port


def count(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def outcomes(events: Events) -> list[tuple[int, int, int, int]]:
    """Vector, flags, reasons and the count of raised interrupts, of each record."""
    return [
        (int(e["address"]), int(e["flags"]), int(e["error"]), int(e["value"])) for e in events(Kind.INTERRUPT)
    ]


def test_a_raised_vector_signals_its_own_eventfd_once(
    client: Client, port: Any, eventfds: list[int], events: Events
) -> None:
    client.set_eventfds(Irq.MSIX, 0, eventfds)
    assert port.raise_interrupt(2)
    assert [count(fd) for fd in eventfds] == [0, 0, 1, 0]
    assert outcomes(events) == [(2, 0, 0, 1)]


@pytest.mark.parametrize("gate", [Gate.INTERRUPTS_OFF, Gate.BUS_MASTER_OFF, Gate.POWER_STATE, Gate.IN_RESET])
def test_an_interrupt_without_a_message_is_lost_and_recorded_with_the_reason(
    client: Client, port: Any, eventfds: list[int], events: Events, gate: Gate
) -> None:
    client.set_eventfds(Irq.MSIX, 0, eventfds)
    port.set_gate(gate)
    assert not port.raise_interrupt(1)
    port.set_gate(Gate(0))
    assert [count(fd) for fd in eventfds] == [0] * 4
    assert outcomes(events) == [(1, Flag.BLOCKED, int(gate), 1)]
    assert client.read(0, PBA, 8) == 0


def test_a_function_masked_interrupt_is_pending_until_the_mask_goes(
    client: Client, port: Any, eventfds: list[int], events: Events
) -> None:
    client.set_eventfds(Irq.MSIX, 0, eventfds)
    port.set_gate(Gate.FUNCTION_MASKED)
    assert not port.raise_interrupt(3)
    assert not port.raise_interrupt(3)
    pending = client.read(0, PBA, 8)
    silent = count(eventfds[3])

    port.set_gate(Gate(0))

    assert (pending, silent) == (1 << 3, 0)
    assert count(eventfds[3]) == 1
    assert client.read(0, PBA, 8) == 0
    masked = int(Gate.FUNCTION_MASKED)
    assert outcomes(events) == [(3, Flag.PENDING, masked, 1), (3, Flag.PENDING, masked, 2), (3, 0, 0, 2)]


def test_a_vector_without_an_eventfd_is_pending_until_it_has_one(
    client: Client, port: Any, eventfds: list[int]
) -> None:
    """QEMU enables MSI-X without any fd, and gives each vector its own at the first unmask."""
    client.call(Command.DEVICE_SET_IRQS, SetIrqs(F.DATA_EVENTFD | F.ACTION_TRIGGER, Irq.MSIX, 0, 1).encode())
    assert not port.raise_interrupt(0)
    assert client.read(0, PBA, 8) == 1

    client.set_eventfds(Irq.MSIX, 0, eventfds[:1])

    assert count(eventfds[0]) == 1
    assert client.read(0, PBA, 8) == 0


def test_pending_interrupts_stay_while_another_gate_is_shut(
    client: Client, port: Any, eventfds: list[int]
) -> None:
    client.set_eventfds(Irq.MSIX, 0, eventfds)
    port.set_gate(Gate.FUNCTION_MASKED)
    port.raise_interrupt(0)
    port.set_gate(Gate.BUS_MASTER_OFF)
    assert count(eventfds[0]) == 0
    port.set_gate(Gate(0))
    assert count(eventfds[0]) == 1


def test_a_vector_that_does_not_exist_is_not_raised(port: Any, events: Events) -> None:
    assert not port.raise_interrupt(4)
    assert not events(Kind.INTERRUPT).size


def test_disabling_an_index_takes_every_eventfd_of_it(
    client: Client, server: EndpointServer, port: Any, eventfds: list[int], events: Events
) -> None:
    client.set_eventfds(Irq.MSIX, 0, eventfds)
    client.set_eventfds(Irq.ERR, 0, eventfds[:1])
    client.disable_irqs(Irq.MSIX)
    assert server.engine.counts().eventfds == 1
    setups = events(Kind.IRQ_SETUP)
    assert setups["extra"].tolist() == [4, 1, 0]
    assert setups["region"].tolist() == [Irq.MSIX, Irq.ERR, Irq.MSIX]


def test_a_client_may_trigger_vectors_itself_and_it_is_no_device_interrupt(
    client: Client, port: Any, eventfds: list[int], events: Events
) -> None:
    client.set_eventfds(Irq.MSIX, 0, eventfds)
    none = SetIrqs(F.DATA_NONE | F.ACTION_TRIGGER, Irq.MSIX, 1, 2)
    some = SetIrqs(F.DATA_BOOL | F.ACTION_TRIGGER, Irq.MSIX, 1, 3, b"\0\1\1")
    client.call(Command.DEVICE_SET_IRQS, none.encode())
    client.call(Command.DEVICE_SET_IRQS, some.encode())
    assert [count(fd) for fd in eventfds] == [0, 1, 2, 1]
    assert not events(Kind.INTERRUPT).size


def test_eventfds_replaced_or_given_in_part_leave_the_others(
    client: Client, server: EndpointServer, port: Any, eventfds: list[int]
) -> None:
    client.set_eventfds(Irq.MSIX, 0, eventfds[:2])
    client.set_eventfds(Irq.MSIX, 1, eventfds[2:3])
    port.raise_interrupt(0)
    port.raise_interrupt(1)
    assert [count(fd) for fd in eventfds] == [1, 0, 1, 0]
    assert server.engine.counts().eventfds == 2


@pytest.mark.parametrize(
    "message",
    [
        SetIrqs(F.DATA_NONE | F.ACTION_TRIGGER, 5),
        SetIrqs(F.DATA_NONE | F.ACTION_TRIGGER, Irq.MSIX, 4, 1),
        SetIrqs(F.DATA_NONE | F.ACTION_TRIGGER, Irq.MSIX, 1, 2**32 - 1),
        SetIrqs(F.DATA_NONE | F.ACTION_TRIGGER, Irq.MSIX, 2**32 - 1, 2),
        SetIrqs(F.DATA_NONE | F.ACTION_TRIGGER, Irq.MSIX, 1, 0),
        SetIrqs(F.DATA_NONE | F.DATA_BOOL | F.ACTION_TRIGGER, Irq.MSIX, 0, 1, b"\1"),
        SetIrqs(F.DATA_NONE | F.ACTION_TRIGGER | F.ACTION_MASK, Irq.MSIX, 0, 1),
        SetIrqs(F.DATA_NONE, Irq.MSIX, 0, 1),
        SetIrqs(F.ACTION_TRIGGER, Irq.MSIX, 0, 1),
        SetIrqs(F(64) | F.DATA_NONE | F.ACTION_TRIGGER, Irq.MSIX, 0, 1),
        SetIrqs(F.DATA_BOOL | F.ACTION_TRIGGER, Irq.MSIX, 0, 3, b"\1"),
        SetIrqs(F.DATA_EVENTFD | F.ACTION_TRIGGER, Irq.MSIX, 0, 0),
        SetIrqs(F.DATA_NONE | F.ACTION_MASK, Irq.MSIX, 0, 1),
        SetIrqs(F.DATA_EVENTFD | F.ACTION_UNMASK, Irq.MSIX, 0, 1),
    ],
)
def test_a_set_irqs_that_makes_no_sense_is_invalid(client: Client, message: SetIrqs) -> None:
    with pytest.raises(OSError, match="SET_IRQS") as caught:
        client.call(Command.DEVICE_SET_IRQS, message.encode())
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("given", [1, 3, 4])
def test_another_number_of_eventfds_than_vectors_is_invalid_and_keeps_none(
    client: Client, server: EndpointServer, eventfds: list[int], given: int
) -> None:
    message = SetIrqs(F.DATA_EVENTFD | F.ACTION_TRIGGER, Irq.MSIX, 0, 2)
    with pytest.raises(OSError, match="SET_IRQS"):
        client.call(Command.DEVICE_SET_IRQS, message.encode(), eventfds[:given])
    assert server.engine.counts().eventfds == 0


def test_a_file_that_would_block_cannot_stop_the_server(client: Client, port: Any) -> None:
    reader, writer = os.pipe()
    try:
        client.set_eventfds(Irq.MSIX, 0, [writer])
        for _ in range(20_000):
            port.raise_interrupt(0)
    finally:
        os.close(reader)
        os.close(writer)
    assert client.read(0, 0) == 0x4C555343
