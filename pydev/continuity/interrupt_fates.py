# SPDX-License-Identifier: MIT
"""What became of each interrupt that an endpoint raised: facts of the record, vector by vector.

An interrupt that was held in the pending bits is told twice: when it was raised, and, with the number of the
latest one raised, when it was delivered (qemu_plugin/native/src/interrupt.c).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from pydev.continuity.evidence import Evidence
from pydev.recording.config import field_values
from pydev.recording.format import Flag, Gate, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout, Phase
from pydev.recording.timeline import Timeline

KINDS: Final = {0: "INTx", 1: "MSI", 2: "MSI-X"}
"""linux include/uapi/linux/vfio.h VFIO_PCI_*_IRQ_INDEX."""
CONTROL: Final = {1: "MSI_CONTROL", 2: "MSIX_CONTROL"}
_DATA_EVENTFD: Final = 1 << 2  # linux include/uapi/linux/vfio.h VFIO_IRQ_SET_DATA_EVENTFD
OBSTACLES: Final = (
    Gate.BUS_MASTER_OFF | Gate.POWER_STATE | Gate.IN_RESET | Gate.INTERRUPTS_OFF | Gate.FUNCTION_MASKED
)
"""What keeps an endpoint from sending a message."""


class Fate(StrEnum):
    """What became of one interrupt."""

    OUTGOING = "delivered to the outgoing kernel"
    AROUND = "delivered about the jump, to either kernel"
    STRAY = "sent to vectors of the outgoing kernel after the jump"
    INCOMING = "delivered to the incoming kernel"
    LOST = "lost"
    PENDING = "held pending"


@dataclass(frozen=True, slots=True)
class Told:
    """One INTERRUPT record."""

    t_ns: int
    region: int
    vector: int
    fate: Fate
    reasons: Gate
    """Of a lost one."""
    was_pending: bool
    """It was raised earlier, and held."""


@dataclass(frozen=True, slots=True)
class VectorFates:
    """All interrupts of one vector in a span."""

    region: int
    vector: int
    told: tuple[Told, ...]

    @property
    def raised(self) -> tuple[Told, ...]:
        """Those raised in the span, whatever became of them."""
        return tuple(one for one in self.told if not one.was_pending)

    @property
    def delivered_later(self) -> tuple[Told, ...]:
        """Deliveries of what was held pending: one for all of the vector that were."""
        return tuple(one for one in self.told if one.was_pending)

    def count(self, fate: Fate) -> int:
        """How many of those raised have this fate."""
        return sum(one.fate is fate for one in self.raised)

    @property
    def reasons(self) -> Gate:
        """Why some were lost."""
        found = Gate(0)
        for one in self.told:
            found |= one.reasons
        return found


def fates(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> tuple[VectorFates, ...]:
    """Every vector that was raised or delivered from frozen to the blackout's end."""
    found: dict[tuple[int, int], list[Told]] = {}
    for one in _told(evidence, function, blackout):
        found.setdefault((one.region, one.vector), []).append(one)
    return tuple(VectorFates(*key, tuple(told)) for key, told in sorted(found.items()))


def _told(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> list[Told]:
    timeline = evidence.timeline
    slots = timeline.of_kind(Kind.INTERRUPT, function.index)
    numbers = timeline.column("value", slots).astype(np.int64)
    latest = np.maximum.accumulate(np.concatenate(([0], numbers)))[:-1]
    was_pending = numbers <= latest
    times = timeline.t_ns[slots]
    inside = (times > blackout.begin.t_ns) & (times <= blackout.end_ns)
    slots, was_pending = slots[inside], was_pending[inside]
    names = ("t_ns", "region", "address", "flags", "error")
    columns = (timeline.column(name, slots).tolist() for name in names)
    taken = {region: takeover(timeline, function, region, blackout) for region in CONTROL}
    jump = blackout.phases.get("jump")
    found = []
    for t_ns, region, vector, flags, error, is_again in zip(*columns, was_pending.tolist(), strict=True):
        reasons = Gate(error) if flags & Flag.BLOCKED else Gate(0)
        fate = _fate(t_ns, Flag(flags), jump, taken.get(region))
        found.append(Told(t_ns, region, vector, fate, reasons, is_again))
    return found


def _fate(t_ns: int, flags: Flag, jump: Phase | None, takeover_ns: int | None) -> Fate:
    """The jump is no earlier than where its phase begins: that is behind the outgoing kernel's last write."""
    if flags & Flag.BLOCKED:
        return Fate.LOST
    if flags & Flag.PENDING:
        return Fate.PENDING
    if jump is None or t_ns < jump.t_ns:
        return Fate.OUTGOING
    if t_ns <= jump.t_ns + jump.uncertainty_ns:
        return Fate.AROUND
    return Fate.INCOMING if takeover_ns is not None and t_ns > takeover_ns else Fate.STRAY


def takeover(timeline: Timeline, function: FunctionEntry, region: int, blackout: Blackout) -> int | None:
    """When the incoming kernel turned messages off that it had found on; the jump if they were off by then."""
    jump = blackout.phases.get("jump")
    history = timeline.history(function.index, CONTROL[region])
    entry = None if history is None else history.register.fields.get("enable")
    if jump is None or history is None or entry is None:
        return None
    if field_values(history.at(jump.t_ns), entry) == {0}:
        return jump.t_ns
    return next(
        (
            change.t_ns
            for change in history.between(jump.t_ns, blackout.end_ns)
            if field_values(change.after, entry) == {0}
        ),
        None,
    )


def vectors_set_up(timeline: Timeline, function: FunctionEntry, region: int, t_ns: int) -> tuple[int, ...]:
    """The vectors that have a file to be signalled by at a moment: unmasked once since they were enabled."""
    slots = timeline.of_kind(Kind.IRQ_SETUP, function.index)
    names = ("t_ns", "region", "address", "size", "value", "extra")
    rows = zip(*(timeline.column(name, slots).tolist() for name in names), strict=True)
    up: set[int] = set()
    for at_ns, index, first, count, flags, files in rows:
        if at_ns > t_ns or index != region:
            continue
        if not count:
            up.clear()
        elif files:
            up |= set(range(first, first + count))
        elif flags & _DATA_EVENTFD:
            up -= set(range(first, first + count))
    return tuple(sorted(up))


def pending(timeline: Timeline, function: FunctionEntry, region: int, t_ns: int) -> tuple[int, ...]:
    """The vectors in the pending bits at a moment."""
    slots = timeline.of_kind(Kind.INTERRUPT, function.index)
    names = ("t_ns", "region", "address", "flags")
    rows = zip(*(timeline.column(name, slots).tolist() for name in names), strict=True)
    held: set[int] = set()
    for at_ns, index, vector, flags in rows:
        if at_ns > t_ns or index != region:
            continue
        if flags & Flag.PENDING:
            held.add(vector)
        elif not flags & Flag.BLOCKED:
            held.discard(vector)
    return tuple(sorted(held))


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """A span in which an endpoint could send messages; half-open, in ns."""

    begin_ns: int
    end_ns: int
    closed_by: Gate
    """What ended it; 0 where the blackout did."""


def open_spans(
    timeline: Timeline, function: FunctionEntry, begin_ns: int, end_ns: int
) -> tuple[OpenSpan, ...] | None:
    """When nothing kept an endpoint from sending messages; a vector has to be set up besides. None: not known."""
    slots = timeline.of_kind(Kind.GATE, function.index)
    columns = (timeline.column(name, slots).tolist() for name in ("t_ns", "extra", "aux"))
    rows = list(zip(*columns, strict=True))
    if not rows:
        return None
    before = [after for t_ns, _, after in rows if t_ns <= begin_ns]
    gate = Gate(before[-1] if before else rows[0][1]) & OBSTACLES
    spans: list[OpenSpan] = []
    since = begin_ns
    for t_ns, _, after in rows:
        if not begin_ns < t_ns <= end_ns:
            continue
        next_gate = Gate(after) & OBSTACLES
        if not gate and next_gate:
            spans.append(OpenSpan(since, t_ns, next_gate))
        elif gate and not next_gate:
            since = t_ns
        gate = next_gate
    if not gate:
        spans.append(OpenSpan(since, end_ns, Gate(0)))
    return tuple(spans)
