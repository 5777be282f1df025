# SPDX-License-Identifier: MIT
"""Figures for the verdict. Counts are of the whole recording; gap, blackout and lateness of the blackouts."""

from dataclasses import dataclass

import numpy as np

from pydev.continuity.evidence import Evidence
from pydev.continuity.rules.dma import ordered_stops
from pydev.continuity.rules.integrity import misdirected
from pydev.continuity.streams import StreamFacts, examined_span, gaps, stream_facts
from pydev.recording.format import NO_FUNCTION, Flag, Kind
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Timeline


@dataclass(frozen=True, slots=True)
class StreamGap:
    """The longest time without DMA of one preserved stream in one blackout. Times as recorded."""

    endpoint: str
    begin_ns: int
    end_ns: int
    blocked: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """What `verdict.json` reports, and the gaps behind `dma_gap_max_ns`."""

    blackout_ns: int
    """The longest, where there are several updates."""
    dma_gap_max_ns: int
    bench_lateness_max_ns: int
    """Of the reference stream."""
    dma_transactions: int
    """That reached memory."""
    dma_blocked: int
    dma_misdirected: int
    config_writes: int
    """Of the guest, to the functions of the topology."""
    msi_raised: int
    msi_delivered: int
    msi_lost: int
    msi_after_finish: int
    gaps: tuple[StreamGap, ...]


def measure(evidence: Evidence) -> Measurements:
    """Every figure of one timeline."""
    timeline = evidence.timeline
    kinds = (Kind.DMA_WRITE, Kind.DMA_READ)
    dma = [timeline.transactions(kind, function) for kind in kinds for function in timeline.owners(kind)]
    blocked = sum(int(np.count_nonzero(part.is_blocked)) for part in dma)
    found = tuple(gap for b in evidence.blackouts for gap in _gaps(evidence, b))
    lateness = [late for b in evidence.blackouts if (late := reference_lateness(timeline, b)) is not None]
    interrupts = timeline.of_kind(Kind.INTERRUPT)
    flags = timeline.column("flags", interrupts)
    lost = (flags & np.uint16(int(Flag.BLOCKED))) != 0
    pending = (flags & np.uint16(int(Flag.PENDING))) != 0
    finished = [b.end_ns for b in evidence.blackouts if b.is_finished]
    return Measurements(
        blackout_ns=max((b.end_ns - b.begin.t_ns for b in evidence.blackouts if b.is_finished), default=0),
        dma_gap_max_ns=max((gap.end_ns - gap.begin_ns for gap in found), default=0),
        bench_lateness_max_ns=max(lateness, default=0),
        dma_transactions=sum(len(part.slots) for part in dma) - blocked,
        dma_blocked=blocked,
        dma_misdirected=misdirected(evidence),
        config_writes=_config_writes(timeline),
        msi_raised=len(interrupts),
        msi_delivered=int(np.count_nonzero(~lost & ~pending)),
        msi_lost=int(np.count_nonzero(lost)),
        msi_after_finish=int(np.count_nonzero(timeline.t_ns[interrupts] > finished[-1])) if finished else 0,
        gaps=found,
    )


def reference_lateness(timeline: Timeline, blackout: Blackout) -> int | None:
    """How late the reference stream was at worst in a blackout, silence included; None if it never ticked."""
    slots = timeline.of_kind(Kind.REFERENCE)
    times = timeline.t_ns[slots].astype(np.int64)
    due = timeline.column("extra", slots).astype(np.int64)
    inside = (due > blackout.begin.t_ns) & (due <= blackout.end_ns)
    if not inside.any():
        return None
    lateness = int((times - due)[inside].max())
    # Ticks that never came: the schedule's longest hole, beyond the usual step.
    steps = np.diff(np.concatenate(([blackout.begin.t_ns], due[inside], [blackout.end_ns])))
    usual = int(np.median(np.diff(due))) if len(due) > 1 else 0
    return max(lateness, int(steps.max()) - usual, 0)


def stream_lateness(facts: StreamFacts, begin_ns: int, end_ns: int) -> int:
    """How late a stream's own transactions were at worst; 0 for one that made none."""
    return facts.lateness_ns(facts.during(begin_ns, end_ns))


def _gaps(evidence: Evidence, blackout: Blackout) -> list[StreamGap]:
    found = []
    for function in evidence.preserved:
        begin_ns, end_ns = examined_span(blackout, ordered_stops(evidence, function))
        for facts in stream_facts(evidence.timeline, function):
            if facts.run_at(blackout.begin.t_ns) is None:
                continue
            longest = gaps(facts, begin_ns, end_ns)[:1]
            found += [StreamGap(function.id, gap.begin_ns, gap.end_ns, gap.blocked) for gap in longest]
    return found


def _config_writes(timeline: Timeline) -> int:
    traced = timeline.of_kind(Kind.TRACE_WRITE)
    if len(traced):
        return int(np.count_nonzero(timeline.column("function", traced) != NO_FUNCTION))
    return sum(len(timeline.config_writes(f.index)) for f in timeline.functions if f.is_endpoint)
