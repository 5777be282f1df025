# SPDX-License-Identifier: MIT
"""Whether the guest was live-updated at all. A guest that rebooted has not been."""

from typing import Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.guest import refusals, shortcomings
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.format import Mark
from pydev.recording.timeline import Timeline


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    timeline = evidence.timeline
    if timeline.phase("normal") is None:
        judgement.doubt(Finding("the guest's agent never said hello: the bench did not get that far"))
        return judgement.result()
    judgement.examined = len(evidence.blackouts)
    # A bench that ended early cannot hold against the guest what it did not wait for.
    complain = judgement.doubt if _bench_ended_early(timeline) else judgement.fail
    for blackout in evidence.blackouts:
        for shortcoming in shortcomings(timeline, blackout):
            t_ns = shortcoming.t_ns
            phase = None if t_ns is None else timeline.phase_at(t_ns)
            complain(Finding(shortcoming.message, t_ns=t_ns, phase=phase))
    wanted = _wanted(evidence)
    if len(evidence.blackouts) < wanted:
        complain(Finding(_too_few(evidence, wanted)))
    return judgement.result()


def _bench_ended_early(timeline: Timeline) -> bool:
    """The endpoint server died, the run was given up or interrupted, or the runner itself is gone."""
    given_up = timeline.marks(Mark.ABORTED) or timeline.marks(Mark.SERVER_LOST)
    return bool(given_up) or timeline.recording.trailer is None


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
    acceptable="Never; an experiment that wants a refusal says so in its [expect].",
    source="linux kernel/liveupdate/luo_core.c luo_early_startup, kexec_handover.c kho_populate",
    planted_fault="the orchestrator switched off on the kernel's command line",
    judge=_judge,
)
