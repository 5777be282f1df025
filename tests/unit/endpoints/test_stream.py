# SPDX-License-Identifier: MIT
import subprocess
import sys

import numpy as np
import pytest

from pydev.endpoints.payload import PAGE_BYTES, SLOTS_PER_PAGE, is_whole
from pydev.endpoints.stream import StreamEndpoint, ring_words, slot_bytes, slot_iova
from pydev.endpoints.stream_registers import (
    Blocked,
    Control,
    Doorbell,
    Generation,
    InterruptEvery,
    Interrupts,
    Mailbox,
    MailboxValue,
    PageCount,
    PageTable,
    PeriodNs,
    Sequence,
    Status,
    Vector,
    Written,
)
from pydev.pci.header import Command
from pydev.pci.power_management import PowerState
from pydev.ports import Gate, ResetKind
from pydev.testkit import Bench, Transaction
from pydev.units import Iova

RING = (0x10_0000, 0x30_0000)
MAILBOX = 0x50_0000
PERIOD_NS = 10_000


@pytest.fixture
def bench() -> Bench[StreamEndpoint]:
    made = Bench(StreamEndpoint())
    made.enable()
    for index, page in enumerate(RING):
        made.memory.map(page, PAGE_BYTES)
        made.write(PageTable, page, index)
    made.memory.map(MAILBOX, PAGE_BYTES)
    made.write(PageCount, len(RING))
    made.write(PeriodNs, PERIOD_NS)
    made.write(Generation, 7)
    return made


def start(bench: Bench[StreamEndpoint], **fields: int) -> None:
    bench.write(Control, Control.compose(run=1, **fields))


def writes(bench: Bench[StreamEndpoint]) -> list[Transaction]:
    return [transaction for transaction in bench.port.transactions if transaction.is_write]


def ring_memory(bench: Bench[StreamEndpoint]) -> bytes:
    return b"".join(bench.memory.read(page, PAGE_BYTES) or b"" for page in RING)


# -- payload --------------------------------------------------------------------------------------------


def test_a_slot_has_its_eight_words_in_place() -> None:
    slot = slot_bytes(0x1111, generation=2, engine=3, slot=4, iova=0x5000, sequence=6)
    words = [int.from_bytes(slot[at : at + 8], "little") for at in range(0, 64, 8)]

    assert words[:4] == [0x1111, 2 | 3 << 32, 4, 0x5000]
    assert words[4] == 6 * 0x9E3779B97F4A7C15 % 2**64
    assert words[5] == 2**64 - 1 - 6
    assert words[6] == words[0] ^ words[1] ^ words[2] ^ words[3] ^ words[4] ^ words[5]
    assert words[7] == 6


@pytest.mark.parametrize("byte", range(64))
def test_a_slot_with_one_wrong_byte_is_not_whole(byte: int) -> None:
    slot = bytearray(slot_bytes(1, generation=2, engine=0, slot=4, iova=0x5000, sequence=6))
    assert is_whole(bytes(slot))

    slot[byte] ^= 0x10

    assert not is_whole(bytes(slot))


def test_memory_that_was_never_written_is_no_slot() -> None:
    assert not is_whole(bytes(64))


def test_slots_run_through_the_pages_in_order() -> None:
    pages = [Iova(0x1000), Iova(0x9000)]

    assert [slot_iova(pages, slot) for slot in (0, 1, 63, 64)] == [0x1000, 0x1040, 0x1FC0, 0x9000]


@pytest.mark.parametrize("count", [1, 5, 128, 300])
def test_the_ring_is_rebuilt_from_the_record_alone(bench: Bench[StreamEndpoint], count: int) -> None:
    start(bench)
    bench.time.advance((count - 1) * PERIOD_NS)
    record = [transaction for transaction in writes(bench) if not transaction.is_blocked]

    ring = ring_words(
        np.array([t.t_ns for t in record], dtype=np.uint64),
        np.full(len(record), 7, dtype=np.uint64),
        np.array([t.iova for t in record], dtype=np.uint64),
        np.array([t.sequence for t in record], dtype=np.uint64),
        len(RING) * SLOTS_PER_PAGE,
    )

    assert len(record) == count
    assert ring.astype("<u8").tobytes() == ring_memory(bench)


# -- running --------------------------------------------------------------------------------------------


def test_slots_are_written_on_the_grid_of_the_period(bench: Bench[StreamEndpoint]) -> None:
    start_ns = bench.time.now_ns()
    start(bench)
    bench.time.advance(3 * PERIOD_NS)

    assert [(t.sequence, t.t_ns - start_ns) for t in writes(bench)] == [
        (1, 0),
        (2, PERIOD_NS),
        (3, 2 * PERIOD_NS),
        (4, 3 * PERIOD_NS),
    ]
    assert bench.read(Status) == Status.compose(running=1)
    assert (bench.read(Sequence), bench.read(Written), bench.read(Blocked)) == (5, 4, 0)


def test_clearing_bus_master_blocks_slots_and_does_not_stop_the_stream(bench: Bench[StreamEndpoint]) -> None:
    start(bench)
    bench.time.advance(PERIOD_NS)
    bench.write(Command.bus_master, 0)
    bench.time.advance(2 * PERIOD_NS)
    bench.write(Command.bus_master, 1)
    bench.time.advance(PERIOD_NS)

    assert [(t.sequence, t.reasons) for t in writes(bench)] == [
        (1, Gate(0)),
        (2, Gate(0)),
        (3, Gate.BUS_MASTER_OFF),
        (4, Gate.BUS_MASTER_OFF),
        (5, Gate(0)),
    ]
    assert bench.read(Status.running.register) == Status.compose(running=1)
    assert (bench.read(Written), bench.read(Blocked)) == (3, 2)


def test_stopping_and_starting_continues_the_sequence(bench: Bench[StreamEndpoint]) -> None:
    start(bench)
    bench.time.advance(PERIOD_NS)
    bench.write(Control, 0)
    bench.time.advance(10 * PERIOD_NS)
    assert (bench.read(Status), bench.read(Sequence)) == (0, 3)

    start(bench)
    bench.time.advance(0)

    assert [t.sequence for t in writes(bench)] == [1, 2, 3]
    assert bench.read(Written) == 3


def test_writing_run_again_does_not_disturb_a_running_stream(bench: Bench[StreamEndpoint]) -> None:
    start(bench)
    bench.time.advance(PERIOD_NS // 2)
    start(bench)
    bench.time.advance(PERIOD_NS // 2)

    assert [t.sequence for t in writes(bench)] == [1, 2]


@pytest.mark.parametrize("how", ["flr", "device", "d3hot"])
def test_a_reset_stops_the_stream_and_numbers_anew(bench: Bench[StreamEndpoint], how: str) -> None:
    start(bench)
    bench.time.advance(PERIOD_NS)
    if how == "flr":
        bench.function_level_reset()
    elif how == "device":
        bench.endpoint.reset(ResetKind.DEVICE)
    else:
        bench.set_power_state(PowerState.D3HOT)
        bench.set_power_state(PowerState.D0)
    count = len(bench.port.transactions)
    bench.time.advance(5 * PERIOD_NS)

    assert len(bench.port.transactions) == count
    assert (bench.read(Sequence), bench.read(Generation), bench.read(Status)) == (1, 0, 0)
    assert (bench.read(Written), bench.read(PageCount), bench.read(PeriodNs)) == (0, 0, 100_000)


def test_an_interrupt_follows_every_so_many_slots(bench: Bench[StreamEndpoint]) -> None:
    bench.write(InterruptEvery, 3)
    bench.write(Vector, 2)
    start(bench, interrupt_enable=1)
    bench.time.advance(6 * PERIOD_NS)

    assert [interrupt.vector for interrupt in bench.port.interrupts] == [2, 2]
    assert bench.read(Interrupts) == 2


def test_without_interrupt_enable_there_are_none(bench: Bench[StreamEndpoint]) -> None:
    bench.write(InterruptEvery, 1)
    start(bench)
    bench.time.advance(6 * PERIOD_NS)

    assert bench.port.interrupts == []


def test_enabling_interrupts_on_the_way_keeps_the_numbers(bench: Bench[StreamEndpoint]) -> None:
    bench.write(InterruptEvery, 2)
    start(bench)
    bench.time.advance(2 * PERIOD_NS)
    start(bench, interrupt_enable=1)
    bench.time.advance(PERIOD_NS)

    assert [t.sequence for t in writes(bench)] == [1, 2, 3, 4, 5]
    assert len(bench.port.interrupts) == 1


def test_the_mailbox_is_read_just_before_the_interrupt(bench: Bench[StreamEndpoint]) -> None:
    bench.memory.write(MAILBOX, (0xABCD).to_bytes(8, "little"))
    bench.write(Mailbox, MAILBOX)
    bench.write(InterruptEvery, 2)
    start(bench, interrupt_enable=1)
    bench.time.advance(PERIOD_NS)

    assert [(t.is_write, t.iova) for t in bench.port.transactions[-2:]] == [
        (True, RING[0] + 64),
        (False, MAILBOX),
    ]
    assert bench.read(MailboxValue) == 0xABCD


def test_without_interrupts_the_mailbox_is_read_every_64_slots(bench: Bench[StreamEndpoint]) -> None:
    bench.write(Mailbox, MAILBOX)
    start(bench)
    bench.time.advance(130 * PERIOD_NS)

    assert sum(not t.is_write for t in bench.port.transactions) == 2


@pytest.mark.parametrize(
    ("what", "value"),
    [("page count 0", 0), ("page count 513", 513), ("period", 999), ("page", 0x10_0800), ("mailbox", 4)],
)
def test_senseless_programming_is_refused_with_the_error_bit(
    bench: Bench[StreamEndpoint], what: str, value: int
) -> None:
    register = {"page count": PageCount, "period": PeriodNs, "page": PageTable, "mailbox": Mailbox}
    bench.write(register[what.rstrip(" 0513")], value)

    start(bench)
    bench.time.advance(PERIOD_NS)

    assert bench.read(Status) == Status.compose(error=1)
    assert bench.read(Control) == 0
    assert bench.port.transactions == []


def test_the_error_bit_goes_away_with_a_good_start(bench: Bench[StreamEndpoint]) -> None:
    bench.write(PageCount, 0)
    start(bench)
    bench.write(PageCount, 1)
    start(bench)

    assert bench.read(Status) == Status.compose(running=1)


def test_the_doorbell_raises_the_written_vector_once(bench: Bench[StreamEndpoint]) -> None:
    bench.write(Doorbell, 3)
    bench.write(Doorbell, 4)

    assert [interrupt.vector for interrupt in bench.port.interrupts] == [3]
    assert bench.read(Doorbell) == 0


def test_a_64_bit_counter_read_as_two_dwords_is_one_value(bench: Bench[StreamEndpoint]) -> None:
    start(bench)
    low = bench.endpoint.region_read(0, 0x30, 4)
    bench.time.advance(10 * PERIOD_NS)
    high = bench.endpoint.region_read(0, 0x34, 4)

    assert (high << 32 | low) == 1


def test_the_description_has_the_geometry_of_the_stream() -> None:
    described = StreamEndpoint().describe()

    assert described["stream"]["slot_bytes"] == 64
    assert described["bars"] == {"0": 16384}
    assert described["msix"] == {"vectors": 4, "table": [0, 0x2000], "pba": [0, 0x3000]}
    assert described["config"].startswith("e51d554c0000")
    table = {register["name"]: register for register in described["bar_registers"]["0"]}
    assert (table["PAGE_TABLE"]["offset"], table["PAGE_TABLE"]["count"]) == (0x1000, 512)


def test_an_endpoint_is_built_without_numpy() -> None:
    script = "import sys, pydev.endpoints as e; e.load('stream')(); sys.exit('numpy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
