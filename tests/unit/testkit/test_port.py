# SPDX-License-Identifier: MIT
import pytest

from pydev.ports import Gate, StreamProgram, UpstreamPort
from pydev.testkit import FakePort, ManualTime, Memory
from pydev.units import Iova

AT = Iova(0x1000)


@pytest.fixture
def port() -> FakePort:
    memory = Memory()
    memory.map(AT, 0x1000)
    made = FakePort(ManualTime(), memory)
    made.set_gate(Gate(0))
    return made


def test_it_is_an_upstream_port(port: FakePort) -> None:
    upstream: UpstreamPort = port

    assert upstream.dma_write(AT, b"x")


@pytest.mark.parametrize("reason", [Gate.BUS_MASTER_OFF, Gate.POWER_STATE, Gate.IN_RESET, Gate.NO_CLIENT])
def test_each_dma_reason_refuses_and_is_remembered(port: FakePort, reason: Gate) -> None:
    port.set_gate(reason)

    assert not port.dma_write(AT, b"x")
    assert port.dma_read(AT, 1) is None
    assert [t.reasons for t in port.transactions] == [reason, reason]
    assert port.memory.read(AT, 1) == b"\0"


@pytest.mark.parametrize("reason", [Gate.INTERRUPTS_OFF, Gate.FUNCTION_MASKED])
def test_interrupt_reasons_do_not_refuse_dma(port: FakePort, reason: Gate) -> None:
    port.set_gate(reason)

    assert port.dma_write(AT, b"x")


def test_an_unmapped_address_is_a_fault_and_not_blocked(port: FakePort) -> None:
    assert not port.dma_write(Iova(0x9000), b"x")
    assert (port.transactions[0].is_fault, port.transactions[0].is_blocked) == (True, False)


@pytest.mark.parametrize("reason", [Gate.BUS_MASTER_OFF, Gate.POWER_STATE, Gate.INTERRUPTS_OFF])
def test_an_interrupt_without_a_message_is_lost(port: FakePort, reason: Gate) -> None:
    port.set_gate(reason)

    assert not port.raise_interrupt(1)
    assert port.interrupts[0].reasons == reason


def test_a_masked_interrupt_is_pending_until_the_mask_goes(port: FakePort) -> None:
    told: list[tuple[int, bool]] = []
    port = FakePort(port.time, port.memory, lambda vector, is_pending: told.append((vector, is_pending)))
    port.set_gate(Gate.FUNCTION_MASKED)

    assert not port.raise_interrupt(2)
    assert port.interrupts[0].is_pending
    port.set_gate(Gate(0))

    assert told == [(2, True), (2, False)]
    assert port.interrupts[1].is_sent


def test_gate_changes_are_remembered_with_both_sides(port: FakePort) -> None:
    port.set_gate(Gate.BUS_MASTER_OFF)
    port.set_gate(Gate.BUS_MASTER_OFF)

    assert [(c.before, c.after) for c in port.gate_changes][1:] == [(Gate(0), Gate.BUS_MASTER_OFF)]


def test_a_stopped_stream_writes_nothing_more(port: FakePort) -> None:
    stream = port.stream(StreamProgram(engine=0, pages=(AT,), period_ns=1000, generation=1, first_sequence=5))
    stream.start()
    port.time.advance(2000)
    stream.stop()
    port.time.advance(2000)

    assert [t.sequence for t in port.transactions] == [5, 6, 7]
    assert (stream.is_running, stream.status().next_sequence) == (False, 8)
