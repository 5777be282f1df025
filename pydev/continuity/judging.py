# SPDX-License-Identifier: MIT
"""One rule's answer under a policy: crash-proof, within the scope that the policy chose, and of sound make.

A rule is judged once for each level that it has. What is narrowed must not become a PASS by being empty: where a
choice finds no function or register of the recording, or the rule looks at none of them, the answer is VACUOUS
and says so.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import NoneType
from typing import Any

from pydev.continuity.evidence import Evidence
from pydev.continuity.expected_failure import functions_of
from pydev.continuity.outcome import Finding, Outcome, Result, heaviest
from pydev.continuity.rule import Rule
from pydev.continuity.scope import Choice, Level, Scope, Scopes
from pydev.recording.timeline import Timeline


def judge_rule(
    rule: Rule, scopes: Scopes, timeline: Timeline, results: Mapping[str, Result], whole: Evidence
) -> tuple[Result, bool, bool]:
    """A rule's answer; whether it is required; whether it is VACUOUS by the policy's own narrowing.

    `whole` is the evidence of everything, which rules that are not narrowed share.
    """
    if scopes.is_plain or not rule.is_per_function:
        return _sound(rule, whole), Level.REQUIRED in scopes.levels, False
    answers: dict[Level, Result] = {}
    for level in sorted(scopes.levels, key=lambda level: level.weight, reverse=True):
        scope = scopes.scope(level)
        if scope.functions:
            answers[level] = _narrowed(rule, Evidence(timeline, results, scope))
    if not answers:
        reason = f"the policy leaves {rule.id} no function of this recording to judge"
        return Result(Outcome.VACUOUS, 0, (), (reason,)), Level.REQUIRED in scopes.levels, True
    merged = _merged(answers)
    unmet = _unmet(rule, scopes, timeline, results)
    if unmet and merged.outcome is Outcome.PASS:
        return replace(merged, outcome=Outcome.VACUOUS, reasons=unmet), True, True
    if unmet:
        merged = replace(merged, reasons=(*merged.reasons, *unmet))
    return merged, Level.REQUIRED in answers or bool(unmet), bool(unmet)


def _unmet(rule: Rule, scopes: Scopes, timeline: Timeline, results: Mapping[str, Result]) -> tuple[str, ...]:
    """What the policy requires by name or class, and nothing of it was examined."""
    unmet = []
    for choice in scopes.demands():
        if absent := scopes.absent(choice):
            unmet.append(f"the policy requires {rule.id} of {', '.join(absent)}: nothing here is that")
            continue
        scope = scopes.scope(Level.REQUIRED, choice)
        if not scope.functions:
            continue  # all of it is chosen otherwise by what comes later
        answer = _narrowed(rule, Evidence(timeline, results, scope))
        if answer.outcome is Outcome.VACUOUS:
            unmet.append(f"of {_chosen(choice)}, as the policy requires: {'; '.join(answer.reasons)}")
    return tuple(unmet)


def _chosen(choice: Choice) -> str:
    return ", ".join(str(selector) for selector in (*choice.functions, *choice.registers))


def _narrowed(rule: Rule, evidence: Evidence) -> Result:
    """An answer about some functions and registers only, whether or not the rule keeps to them."""
    result = _sound(rule, evidence)
    scope = evidence.scope
    assert scope is not None
    if result.outcome is Outcome.FAIL:
        kept = tuple(f for f in result.findings if _is_inside(evidence, scope, f))
        if not kept:
            reasons = (*result.reasons, "what fails is outside of what the policy chose")
            return replace(result, outcome=_lighter(result), findings=result.doubts, reasons=reasons)
        return replace(result, findings=kept)
    if result.outcome is Outcome.PASS and scope.chooses_registers and not evidence.watched:
        reason = f"{rule.id} looked at no register that the policy chose"
        return replace(result, outcome=Outcome.VACUOUS, reasons=(reason,))
    return result


def _lighter(result: Result) -> Outcome:
    """Of a FAIL all of whose findings are outside: nothing is known to have been examined inside."""
    return Outcome.UNKNOWN if result.doubts else Outcome.VACUOUS


def _is_inside(evidence: Evidence, scope: Scope, finding: Finding) -> bool:
    """Whether a finding counts: it does unless it is surely about something else."""
    timeline = evidence.timeline
    found = [timeline.functions[index] for index in functions_of(timeline, finding)]
    if not found:
        return True
    if finding.register is None:
        return any(scope.has_function(function) for function in found)
    return any(scope.has_register(function, finding.register, finding.field) for function in found)


def _merged(answers: Mapping[Level, Result]) -> Result:
    """The answers of several levels as one; an optional VACUOUS beside a required answer adds nothing."""
    parts = [
        answer
        for level, answer in answers.items()
        if level is Level.REQUIRED or answer.outcome is not Outcome.VACUOUS or len(answers) == 1
    ]
    if len(parts) == 1:
        return parts[0]
    outcome = heaviest(part.outcome for part in parts)
    heavy = [part for part in parts if part.outcome is outcome]
    causes = {part.caused_by for part in heavy}
    doubts = [f for part in parts if part.outcome is Outcome.UNKNOWN for f in part.findings]
    doubts += [f for part in parts for f in part.doubts]
    return Result(
        outcome,
        sum(part.examined for part in parts),
        tuple(dict.fromkeys(f for part in heavy for f in part.findings)),
        tuple(dict.fromkeys(reason for part in parts for reason in part.reasons)),
        causes.pop() if len(causes) == 1 else None,
        tuple(dict.fromkeys(doubts)) if outcome is Outcome.FAIL else (),
    )


# -------------------------------------------------------------------- sound


def _sound(rule: Rule, evidence: Evidence) -> Result:
    """What a rule says, where it says something that can be believed; else UNKNOWN."""
    try:
        result: Any = rule.judge(evidence)
        problem = _problem(result)
    except (Exception, SystemExit) as error:  # a rule's bug must not become a verdict about the guest
        return _unknown(f"the rule crashed: {type(error).__name__}: {error}")
    if problem is not None:
        return _unknown(f"the rule's answer makes no sense: {problem}")
    return result  # type: ignore[no-any-return]


def _unknown(message: str) -> Result:
    return Result(Outcome.UNKNOWN, 0, (Finding(message),))


def _problem(answer: Any) -> str | None:
    """Why an answer cannot be believed, whatever it is: a rule may be a user's own."""
    if not isinstance(answer, Result):
        return f"{type(answer).__name__} is not a Result"
    result: Any = answer  # of which nothing is known but that
    if not isinstance(result.outcome, Outcome):
        return f"{result.outcome!r} is no outcome"
    if type(result.examined) is not int or result.examined < 0:
        return f"it examined {result.examined!r} things"
    if not (result.caused_by is None or isinstance(result.caused_by, str)):
        return f"{result.caused_by!r} is no rule's id"
    if not all(isinstance(reason, str) for reason in result.reasons):
        return "a reason is not a string"
    for finding in (*result.findings, *result.doubts):
        if problem := _finding_problem(finding):
            return problem
    if result.outcome is Outcome.PASS and (result.findings or not result.examined):
        return f"PASS with {len(result.findings)} findings, {result.examined} things examined"
    if result.outcome in (Outcome.FAIL, Outcome.UNKNOWN) and not result.findings:
        return f"{result.outcome} without a finding"
    return None


def _finding_problem(finding: Any) -> str | None:
    """Why a report could not say a finding."""
    if not isinstance(finding, Finding) or type(finding.message) is not str:
        return f"{finding!r} is not a Finding with a message"
    numbers = (finding.t_ns, finding.bdf, finding.width, finding.before, finding.after)
    if any(type(number) not in (int, NoneType) for number in numbers):
        return f"a time or a value of {finding.message!r} is not an integer"
    words = (finding.phase, finding.register, finding.field, finding.function, *finding.stack)
    if any(not isinstance(word, str | None) for word in words) or finding.count < 1:
        return f"a name of {finding.message!r} is not a string, or it counts less than once"
    return None
