# SPDX-License-Identifier: MIT
"""What an endpoint sent upstream that reached memory or an interrupt controller: DMA, and messages."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pydev.continuity.evidence import Evidence
from pydev.continuity.stretches import Times, within
from pydev.recording.format import Flag, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Slots, Timeline


@dataclass(frozen=True, slots=True)
class Lost:
    """Some of what was sent."""

    transactions: int
    messages: int
    first_ns: int | None
    """When the first of them was; None where there is none."""

    @property
    def count(self) -> int:
        """Both together."""
        return self.transactions + self.messages

    def __str__(self) -> str:
        parts = [_counted(self.transactions, "transaction")] if self.transactions else []
        parts += [_counted(self.messages, "interrupt message")] if self.messages else []
        return " and ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one kind, in time order."""

    slots: Slots
    t_ns: Times


@dataclass(frozen=True, slots=True)
class Sent:
    """An endpoint's transactions and messages of one blackout."""

    timeline: Timeline
    name: str
    transactions: tuple[Batch, ...]
    messages: Batch

    @property
    def count(self) -> int:
        """Transactions and messages."""
        return sum(len(batch.slots) for batch in (*self.transactions, self.messages))

    def during(self, begin_ns: int, end_ns: int, margin_ns: int) -> Lost:
        """What was sent in a span, its ends drawn in by a margin; a negative one lets them out."""
        parts = [
            b.t_ns[within(b.t_ns, begin_ns, end_ns, margin_ns)] for b in (*self.transactions, self.messages)
        ]
        return Lost(sum(len(part) for part in parts[:-1]), len(parts[-1]), _first(parts))

    def into(self, first: int, last: int, begin_ns: int, end_ns: int, margin_ns: int) -> Lost:
        """As `during`, the transactions alone whose address is one of these, both ends included."""
        parts = []
        for batch in self.transactions:
            part = within(batch.t_ns, begin_ns, end_ns, margin_ns)
            address = self.timeline.column("address", batch.slots[part])
            parts.append(batch.t_ns[part][(address >= np.uint64(first)) & (address <= np.uint64(last))])
        return Lost(sum(len(part) for part in parts), 0, _first(parts))


def sent(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> Sent:
    """What reached memory, or an eventfd, of an endpoint between frozen and finished."""
    timeline = evidence.timeline
    batches = []
    for kind in (Kind.DMA_WRITE, Kind.DMA_READ):
        dma = timeline.transactions(kind, function.index)
        is_inside = (dma.t_ns > blackout.begin.t_ns) & (dma.t_ns <= blackout.end_ns) & ~dma.is_blocked
        batches.append(_batch(timeline, dma.slots[is_inside]))
    messages = messages_of(timeline, function, blackout.begin.t_ns, blackout.end_ns)
    name = evidence.name(function, blackout.begin.t_ns)
    return Sent(timeline, name, tuple(batches), _batch(timeline, messages))


def messages_of(timeline: Timeline, function: FunctionEntry, begin_ns: int, end_ns: int) -> Slots:
    """The interrupts after one moment and not after another that left the function as a message."""
    slots = timeline.of_kind(Kind.INTERRUPT, function.index)
    times = timeline.t_ns[slots]
    slots = slots[(times > begin_ns) & (times <= end_ns)]
    held = timeline.column("flags", slots) & np.uint64(int(Flag.BLOCKED | Flag.PENDING))
    left: Slots = slots[held == 0]
    return left


def _batch(timeline: Timeline, slots: Slots) -> Batch:
    t_ns = timeline.t_ns[slots].view(np.int64)
    if (t_ns[1:] < t_ns[:-1]).any():
        order = np.argsort(t_ns, kind="stable")
        slots, t_ns = slots[order], t_ns[order]
    return Batch(slots, t_ns)


def _first(parts: Iterable[Times]) -> int | None:
    return min((int(part[0]) for part in parts if len(part)), default=None)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
