# SPDX-License-Identifier: MIT
"""Whether the guest was live-updated at all. A guest that rebooted has not been.

An experiment may want something else: the header's `experiment.expect_guest`, one of refused, cancelled and
panic, is then what has to be proven. A refusal or a cancellation is proven by the guest's own word, by the same
kernel going on (no hello, no reset, no other boot_id, and an answer afterwards) and, where the guest was frozen,
by the other rules over that attempt; a panic by the console, after frozen.
"""

from collections.abc import Callable, Iterable
from typing import Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.guest import (
    Shortcoming,
    bench_ended_early,
    expected_guest,
    is_meant_to_stay,
    proof_shortcomings,
    refusals,
    shortcomings,
)
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.continuity.streams import Run, StreamFacts, stream_facts


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    timeline = evidence.timeline
    if timeline.phase("normal") is None:
        judgement.doubt(Finding("the guest's agent never said hello: the bench did not get that far"))
        return judgement.result()
    judgement.examined = len(evidence.blackouts)
    # A bench that ended early cannot hold against the guest what it did not wait for.
    complain = judgement.doubt if bench_ended_early(timeline) else judgement.fail
    guest = expected_guest(timeline)
    if guest in ("refused", "cancelled", "panic"):
        judgement.examined += 1
        _complain(evidence, complain, proof_shortcomings(timeline, guest))
        if is_meant_to_stay(timeline):
            _judge_streams(evidence, judgement)
        return judgement.result()
    for blackout in evidence.blackouts:
        _complain(evidence, complain, shortcomings(timeline, blackout))
    wanted = _wanted(evidence)
    if len(evidence.blackouts) < wanted:
        complain(Finding(_too_few(evidence, wanted)))
    return judgement.result(caused_by=_cause(evidence))


def _complain(evidence: Evidence, complain: Callable[[Finding], None], found: Iterable[Shortcoming]) -> None:
    for shortcoming in found:
        t_ns = shortcoming.t_ns
        phase = None if t_ns is None else evidence.timeline.phase_at(t_ns)
        complain(Finding(shortcoming.message, t_ns=t_ns, phase=phase))


def _cause(evidence: Evidence) -> str | None:
    """PRESERVED-SET, where all that is missing comes after the update: what was lost was not taken back."""
    missing = [s for b in evidence.blackouts for s in shortcomings(evidence.timeline, b)]
    is_all = len(evidence.blackouts) >= _wanted(evidence) and all(s.is_of_set for s in missing)
    return "PRESERVED-SET" if missing and is_all and evidence.failed("PRESERVED-SET") else None


def _judge_streams(evidence: Evidence, judgement: Judgement) -> None:
    """Without a blackout: from the first preserve on no stream of a preserved endpoint may be refused."""
    timeline = evidence.timeline
    begin = timeline.phase("prepared")
    if begin is None:
        return
    for function in evidence.preserved:
        for facts in stream_facts(timeline, function):
            part = facts.during(begin.t_ns, timeline.guest_end_ns)
            times = facts.t_ns[part][facts.is_blocked[part]].tolist()
            # Only while a run is under way that was once good: bus mastering may come after the start.
            refused = [t for t in times if (run := facts.run_at(t)) and _was_good(facts, run, t)]
            if refused:
                name = evidence.name(function, refused[0])
                message = f"{len(refused)} transactions of {name} were refused though nothing was updated"
                judgement.fail(Finding(message, t_ns=refused[0], phase=timeline.phase_at(refused[0])))


def _was_good(facts: StreamFacts, run: Run, t_ns: int) -> bool:
    part = facts.during(run.begin_ns, t_ns)
    return not facts.is_blocked[part].all()


def _wanted(evidence: Evidence) -> int:
    experiment = evidence.timeline.header.get("experiment") or {}
    value = experiment.get("updates") if isinstance(experiment, dict) else None
    return value if isinstance(value, int) and value > 0 else 1


def _too_few(evidence: Evidence, wanted: int) -> str:
    count = len(evidence.blackouts)
    message = "the guest was never frozen" if not count else f"{count} updates of {wanted} were made"
    refused = refusals(evidence.timeline)
    if refused:
        last = refused[-1].members
        message += f": it refused with errno {last.get('errno')} ({last.get('error') or last.get('what')})"
    return message


GUEST_UPDATED: Final = Rule(
    id="GUEST-UPDATED",
    title="The guest was live-updated, and did not merely reboot",
    hazards=(),
    severity="U",
    why="With the orchestrator off for want of memory, plain kexec still works: a guest that comes back "
    "proves nothing. Kernel, orchestrator and agent each have to say so.",
    acceptable="Never; an experiment that wants a refusal, a cancellation or a panic says so in its [expect], "
    "and that has to be proven instead.",
    source="linux kernel/liveupdate/luo_core.c luo_early_startup, kexec_handover.c kho_populate",
    planted_fault="the orchestrator switched off on the kernel's command line",
    judge=_judge,
    is_per_function=False,
    examines="each update: the console's words, the agents' hellos and reports, machine resets; or the "
    "refusal, cancellation or panic that the experiment wants",
    unknown_when="where the bench ended before the guest could have",
    vacuous_when="never: without an update it fails",
)
