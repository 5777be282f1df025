# SPDX-License-Identifier: MIT
"""Whether the witnesses of the guest's config writes agree: the TCG plugin, QEMU's trace, the endpoints' server.

Every write has to be in every account that can have it, in the same order and with the same value. What one of
them lacks, has twice or tells otherwise is named, and nothing can be judged from such a record.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.attribution import declaration
from pydev.recording.joining import LATE_NS, Disagreement, FunctionAgreement, Joined
from pydev.recording.timeline import Timeline
from pydev.units import bdf_text

_MOST_FINDINGS: Final = 32


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    timeline = evidence.timeline
    found = timeline.agreement
    judgement.examined = sum(len(one.writes) for one in found.all())
    doubts = [Finding(problem) for problem in (*_plugin(timeline), *found.problems)]
    for one in found.all():
        doubts += [_finding(evidence, problem) for problem in one.problems]
        doubts += _late(evidence, one)
    for doubt in doubts[:_MOST_FINDINGS]:
        judgement.doubt(doubt)
    if len(doubts) > _MOST_FINDINGS:
        judgement.doubt(Finding(f"and {len(doubts) - _MOST_FINDINGS} more disagreements"))
    result = judgement.result(nothing="no config write was recorded")
    return replace(result, reasons=(*result.reasons, *_weaknesses(timeline)))


def _weaknesses(timeline: Timeline) -> Iterator[str]:
    """What an agreement of fewer witnesses does not prove."""
    is_declared, reason = declaration(timeline.header)
    if not is_declared and not timeline.has_plugin:
        yield f"without the TCG plugin bridges have one witness, QEMU's trace ({reason})"


def _plugin(timeline: Timeline) -> Iterator[str]:
    """Whether the plugin's account is whole, by its own word."""
    log = timeline.plugin
    is_declared, _ = declaration(timeline.header)
    if not is_declared and (log.writes or log.jumps or log.ends):
        yield "the header declares no TCG plugin, and there are records of one"
    if is_declared and not log.writes:
        yield "the TCG plugin saw no config write"
    if is_declared and not log.ends:
        yield "the TCG plugin never said its last word: nobody knows what it saw after its last record"
    if len(log.ends) > 1:
        yield f"the TCG plugin said its last word {len(log.ends)} times"
    for end in log.ends:
        if end.writes != len(log.writes):
            yield f"the TCG plugin wrote {end.writes} records, the recording has {len(log.writes)}"
        if end.lost:
            yield f"the TCG plugin found no room for {end.lost} writes"
    yield from log.problems
    yield from _attributions(timeline)


def _attributions(timeline: Timeline) -> Iterator[str]:
    """Whether as many writes have an author as the end of the run says: all of them, or none with a reason."""
    count = len(timeline.plugin.writes)
    attributed = sum(write.attribution is not None for write in timeline.plugin.writes)
    if attributed not in (0, count):
        yield f"{count - attributed} of the plugin's {count} records have no author, and the others have"
    summary: Any = timeline.trailer.get("attribution")
    if not isinstance(summary, dict):
        return
    if summary.get("writes") != attributed:
        yield f"{summary.get('writes')!r} of the plugin's records were attributed, {attributed} still are"
    if count and not attributed and not summary.get("problems"):
        yield "none of the plugin's records has an author, and nothing is said to have kept them from being found"


def _finding(evidence: Evidence, problem: Disagreement) -> Finding:
    timeline, write = evidence.timeline, problem.write
    by = write.attribution
    who = "" if by is None or by.function is None else f"; by {by.function}"
    function = None if problem.function is None else timeline.functions[problem.function]
    if write.bdf is not None:
        bdf: int | None = write.bdf
    else:
        bdf = None if function is None else timeline.bdf_at(function.index, write.t_ns - 1)
    name = bdf_text(bdf) if bdf is not None else "?" if function is None else function.id
    named = problem.registers[0] if problem.registers else None
    return Finding(
        f"{name} {problem.message}{who}",
        t_ns=write.t_ns,
        phase=timeline.phase_at(write.t_ns),
        bdf=bdf,
        register=named,
        width=write.width,
        function=None if by is None else by.function,
        stack=() if by is None else by.frames,
    )


def _late(evidence: Evidence, found: FunctionAgreement) -> Iterator[Finding]:
    """Records of the server that came so late that a write may seem to be outside of a blackout, or inside."""
    timeline = evidence.timeline
    for joined in found.writes:
        times = _times(timeline, joined)
        if times is None or times[1] - times[0] <= LATE_NS:
            continue
        traced, served = times
        if any(traced <= b.end_ns and served >= b.begin.t_ns for b in evidence.blackouts):
            name = "?" if found.function is None else timeline.functions[found.function].id
            yield Finding(
                f"the server recorded a write to {name} {(served - traced) / 1e6:.1f} ms after the trace",
                t_ns=served,
                phase=timeline.phase_at(served),
            )


def _times(timeline: Timeline, joined: Joined) -> tuple[int, int] | None:
    """The trace's and the server's, where both have the write."""
    if joined.trace is None or joined.server is None:
        return None
    return int(timeline.t_ns[joined.trace]), int(timeline.t_ns[joined.server])


WRITES_AGREE: Final = Rule(
    id="WRITES-AGREE",
    title="Every config write is in every witness's account: TCG plugin, QEMU's trace, server",
    hazards=(),
    severity="B",
    why="Each witness proves the others complete. A write that one of them lacks, has twice, in another order or "
    "with another value means that the record is not what happened.",
    acceptable="Never. QEMU's own writes while realizing and resetting an endpoint are seen by the server alone. "
    "Without the plugin (an accelerator other than TCG) bridges have one witness, and the result says so.",
    source="README, How it works; pydev/recording/joining.py",
    planted_fault="one config write taken out of the plugin's, the trace's or the server's account, or changed "
    "in it",
    judge=_judge,
    is_per_function=False,
    examines="every config write of the guest, to every function, firmware's included; they are counted once",
    unknown_when="where a witness lacks a write, has it twice, elsewhere or otherwise, or is not whole itself",
    vacuous_when="no config write was recorded",
)
