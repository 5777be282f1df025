# SPDX-License-Identifier: MIT
"""Judges a timeline by a policy: every rule in turn, what is expected to fail set aside; then the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pydev.continuity.evidence import Evidence
from pydev.continuity.expectation import Expectation
from pydev.continuity.expected_failure import Excused, ExpectedFailure, excused, outcome_that_counts
from pydev.continuity.guest import errno_of, guest_state, is_meant_to_stay, shortcomings
from pydev.continuity.judging import judge_rule
from pydev.continuity.measure import Measurements, measure
from pydev.continuity.outcome import Finding, Outcome, Result, heaviest
from pydev.continuity.policy import BENCH, RECORD_RULE, Policy
from pydev.continuity.rule import Rule
from pydev.recording.timeline import Timeline


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule's answer in a verdict."""

    rule: Rule
    result: Result
    """What the rule says."""
    required: bool
    excused: tuple[Excused, ...] = ()
    """Which of its findings the policy expects."""

    @property
    def outcome(self) -> Outcome:
        """What takes part in the verdict: the rule's outcome without the findings that are excused."""
        return outcome_that_counts(self.result, self.excused)

    @property
    def is_expected(self) -> bool:
        """Whether it FAILs with nothing but excused findings."""
        return self.result.outcome is Outcome.FAIL and self.outcome is not Outcome.FAIL

    @property
    def counts(self) -> bool:
        """Whether it takes part in the verdict's outcome."""
        return self.required or self.outcome is not Outcome.VACUOUS

    @property
    def excused_findings(self) -> frozenset[int]:
        """Indexes of the findings that do not count."""
        return frozenset(index for entry in self.excused for index in entry.findings)


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
    needless: tuple[ExpectedFailure, ...] = ()
    """Failures that the policy expects, of which none came though their rule examined something."""
    unmatched: tuple[tuple[str, str], ...] = ()
    """Rule id, and what the policy's choices for it name and the recording does not have."""
    off: tuple[Rule, ...] = ()
    """The rules that the policy leaves out."""

    @property
    def failing_rules(self) -> list[str]:
        """The ids of all rules that FAIL, consequences included, and what the policy excuses left out."""
        return [entry.rule.id for entry in self.rules if entry.outcome is Outcome.FAIL]

    @property
    def expected_rules(self) -> list[str]:
        """The ids of the rules that FAIL as the policy expects."""
        return [entry.rule.id for entry in self.rules if entry.is_expected]

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
    whole = policy.catalogue if catalogue is None else catalogue
    judged, evidence = _judge(timeline, policy, whole)
    measurements, trouble = _measure(evidence)
    if trouble is not None:
        judged = [
            replace(entry, result=_worse(entry.result, trouble)) if entry.rule.id == RECORD_RULE else entry
            for entry in judged
        ]
    outcome = heaviest(entry.outcome for entry in judged if entry.counts)
    failing = [entry.rule.id for entry in judged if entry.outcome is Outcome.FAIL]
    guest = guest_state(timeline)
    record = next((entry for entry in judged if entry.rule.id == RECORD_RULE), None)
    bench = [entry for entry in judged if entry.rule.severity == BENCH]
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
        complete=record is not None and all(e.result.outcome is Outcome.PASS for e in bench),
        started_ns=timeline.started_ns,
        start_to_verdict_s=start_to_verdict_s,
        needless=_needless(timeline, policy, judged),
        unmatched=_unmatched(timeline, policy, [entry.rule for entry in judged]),
        off=tuple(rule for rule in whole if rule.id not in {entry.rule.id for entry in judged}),
    )


def _judge(
    timeline: Timeline, policy: Policy, catalogue: Sequence[Rule]
) -> tuple[list[RuleVerdict], Evidence]:
    results: dict[str, Result] = {}
    seen: Mapping[str, Result] = MappingProxyType(results)
    evidence = Evidence(timeline, seen)
    settled: list[str] = []
    judged = []
    for rule in catalogue:
        scopes = policy.scopes(rule, timeline.functions)
        if not scopes.levels:
            continue
        result, is_required, is_narrowed = judge_rule(rule, scopes, timeline, seen, evidence)
        results[rule.id] = result
        # Where no update was wanted and none was made, what an update has to keep cannot be examined;
        # GUEST-UPDATED then has to prove that nothing was.
        is_nothing = result.outcome is Outcome.VACUOUS and not is_narrowed and is_meant_to_stay(timeline)
        found = excused(timeline, rule.id, result, policy.expected_failures, settled)
        judged.append(RuleVerdict(rule, result, is_required and not is_nothing, found))
        if judged[-1].is_expected:
            settled.append(rule.id)
    return judged, evidence


def _needless(
    timeline: Timeline, policy: Policy, judged: Sequence[RuleVerdict]
) -> tuple[ExpectedFailure, ...]:
    """What could have come and did not."""
    seen = {phase.name for phase in timeline.phases}
    used = {id(entry.failure) for verdict in judged for entry in verdict.excused}
    # A rule that could not decide, or that had nothing to look at, says nothing of what is expected of it.
    examined = {
        entry.rule.id
        for entry in judged
        if entry.result.examined and entry.result.outcome in (Outcome.PASS, Outcome.FAIL)
    }
    return tuple(
        failure
        for failure in policy.expected_failures
        if id(failure) not in used
        and set(failure.rules) & examined
        and (not failure.phases or seen & set(failure.phases))
    )


def _unmatched(timeline: Timeline, policy: Policy, judged: Sequence[Rule]) -> tuple[tuple[str, str], ...]:
    """What a policy names and this recording does not have, so that nobody takes it for judged."""
    named: dict[tuple[str, str], None] = {}
    for rule in judged:
        for _, absent in policy.scopes(rule, timeline.functions).unmatched:
            named |= {(rule.id, text): None for text in absent}
    return tuple(named)


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
