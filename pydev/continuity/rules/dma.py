# SPDX-License-Identifier: MIT
"""DMA of preserved streams between frozen and finished: every sequence number, each once, none refused.

A gap is a fact: a transaction that was refused, or a number that is absent. Lateness is the bench's.
Hazards: every one of severity D that ends in silence (1, 2, 3, 4, 5, 30, 59, 61, 64).
"""

from typing import Final

import numpy as np

from pydev.continuity.causes import author_of, by_author, is_at_reset, resets, shared
from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.continuity.streams import Gap, Run, StreamFacts, examined_span, gaps, stream_facts
from pydev.recording.attribution import Attribution
from pydev.recording.event_index import Slots
from pydev.recording.format import DMA_GATES, Gate, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout

MOST_FINDINGS: Final = 16
SILENCE_NS: Final = 50_000_000
"""A bench later than this decides nothing (README, How it works)."""

_CAUSES: Final = (
    (Gate.BUS_MASTER_OFF, "BME-ENDPOINT"),
    (Gate.POWER_STATE, "POWER-STATE"),
)


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    causes: set[str | None] = set()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            streams = stream_facts(evidence.timeline, function)
            if not streams and function.has_stream:
                judgement.vacuous(f"the stream of {function.id} never started")
            for facts in streams:
                causes |= _judge_stream(evidence, judgement, blackout, facts)
    nothing = "no preserved endpoint streams" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, causes), nothing=nothing)


def _judge_stream(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, facts: StreamFacts
) -> set[str | None]:
    """Judges one stream; returns what caused each of its failures."""
    name = f"{evidence.name(facts.function, blackout.begin.t_ns)} engine {facts.engine}"
    run = facts.run_at(blackout.begin.t_ns)
    begin_ns, end_ns = examined_span(blackout, ordered_stops(evidence, facts.function))
    if run is None:
        written = facts.during(begin_ns, end_ns)
        if written.start < written.stop and facts.run_at(int(facts.t_ns[written.start])) is None:
            judgement.doubt(Finding(f"{name} wrote without ever having been started"))
        judgement.vacuous(f"{name} was not streaming when frozen")
        return set()
    if not facts.is_in_time_order():
        judgement.doubt(Finding(f"the clock went backwards among the transactions of {name}"))
        return set()
    causes: set[str | None] = set()
    causes |= _judge_silence(evidence, judgement, facts, run, (begin_ns, end_ns), name)
    causes |= _judge_sequence(evidence, judgement, facts, (begin_ns, end_ns), name)
    causes |= _judge_gaps(evidence, judgement, facts, (begin_ns, end_ns), name)
    _check_gate(evidence, judgement, facts, (begin_ns, end_ns), name)
    if not blackout.is_over and end_ns == blackout.end_ns:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    return causes


def _judge_silence(
    evidence: Evidence, judgement: Judgement, facts: StreamFacts, run: Run, span: tuple[int, int], name: str
) -> set[str | None]:
    begin_ns, end_ns = span
    part = facts.during(begin_ns, end_ns)
    count = part.stop - part.start
    judgement.examined += count
    if run.end_ns is not None and run.end_ns < end_ns:
        judgement.fail(
            _finding(evidence, facts, run.end_ns, f"the stream of {name} was stopped, and not by the bench")
        )
        return {_stop_cause(evidence, facts, run.end_ns)}
    if not count and end_ns - begin_ns < run.period_ns:
        judgement.vacuous(f"no transaction of {name} was due between frozen and finished")
    elif end_ns - (int(facts.t_ns[part.stop - 1]) if count else begin_ns) > run.period_ns + SILENCE_NS:
        judgement.doubt(Finding(f"{name} fell silent: no transaction, no refusal and no stop was recorded"))
    return set()


def _stop_cause(evidence: Evidence, facts: StreamFacts, t_ns: int) -> str | None:
    """A reset stops an engine; so does a driver that was not told of a device's being preserved."""
    if is_at_reset(evidence, facts.function, t_ns):
        return "RESET"
    return "PRESERVED-SET" if evidence.failed("PRESERVED-SET", facts.function) else None


def _judge_sequence(
    evidence: Evidence, judgement: Judgement, facts: StreamFacts, span: tuple[int, int], name: str
) -> set[str | None]:
    part = facts.during(*span)
    first = max(part.start - 1, 0)
    steps = np.diff(facts.sequence[first : part.stop])
    wrong = np.flatnonzero(steps != 1)
    is_whole = evidence.timeline.recording.complete
    _check_listed(judgement, len(wrong), f"breaks in the sequence of {name}")
    causes: set[str | None] = set()
    for at in wrong[:MOST_FINDINGS].tolist():
        before, after = (int(facts.sequence[first + at + n]) for n in (0, 1))
        what = (
            f"{after - before - 1} sequence numbers are absent" if after > before else "a number comes again"
        )
        t_ns = int(facts.t_ns[first + at + 1])
        finding = _finding(evidence, facts, t_ns, f"{name}: {what} between {before} and {after}")
        # A record that is known to have lost events cannot blame the guest for an absent one.
        (judgement.fail if is_whole else judgement.doubt)(finding)
        # A reset begins the numbers anew.
        since = int(facts.t_ns[first + at])
        was_reset = evidence.failed("RESET") and bool(resets(evidence, facts.function, since, t_ns))
        causes.add("RESET" if was_reset else None)
    return causes if is_whole else set()


def _judge_gaps(
    evidence: Evidence, judgement: Judgement, facts: StreamFacts, span: tuple[int, int], name: str
) -> set[str | None]:
    part = facts.during(*span)
    refused = [gap for gap in gaps(facts, *span) if gap.blocked and gap.first_blocked is not None]
    refused = [gap for gap in refused if _touches(facts, gap, part)]
    _check_listed(judgement, len(refused), f"gaps of {name}")
    causes: set[str | None] = set()
    for gap in refused[:MOST_FINDINGS]:
        assert gap.first_blocked is not None
        t_ns = int(facts.t_ns[gap.first_blocked])
        begin, end = (evidence.timeline.since_start_ns(t) / 1e6 for t in (gap.begin_ns, gap.end_ns))
        reasons = _reasons(gap.reasons)
        message = (
            f"no DMA from {name} for {gap.length_ns / 1e6:.3f} ms (from {begin:.3f} to {end:.3f} ms of the "
            f"recording): {gap.blocked} transactions refused ({reasons})"
        )
        finding = _finding(evidence, facts, t_ns, message)
        if gap.reasons & DMA_GATES == Gate.NO_CLIENT:
            judgement.doubt(finding)  # the bench's own connection, not the guest
            continue
        judgement.fail(by_author(finding, _author(evidence, facts, gap)))
        causes.add(_cause(evidence, facts, gap))
    return causes


def _check_listed(judgement: Judgement, count: int, what: str) -> None:
    """What is not listed cannot be excused, nor be said to have the same cause."""
    if count > MOST_FINDINGS:
        judgement.doubt(Finding(f"{count - MOST_FINDINGS} more {what}, which are not listed"))


def _touches(facts: StreamFacts, gap: Gap, part: slice) -> bool:
    """Whether a refusal of this gap is inside the part that is judged."""
    assert gap.first_blocked is not None
    inside = facts.is_blocked[part] & (facts.t_ns[part] >= gap.begin_ns) & (facts.t_ns[part] <= gap.end_ns)
    return bool(inside.any())


def _cause(evidence: Evidence, facts: StreamFacts, gap: Gap) -> str | None:
    """The rule whose finding closed the gate: the gate's own record has to show it in this gap."""
    timeline = evidence.timeline
    closing = _closing(evidence, facts, gap)
    newly = timeline.column("aux", closing) & ~timeline.column("extra", closing)
    shut = closing[(newly & np.uint64(int(Gate.IN_RESET))) != 0]
    if len(shut) and is_at_reset(evidence, facts.function, int(timeline.t_ns[shut[0]])):
        return "RESET"
    if not gap.reasons and evidence.failed("IOVA-MAPPING", facts.function):  # no gate: no mapping
        return "IOVA-MAPPING"
    for gate, rule in _CAUSES:
        closed = newly & np.uint64(int(gate))
        if gap.reasons & gate and closed.any() and evidence.failed(rule, facts.function):
            return rule
    return None


def _closing(evidence: Evidence, facts: StreamFacts, gap: Gap) -> Slots:
    """The gate's records between the last transaction that passed and the first that was refused."""
    assert gap.first_blocked is not None
    slots = evidence.timeline.of_kind(Kind.GATE, facts.function.index)
    first = int(facts.slots[gap.first_blocked])
    since = int(facts.slots[gap.first_blocked - 1]) if gap.first_blocked else -1
    return slots[(slots > since) & (slots < first)]


def _author(evidence: Evidence, facts: StreamFacts, gap: Gap) -> Attribution | None:
    """Who closed the gate, where the TCG plugin has seen the write."""
    closing = _closing(evidence, facts, gap)
    times = evidence.timeline.t_ns[closing]
    return author_of(evidence, facts.function, int(times[0])) if len(times) else None


def _check_gate(
    evidence: Evidence, judgement: Judgement, facts: StreamFacts, span: tuple[int, int], name: str
) -> None:
    """The server plays the hardware: what its gate refuses must be refused, and only that."""
    timeline = evidence.timeline
    slots = timeline.of_kind(Kind.GATE, facts.function.index)
    part = facts.during(*span)
    if not len(slots) or part.start >= part.stop:
        return
    states = np.concatenate((timeline.column("extra", slots[:1]), timeline.column("aux", slots)))
    gate = states[np.searchsorted(slots, facts.slots[part])] & np.uint64(int(DMA_GATES))
    refused = facts.is_blocked[part]
    if ((gate != 0) & ~refused).any():
        judgement.doubt(Finding(f"{name}: a transaction passed while the server's gate was closed"))


def ordered_stops(evidence: Evidence, function: FunctionEntry) -> tuple[int, ...]:
    """When the host ordered this function's stream to stop."""
    return tuple(
        message.t_ns
        for message in evidence.timeline.messages
        if message.to_guest
        and message.members.get("cmd") == "stop"
        # Where bus numbers are not known, neither is whose stream it was: RECORD-COMPLETE says so.
        and evidence.function_of(message) in (function, None)
    )


def _reasons(error: int) -> str:
    names = [gate.name.lower() for gate in Gate if error & gate and gate.name]
    return ", ".join(names) or "no mapping"


def _finding(evidence: Evidence, facts: StreamFacts, t_ns: int, message: str) -> Finding:
    timeline = evidence.timeline
    bdf = timeline.bdf_at(facts.function.index, t_ns)
    return Finding(message, t_ns=t_ns, phase=timeline.phase_at(t_ns), bdf=bdf)


DMA_CONTINUITY: Final = Rule(
    id="DMA-CONTINUITY",
    title="A preserved endpoint's DMA goes on from frozen to finished without a gap",
    hazards=(1, 2, 3, 4, 5, 30, 59, 61, 64),
    severity="D",
    why="The device is in use while the kernel replaces itself: a refused transaction is lost data.",
    acceptable="Lateness of the bench, measured apart; a stop that the bench orders after the update.",
    source="PCIe 6.0 7.5.1.1.3; linux Documentation/PCI",
    planted_fault="one transaction refused, or one sequence number left out, during the blackout",
    judge=_judge,
    examines="every transaction of each preserved endpoint's stream from frozen to finished, refused ones "
    "included, by sequence number",
    unknown_when="where a stream falls silent without a stop, the bench itself was too late, or a transaction "
    "passed a closed gate",
    vacuous_when="nothing was streaming when frozen",
)
