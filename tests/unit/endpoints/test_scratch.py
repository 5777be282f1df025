# SPDX-License-Identifier: MIT
import pytest

from pydev.endpoints.scratch import (
    COPY_BYTES,
    Destination,
    Doorbell,
    Scratch,
    ScratchEndpoint,
    Source,
    Status,
)
from pydev.pci.header import Command
from pydev.testkit import Bench

FROM, TO = 0x1000, 0x2000


@pytest.fixture
def bench() -> Bench[ScratchEndpoint]:
    made = Bench(ScratchEndpoint())
    made.enable()
    made.memory.map(FROM, 0x100)
    made.memory.map(TO, 0x100)
    made.memory.write(FROM, bytes(range(100)))
    made.write(Source, FROM)
    made.write(Destination, TO)
    return made


def test_the_scratch_register_holds_what_was_written(bench: Bench[ScratchEndpoint]) -> None:
    bench.write(Scratch, 0xC0FFEE)

    assert bench.read(Scratch) == 0xC0FFEE


def test_the_doorbell_copies_64_bytes_and_then_interrupts(bench: Bench[ScratchEndpoint]) -> None:
    bench.write(Doorbell, 1)

    assert bench.memory.read(TO, COPY_BYTES + 1) == bytes(range(COPY_BYTES)) + b"\0"
    assert bench.read(Status) == Status.compose(done=1)
    assert [interrupt.is_sent for interrupt in bench.port.interrupts] == [True]


def test_status_is_cleared_by_writing_ones(bench: Bench[ScratchEndpoint]) -> None:
    bench.write(Doorbell, 1)
    bench.write(Status, 0)
    assert bench.read(Status.done.register) == 1

    bench.write(Status, 1)

    assert bench.read(Status) == 0


def test_without_bus_mastering_nothing_is_copied_and_the_status_says_failed(
    bench: Bench[ScratchEndpoint],
) -> None:
    bench.write(Command.bus_master, 0)

    bench.write(Doorbell, 1)

    assert bench.memory.read(TO, COPY_BYTES) == bytes(COPY_BYTES)
    assert bench.read(Status) == Status.compose(failed=1)
    assert [interrupt.is_sent for interrupt in bench.port.interrupts] == [False]


def test_a_destination_that_does_not_exist_is_a_fault_and_no_exception(bench: Bench[ScratchEndpoint]) -> None:
    bench.write(Destination, 0xDEAD0000)

    bench.write(Doorbell, 1)

    assert bench.read(Status) == Status.compose(failed=1)
    assert bench.port.transactions[-1].is_fault
