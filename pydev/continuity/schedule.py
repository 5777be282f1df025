# SPDX-License-Identifier: MIT
"""Whether each stream did what its program says: these pages, these numbers, this period, these checksums.

The engine is the bench's own: where its transactions are not those of its program, one of them, or the record of
the program, is missing or was altered. What the guest made of the stream is not judged here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pydev.endpoints.payload import PAGE_BYTES, SLOT_BYTES, SLOTS_PER_PAGE, slot_checksums
from pydev.recording.format import Flag, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.timeline import Slots, Timeline

MSIX_INDEX: Final = 2  # linux include/uapi/linux/vfio.h VFIO_PCI_MSIX_IRQ_INDEX
_PIECE: Final = 1 << 18
_COLUMNS: Final = ("t_ns", "address", "size", "value", "extra", "aux")


@dataclass(frozen=True, slots=True)
class Program:
    """One start of an engine: what it was to do, and where in the recording it did."""

    engine: int
    begin_slot: int
    end_slot: int
    """Of its stop; the record's end where there is none."""
    begin_ns: int
    period_ns: int
    first_sequence: int
    next_sequence: int | None
    """When it was stopped."""
    pages: tuple[int, ...]
    """Addresses, in ring order."""


def schedule_problems(timeline: Timeline, function: FunctionEntry) -> Iterator[str]:
    """Every contradiction between an endpoint's streams and their programs."""
    problems: list[str] = []
    programs = _programs(timeline, function, problems)
    yield from problems
    writes = timeline.transactions(Kind.DMA_WRITE, function.index)
    is_stream = (writes.flags & np.uint16(int(Flag.STREAM))) != 0
    is_programmed = np.zeros(len(writes.slots), dtype=np.bool_)
    for program in programs:
        own = is_stream & (writes.engine == program.engine)
        first, last = np.searchsorted(writes.slots, (program.begin_slot, program.end_slot))
        own[:first] = own[last:] = False
        is_programmed |= own
        yield from _transactions(timeline, program, writes.slots[own])
        yield from _rhythm(timeline, function, program)
    astray = int((is_stream & ~is_programmed).sum())
    if astray:
        yield f"{astray} transactions of a stream that was not running"


def _programs(timeline: Timeline, function: FunctionEntry, problems: list[str]) -> list[Program]:
    slots = timeline.of_kind(Kind.ENGINE, function.index)
    names = ("region", "value", "t_ns", "extra", "size", "aux", "address")
    rows = list(zip(slots.tolist(), *(c.tolist() for c in timeline.columns(names, slots)), strict=True))
    found = []
    for engine in sorted({row[1] for row in rows}):
        own = [row for row in rows if row[1] == engine]
        if [row[2] for row in own] != [1 - at % 2 for at in range(len(own))]:
            problems.append(f"engine {engine} was not started and stopped in turn")
        for at, (slot, _, value, t_ns, period_ns, count, sequence, first_page) in enumerate(own):
            if value != 1:
                continue
            stop = own[at + 1] if at + 1 < len(own) else None
            end_slot = len(timeline.records) if stop is None else stop[0]
            pages = _pages(timeline, function, engine, slot, end_slot)
            if pages is None or pages[:1] != (first_page,) or len(pages) * SLOTS_PER_PAGE != count:
                problems.append(f"the pages of engine {engine} are not those of its ring of {count} slots")
                continue
            if stop is not None and (stop[4], stop[5], stop[7]) != (period_ns, count, first_page):
                problems.append(f"engine {engine} was stopped with another program than it was started with")
            next_sequence = None if stop is None else stop[6]
            found.append(Program(engine, slot, end_slot, t_ns, period_ns, sequence, next_sequence, pages))
    return found


def _pages(
    timeline: Timeline, function: FunctionEntry, engine: int, begin_slot: int, end_slot: int
) -> tuple[int, ...] | None:
    """The ring's pages, as the records after a start list them; None where these are not a list of whole pages."""
    slots = timeline.of_kind(Kind.ENGINE_PAGE, function.index)
    slots = slots[(slots > begin_slot) & (slots < end_slot)]
    region, number, size, address = timeline.columns(("region", "value", "size", "address"), slots)
    own = region == engine
    if not np.array_equal(number[own], np.arange(own.sum())) or (size[own] != PAGE_BYTES).any():
        return None
    return tuple(address[own].tolist())


def _transactions(timeline: Timeline, program: Program, slots: Slots) -> Iterator[str]:
    """A program's transactions against what it says of each."""
    name = f"engine {program.engine}"
    due, generation = program.first_sequence, None
    for begin in range(0, len(slots), _PIECE):
        t_ns, address, size, value, extra, aux = timeline.columns(_COLUMNS, slots[begin : begin + _PIECE])
        expected = np.arange(due, due + len(value), dtype=np.uint64)
        if (value != expected).any():
            yield f"the transactions of {name} are not numbered one by one from {program.first_sequence}"
            return
        due += len(value)
        generation = extra[0] if generation is None else generation
        if (
            (address != _addresses(program, value)).any()
            or (size != SLOT_BYTES).any()
            or (extra != generation).any()
        ):
            yield f"transactions of {name} are not those of its program: other slots, sizes or generations"
            return
        if (t_ns < _due_ns(program, value)).any():
            yield f"a transaction of {name} came before it was due"
            return
        if (slot_checksums(t_ns, extra, address, value, len(program.pages) * SLOTS_PER_PAGE) != aux).any():
            yield f"a transaction of {name} has another checksum than its slot"
            return
    if program.next_sequence not in (None, due):
        yield f"{name} was stopped before number {program.next_sequence}, and number {due} was due"


def _addresses(program: Program, sequence: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    pages = np.array(program.pages, dtype=np.uint64)
    slot = (sequence - np.uint64(1)) % np.uint64(len(pages) * SLOTS_PER_PAGE)
    inside: npt.NDArray[np.uint64] = slot % np.uint64(SLOTS_PER_PAGE) * np.uint64(SLOT_BYTES)
    return pages[(slot // np.uint64(SLOTS_PER_PAGE)).astype(np.intp)] + inside


def _due_ns(program: Program, sequence: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    since: npt.NDArray[np.uint64] = (sequence - np.uint64(program.first_sequence)) * np.uint64(
        program.period_ns
    )
    return since + np.uint64(program.begin_ns)


def _rhythm(timeline: Timeline, function: FunctionEntry, program: Program) -> Iterator[str]:
    """After every so many slots a stream reads its mailbox and then raises its interrupt, if it has one."""
    name = f"engine {program.engine}"
    reads = timeline.transactions(Kind.DMA_READ, function.index)
    is_own = ((reads.flags & np.uint16(int(Flag.STREAM))) != 0) & (reads.engine == program.engine)
    own = _during(program, reads.slots[is_own])
    after = _numbers_before(timeline, function, own)
    if len(after) < 2:
        return
    step = int(np.diff(after).min())
    wanted = (
        np.arange(-(-program.first_sequence // step) * step, after[-1] + 1, step) if step > 0 else after[:0]
    )
    address, size = timeline.columns(("address", "size"), own)
    if not np.array_equal(after, wanted) or (address != address[0]).any() or (size != size[0]).any():
        yield f"{name} did not read its mailbox after every so many slots, or not always the same"
        return
    raised = timeline.of_kind(Kind.INTERRUPT, function.index)
    raised = _during(program, raised[timeline.column("region", raised) == MSIX_INDEX])
    vectors = timeline.column("address", raised)
    for vector in np.unique(vectors).tolist():
        found = np.isin(after, _numbers_before(timeline, function, raised[vectors == vector]))
        # Most of them: the stream's own vector. Anything else is raised by its model.
        if 2 * int(found.sum()) > len(after) and not found.all():
            yield f"{name} raised vector {vector} not after every so many slots"


def _during(program: Program, slots: Slots) -> Slots:
    return slots[(slots > program.begin_slot) & (slots < program.end_slot)]


def _numbers_before(timeline: Timeline, function: FunctionEntry, slots: Slots) -> npt.NDArray[np.int64]:
    """The number of the stream's transaction that precedes each of some events."""
    writes = timeline.transactions(Kind.DMA_WRITE, function.index)
    before = np.maximum(np.searchsorted(writes.slots, slots) - 1, 0)
    return writes.value[before].view(np.int64) if len(writes.slots) else np.zeros(len(slots), dtype=np.int64)
