# SPDX-License-Identifier: MIT
"""What the record says about each stream: when it ran, what it wrote, what was refused, how late it was.

Facts only; which of them are wrong is for `rules/dma.py` and `rules/integrity.py`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pydev.recording.event_index import Transactions
from pydev.recording.format import Flag, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Slots, Timeline


@dataclass(frozen=True, slots=True)
class Run:
    """A stream from one start to the stop after it."""

    engine: int
    begin_slot: int
    begin_ns: int
    end_ns: int | None
    """None: never stopped in this recording."""
    period_ns: int
    slot_count: int
    first_sequence: int


@dataclass(frozen=True)
class StreamFacts:
    """All stream writes of one engine of one function, in the order of their slots."""

    function: FunctionEntry
    engine: int
    runs: tuple[Run, ...]
    slots: Slots
    t_ns: npt.NDArray[np.int64]
    sequence: npt.NDArray[np.int64]
    is_blocked: npt.NDArray[np.bool_]
    error: npt.NDArray[np.uint16]

    def run_at(self, t_ns: int) -> Run | None:
        """The run that is under way at a moment."""
        for run in self.runs:
            if run.begin_ns <= t_ns and (run.end_ns is None or t_ns < run.end_ns):
                return run
        return None

    def lateness_ns(self, part: slice) -> int:
        """How long after it was due the latest of some transactions came; 0 where none was late or due."""
        latest = 0
        for number, run in enumerate(self.runs):
            after = self.runs[number + 1].begin_slot if number + 1 < len(self.runs) else None
            first = int(np.searchsorted(self.slots, run.begin_slot))
            last = len(self.slots) if after is None else int(np.searchsorted(self.slots, after))
            own = slice(max(first, part.start), min(last, part.stop))
            if own.start < own.stop:
                due = run.begin_ns + (self.sequence[own] - run.first_sequence) * run.period_ns
                latest = max(latest, int((self.t_ns[own] - due).max()))
        return latest

    def during(self, begin_ns: int, end_ns: int) -> slice:
        """The writes after one moment and not after another."""
        first, last = np.searchsorted(self.t_ns, [begin_ns, end_ns], side="right")
        return slice(int(first), int(last))

    def is_in_time_order(self) -> bool:
        """Whether the clock never went backwards from one write to the next."""
        return bool((self.t_ns[1:] >= self.t_ns[:-1]).all())


def stream_facts(timeline: Timeline, function: FunctionEntry) -> tuple[StreamFacts, ...]:
    """Each engine of a function that was started or that wrote."""
    return timeline.remember(("streams", function.index), lambda: _stream_facts(timeline, function))


def _stream_facts(timeline: Timeline, function: FunctionEntry) -> tuple[StreamFacts, ...]:
    writes = timeline.transactions(Kind.DMA_WRITE, function.index)
    is_stream = (writes.flags & np.uint16(int(Flag.STREAM))) != 0
    starts = timeline.of_kind(Kind.ENGINE, function.index)
    known = set(timeline.column("region", starts).tolist()) | _distinct(writes.engine[is_stream])
    return tuple(
        _facts(timeline, function, engine, writes, is_stream & (writes.engine == engine))
        for engine in sorted(known)
    )


def _distinct(engines: npt.NDArray[np.uint32]) -> set[int]:
    is_one = len(engines) > 0 and engines.min() == engines.max()
    return {int(engines[0])} if is_one else set(np.unique(engines).tolist())


def _facts(
    timeline: Timeline,
    function: FunctionEntry,
    engine: int,
    writes: Transactions,
    is_own: npt.NDArray[np.bool_],
) -> StreamFacts:
    """The facts of those of a function's writes that are this engine's."""
    own = slice(None) if is_own.all() else np.flatnonzero(is_own)  # of all, a view and no copy
    return StreamFacts(
        function=function,
        engine=engine,
        runs=_runs(timeline, function, engine),
        slots=writes.slots[own],
        t_ns=writes.t_ns[own].view(np.int64),
        sequence=writes.value[own].view(np.int64),
        is_blocked=writes.is_blocked[own],
        error=writes.error[own],
    )


def _runs(timeline: Timeline, function: FunctionEntry, engine: int) -> tuple[Run, ...]:
    slots = timeline.of_kind(Kind.ENGINE, function.index)
    slots = slots[timeline.column("region", slots) == engine]
    names = ("t_ns", "value", "extra", "size", "aux")
    rows = zip(slots.tolist(), *(timeline.column(name, slots).tolist() for name in names), strict=True)
    runs: list[Run] = []
    open_run: tuple[int, int, int, int, int] | None = None
    for slot, t_ns, value, period_ns, count, sequence in rows:
        if open_run is not None:  # stopped, or started anew without a stop
            runs.append(_run(engine, open_run, t_ns))
        open_run = (slot, t_ns, period_ns, count, sequence) if value else None
    if open_run is not None:
        runs.append(_run(engine, open_run, None))
    return tuple(runs)


def _run(engine: int, start: tuple[int, int, int, int, int], end_ns: int | None) -> Run:
    slot, t_ns, period_ns, count, sequence = start
    return Run(engine, slot, t_ns, end_ns, period_ns, count, sequence)


@dataclass(frozen=True, slots=True)
class Gap:
    """A span without a good transaction: from the last good one to the next."""

    begin_ns: int
    end_ns: int
    blocked: int
    """Transactions refused in between."""
    reasons: int
    """Why (Gate), of all of them."""
    first_blocked: int | None
    """Position in the stream's writes of the first that was refused."""

    @property
    def length_ns(self) -> int:
        """How long nothing reached memory."""
        return self.end_ns - self.begin_ns


def gaps(facts: StreamFacts, begin_ns: int, end_ns: int) -> tuple[Gap, ...]:
    """The spans between good transactions that touch the time from `begin_ns` to `end_ns`, longest first.

    The last ends with `end_ns` where no good transaction follows at all.
    """
    good = np.flatnonzero(~facts.is_blocked)
    times = facts.t_ns[good]
    first = max(int(np.searchsorted(times, begin_ns, side="right")) - 1, 0)
    last = int(np.searchsorted(times, end_ns, side="left")) + 1
    edges = times[first:last]
    positions = good[first:last]
    if not len(edges) or edges[0] > begin_ns:
        edges, positions = np.append(begin_ns, edges), np.append(-1, positions)
    if edges[-1] < end_ns:
        edges, positions = np.append(edges, end_ns), np.append(positions, len(facts.slots))
    counts = np.diff(positions) - 1  # whatever lies between two good transactions was refused
    lengths = np.diff(edges)
    # Every span with a refusal, and the longest of all.
    wanted = set(np.flatnonzero(counts).tolist()) | {int(np.argmax(lengths))} if len(lengths) else set()
    found = []
    for at in sorted(wanted, key=lambda n: -int(lengths[n])):
        inside = slice(int(positions[at]) + 1, int(positions[at + 1]))
        reasons = int(np.bitwise_or.reduce(facts.error[inside])) if counts[at] else 0
        first_blocked = inside.start if counts[at] else None
        found.append(Gap(int(edges[at]), int(edges[at + 1]), int(counts[at]), reasons, first_blocked))
    return tuple(found)


def examined_span(blackout: Blackout, ordered_stops_ns: tuple[int, ...]) -> tuple[int, int]:
    """The part of a blackout in which a stream has to go on: until the host itself had it stopped.

    `ordered_stops_ns` are the host's commands that stop this function's stream. Only one in the incoming
    kernel counts: nobody orders a stop between `frozen` and `updated`.
    """
    updated = blackout.start_of("updated")
    end_ns = blackout.end_ns
    if updated is not None:
        for ordered in ordered_stops_ns:
            if updated <= ordered < end_ns:
                end_ns = ordered
    return blackout.begin.t_ns, end_ns
