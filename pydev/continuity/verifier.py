# SPDX-License-Identifier: MIT
"""Judges a timeline by a policy: every rule in turn, a rule that crashes being UNKNOWN; then the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydev.continuity.catalogue import rules
from pydev.continuity.evidence import Evidence
from pydev.continuity.expectation import Expectation
from pydev.continuity.guest import errno_of, guest_state, is_meant_to_stay, shortcomings
from pydev.continuity.measure import Measurements, measure
from pydev.continuity.outcome import Finding, Outcome, Result, heaviest
from pydev.continuity.policy import RECORD_RULE, Policy
from pydev.continuity.rule import Rule
from pydev.recording.timeline import Timeline


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule's answer in a verdict."""

    rule: Rule
    result: Result
    required: bool

    @property
    def counts(self) -> bool:
        """Whether it takes part in the outcome."""
        return self.required or self.result.outcome is not Outcome.VACUOUS


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one recording."""

    outcome: Outcome
    policy: str
    rules: tuple[RuleVerdict, ...]
    expectation: Expectation
    as_expected: bool
    guest: str
    updates: int
    kernels: dict[str, str | None]
    measurements: Measurements | None
    """None where measuring itself failed, which makes the outcome UNKNOWN or worse."""
    events: int
    dropped: int
    complete: bool
    """Whether the record was found whole."""
    started_ns: int
    """What findings' times are relative to in reports."""
    start_to_verdict_s: float | None = None

    @property
    def failing_rules(self) -> list[str]:
        """The ids of all rules that FAIL, consequences included."""
        return [entry.rule.id for entry in self.rules if entry.result.outcome is Outcome.FAIL]

    def with_start_to_verdict(self, seconds: float | None) -> "Verdict":
        """The same verdict, with the time it took from the run's start."""
        return replace(self, start_to_verdict_s=seconds)


def verify(
    timeline: Timeline,
    policy: Policy,
    expectation: Expectation | None = None,
    start_to_verdict_s: float | None = None,
    *,
    catalogue: Sequence[Rule] | None = None,
) -> Verdict:
    """Judge a timeline. Never raises for what is in it: what cannot be judged is UNKNOWN."""
    expectation = expectation or Expectation()
    judged, evidence = _judge(timeline, policy, rules() if catalogue is None else catalogue)
    measurements, trouble = _measure(evidence)
    if trouble is not None:
        judged = [
            replace(entry, result=_worse(entry.result, trouble)) if entry.rule.id == RECORD_RULE else entry
            for entry in judged
        ]
    outcome = heaviest(entry.result.outcome for entry in judged if entry.counts)
    failing = [entry.rule.id for entry in judged if entry.result.outcome is Outcome.FAIL]
    guest = guest_state(timeline)
    record = next((entry for entry in judged if entry.rule.id == RECORD_RULE), None)
    is_met = expectation.is_met(
        outcome=outcome,
        failing=failing,
        guest=guest,
        errno_seen=errno_of(timeline),
        console=[line.text for line in timeline.console],
    )
    return Verdict(
        outcome=outcome,
        policy=policy.name,
        rules=tuple(judged),
        expectation=expectation,
        as_expected=is_met,
        guest=guest,
        updates=sum(1 for b in timeline.blackouts if not any(True for _ in shortcomings(timeline, b))),
        kernels=_kernels(timeline),
        measurements=measurements,
        events=len(timeline.records),
        dropped=timeline.recording.dropped,
        complete=record is not None and record.result.outcome is Outcome.PASS,
        started_ns=timeline.started_ns,
        start_to_verdict_s=start_to_verdict_s,
    )


def _judge(
    timeline: Timeline, policy: Policy, catalogue: Sequence[Rule]
) -> tuple[list[RuleVerdict], Evidence]:
    results: dict[str, Result] = {}
    evidence = Evidence(timeline, results)
    judged = []
    for rule in catalogue:
        if rule.id in policy.required:
            results[rule.id] = result = _crash_proof(rule, evidence)
            # Where no update was wanted and none was made, what an update has to keep cannot be examined;
            # GUEST-UPDATED then has to prove that nothing was.
            is_excused = result.outcome is Outcome.VACUOUS and is_meant_to_stay(timeline)
            judged.append(RuleVerdict(rule, result, policy.required[rule.id] and not is_excused))
    return judged, evidence


def _crash_proof(rule: Rule, evidence: Evidence) -> Result:
    try:
        return rule.judge(evidence)
    except Exception as error:  # a rule's bug must not become a verdict about the guest
        return Result(Outcome.UNKNOWN, 0, (Finding(f"the rule crashed: {type(error).__name__}: {error}"),))


def _measure(evidence: Evidence) -> tuple[Measurements | None, str | None]:
    try:
        return measure(evidence), None
    except Exception as error:  # as above
        return None, f"measuring crashed: {type(error).__name__}: {error}"


def _worse(result: Result, trouble: str) -> Result:
    outcome = heaviest((result.outcome, Outcome.UNKNOWN))
    return replace(result, outcome=outcome, findings=(*result.findings, Finding(trouble)))


def _kernels(timeline: Timeline) -> dict[str, str | None]:
    """Releases: as the agents say, else as the bench meant them to be."""
    meant: Any = timeline.trailer.get("kernels")
    meant = meant if isinstance(meant, dict) else {}
    hellos = [m.string("release") for m in timeline.messages if m.members.get("event") == "hello"]
    frozen = bool(timeline.blackouts)
    return {
        "outgoing": hellos[0] if hellos else meant.get("outgoing"),
        "incoming": hellos[-1] if frozen and len(hellos) > 1 else meant.get("incoming"),
    }
