# SPDX-License-Identifier: MIT
"""Whether the record is whole. Every other answer rests on this one: incomplete is UNKNOWN, never PASS."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from pydev.continuity.evidence import Evidence
from pydev.continuity.measure import reference_lateness, stream_lateness
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.continuity.rules.dma import ordered_stops
from pydev.continuity.schedule import schedule_problems
from pydev.continuity.streams import examined_span, stream_facts
from pydev.recording.coherence import coherence_problems
from pydev.recording.config import History, field_values
from pydev.recording.format import Gate, Kind, Mark
from pydev.recording.functions import FieldEntry
from pydev.recording.timeline import Slots, Timeline

LATENESS_LIMIT_NS: Final = 50_000_000
"""A bench later than this cannot tell its own lateness from a gap (README, How it works)."""
CLOCK_STEP_LIMIT_NS: Final = 10_000_000
"""A slewed clock drifts less than this in a run; a step is more, or shows as a negative lead."""
LEAD_LIMIT_NS: Final = 2_000_000
_CLIENT_GRACE_NS: Final = 3_000_000_000
"""A client that goes away this long before QEMU's exit went away by itself."""
_MOST_FINDINGS: Final = 32
_GATED: Final = (
    (Gate.BUS_MASTER_OFF, "COMMAND", "bus_master", 1),
    (Gate.POWER_STATE, "PMCSR", "power_state", 0),
)
"""Which gate a register field closes whenever it does not hold the value given last."""
_SETTLING_NS: Final = (0, 100_000, 500_000, 2_000_000)
"""A write, its gate and their records are microseconds apart."""


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    timeline = evidence.timeline
    judgement.examined = len(timeline.records)
    problems = [
        *timeline.structural_problems(),
        *coherence_problems(timeline),
        *_schedules(timeline),
        *_bench(timeline),
        *_clock(timeline),
        *_witnesses(timeline),
        *_gates(timeline),
        *_starvation(evidence),
    ]
    for problem in problems[:_MOST_FINDINGS]:
        judgement.doubt(Finding(problem))
    if len(problems) > _MOST_FINDINGS:
        judgement.doubt(Finding(f"and {len(problems) - _MOST_FINDINGS} more reasons"))
    if not judgement.examined:
        judgement.doubt(Finding("the recording holds no event"))
    return judgement.result()


def _schedules(timeline: Timeline) -> Iterator[str]:
    for function in timeline.functions:
        if function.is_endpoint:
            yield from (f"{function.id}: {problem}" for problem in schedule_problems(timeline, function))


def _bench(timeline: Timeline) -> Iterator[str]:
    """What the bench knows of itself."""
    reasons = timeline.trailer.get("incomplete") or []
    yield from (str(reason) for reason in (reasons if isinstance(reasons, list) else [reasons]))
    lost = timeline.of_kind(Kind.LOST)
    if len(lost):
        yield f"writers know of {int(timeline.column('value', lost).sum())} lost events"
    for mark, what in (
        (Mark.SERVER_LOST, "the endpoint server was lost"),
        (Mark.ABORTED, "the run was aborted"),
    ):
        if timeline.marks(mark):
            yield what
    if not timeline.marks(Mark.MACHINE_RUNNING):
        yield "the machine was never seen running"
    yield from _lost_clients(timeline)


def _lost_clients(timeline: Timeline) -> Iterator[str]:
    slots = timeline.of_kind(Kind.CLIENT)
    gone = slots[timeline.records["value"][slots] == 0]
    exits = timeline.marks(Mark.QEMU_EXITED)
    finished = max((b.end_ns for b in timeline.blackouts if b.is_finished), default=0)
    for slot in gone.tolist():
        t_ns, function = int(timeline.t_ns[slot]), int(timeline.records["function"][slot])
        if t_ns < finished or (exits and exits[0] - t_ns > _CLIENT_GRACE_NS):
            yield f"{_id(timeline, function)}: QEMU's connection was lost before the end"


def _clock(timeline: Timeline) -> Iterator[str]:
    clock = timeline.trailer.get("clock")
    if not isinstance(clock, dict):
        if len(timeline.of_kind(Kind.TRACE_WRITE)):
            yield "the trailer does not say how the trace's clock was joined"
        return
    step = clock.get("step_ns")
    if not isinstance(step, int) or abs(step) > CLOCK_STEP_LIMIT_NS:
        yield f"the system clock was stepped by {step} ns: the trace cannot be joined"
    leads = [lead for found in timeline.agreement.all() for lead in found.leads_ns]
    if leads and min(leads) < -LEAD_LIMIT_NS:
        yield f"a trace line came {-min(leads)} ns after the server's record of its write: clocks disagree"
    for kind in (Kind.REFERENCE,):
        times = timeline.t_ns[timeline.of_kind(kind)].astype(np.int64)
        if (np.diff(times) < 0).any():
            yield "the clock went backwards among the reference ticks"
    for function in timeline.functions:
        if function.is_endpoint:
            for facts in stream_facts(timeline, function):
                if not facts.is_in_time_order():
                    yield f"{function.id}: the clock went backwards among its transactions"


def _witnesses(timeline: Timeline) -> Iterator[str]:
    """Whether the trace is there, for every function, and as long as it says."""
    writes = timeline.of_kind(Kind.TRACE_WRITE)
    if not len(writes):
        yield "QEMU's trace is missing: no config write was traced"
    counted = (timeline.trailer.get("trace") or {}).get("writes")
    if isinstance(counted, int) and counted != len(writes):
        yield f"the trace had {counted} config writes, the recording has {len(writes)}"
    seen = set(np.unique(timeline.column("function", writes)).tolist())
    for function in timeline.functions:
        if len(writes) and function.index not in seen:
            yield f"{function.id}: no config write was traced, and firmware makes some to every function"


def _gates(timeline: Timeline) -> Iterator[str]:
    """The hardware's part against its registers: a gate closed by no write, or a write that closed none."""
    for function in timeline.functions:
        slots = timeline.of_kind(Kind.GATE, function.index)
        if not function.is_endpoint or not len(slots):
            continue
        for gate, register, name, opening in _GATED:
            history = timeline.history(function.index, register)
            if history is None or name not in history.register.fields:
                continue
            moments = [*timeline.t_ns[slots].tolist(), *(change.t_ns for change in history.changes)]
            entry = history.register.fields[name]
            wrong = [
                t for t in moments if not _gate_agrees(timeline, slots, gate, history, entry, opening, t)
            ]
            if wrong:
                at_ms = timeline.since_start_ns(wrong[0]) / 1e6
                yield f"{function.id}: {gate.name} of the server is not what {register}.{name} says at {at_ms:.3f} ms"


def _gate_agrees(
    timeline: Timeline, slots: Slots, gate: Gate, history: History, entry: FieldEntry, opening: int, t_ns: int
) -> bool:
    """Whether gate and register settle to the same soon after an event."""
    times = timeline.t_ns[slots]
    for delay_ns in _SETTLING_NS:
        position = int(np.searchsorted(times, t_ns + delay_ns, side="right"))
        column = "aux" if position else "extra"
        state = int(timeline.records[column][slots[max(position - 1, 0)]])
        values = field_values(history.at(t_ns + delay_ns), entry)
        if (opening in values) != bool(state & gate) or len(values) > 1:
            return True
    return False


def _starvation(evidence: Evidence) -> Iterator[str]:
    """Whether the bench was too late to tell its own lateness from the guest's doing."""
    timeline = evidence.timeline
    for blackout in evidence.blackouts:
        late = reference_lateness(timeline, blackout)
        if late is None:
            yield "the reference stream never ticked during the blackout: the bench's lateness is not known"
        elif late > LATENESS_LIMIT_NS:
            yield f"the bench was starved: the reference stream was {late / 1e6:.1f} ms late"
        for function in evidence.preserved:
            span = examined_span(blackout, ordered_stops(evidence, function))
            for facts in stream_facts(timeline, function):
                if (own := stream_lateness(facts, *span)) > LATENESS_LIMIT_NS:
                    yield f"the bench was starved: the stream of {function.id} was {own / 1e6:.1f} ms late"


def _id(timeline: Timeline, function: int) -> str:
    return timeline.functions[function].id if function < len(timeline.functions) else f"function {function}"


RECORD_COMPLETE: Final = Rule(
    id="RECORD-COMPLETE",
    title="The record is whole",
    hazards=(),
    severity="B",
    why="A judgement from a record with something missing is a guess: what is missing may be the very write.",
    acceptable="Never.",
    source="README, How it works; pydev/recording/format.py",
    planted_fault="one line of the agent channel taken out, or a slot that was claimed and never written",
    judge=_judge,
    is_per_function=False,
    examines="every event of the recording, its counts and clocks, registers against what reads show, and the "
    "bench's own lateness",
    unknown_when="where anything is missing or contradicts what is recorded of it, or the bench was more than "
    "50 ms late",
    vacuous_when="never: an empty recording is UNKNOWN",
)
