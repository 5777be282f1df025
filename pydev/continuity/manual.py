# SPDX-License-Identifier: MIT
"""The catalogue for people and programs: the table of rules, the page about one, and JSON. At most 78 columns."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydev.continuity.catalogue import NOT_OBSERVABLE, rules
from pydev.continuity.declarations import matching
from pydev.continuity.hazards import hazards
from pydev.continuity.policy import BENCH, Policy
from pydev.continuity.policy_file import policies
from pydev.continuity.rule import SEVERITIES, Rule
from pydev.errors import PolicyError

COLUMNS: Final = 78
_INDENT: Final = " " * 7

_FAILS: Final = "where the record shows for certain that what the title says did not hold"
_BENCH_FAILS: Final = "never: what is wrong with the bench is not the guest's doing"
_UNKNOWN: Final = (
    "where the record leaves a value open, where an event is within the clocks' uncertainty of the blackout's "
    "ends, and where there is no finish report"
)
_VACUOUS: Final = "where nothing of that is there: a required rule then keeps the verdict from PASS"


def rules_json(policy: Policy | None = None) -> dict[str, Any]:
    """What `luscope rules --json` prints; with a policy, its own rules too, and what it says of each."""
    known = _policies(policy)
    return {
        "rules": [rule.describe() | {"policies": _levels(rule, known)} for rule in _catalogue(policy)],
        "not_observable": {str(number): reason for number, reason in NOT_OBSERVABLE.items()},
    }


def _levels(rule: Rule, known: Sequence[Policy]) -> dict[str, Any]:
    return {
        policy.name: {
            "level": str(policy.level(rule)),
            "exceptions": [e.reason for e in policy.expected_failures if rule.id in e.rules],
        }
        for policy in known
    }


def rules_table(policy: Policy | None = None) -> str:
    """Every rule, causes before consequences: id, severity, title and hazards; then what no rule can see."""
    catalogue = _catalogue(policy)
    width = max(len(rule.id) for rule in catalogue)
    lines = [f"{'rule':<{width}}  severity, title [hazards]"]
    for rule in catalogue:
        numbers = f" [{', '.join(map(str, rule.hazards))}]" if rule.hazards else ""
        lines += _hanging(f"{rule.id:<{width}}  ", f"{rule.severity}  {rule.title}{numbers}", 3)
    lines += ["", "severities"]
    used = {rule.severity for rule in catalogue}
    lines += [f"  {letter}  {meaning}" for letter, meaning in SEVERITIES.items() if letter in used]
    if NOT_OBSERVABLE:
        lines += ["", "hazards that cannot show on this wire"]
        for number, reason in sorted(NOT_OBSERVABLE.items()):
            lines += _hanging(f"  {number:>2}  ", f"{hazards()[number].register}: {reason}")
    return "\n".join(lines)


def explain_rule(rule_id: str, policy: Policy | None = None) -> str:
    """The page about one rule; PolicyError where there is none, in the catalogue or of the policy's own."""
    catalogue = _catalogue(policy)
    rule = next((rule for rule in catalogue if rule.id == rule_id.upper()), None)
    if rule is None:
        ids = ", ".join(rule.id for rule in catalogue)
        raise PolicyError(f"there is no rule {rule_id!r}; there are {ids}")
    right = f"severity {rule.severity}: {SEVERITIES[rule.severity]}"
    fits = len(rule.id) + 2 + len(right) <= COLUMNS
    lines = (
        [f"{rule.id}  {right:>{COLUMNS - len(rule.id) - 2}}"] if fits else [rule.id, f"{right:>{COLUMNS}}"]
    )
    for heading, body in _sections(rule, _policies(policy)):
        if body:
            lines += ["", heading, *body]
    return "\n".join(line.rstrip() for line in lines)


def _sections(rule: Rule, known: Sequence[Policy]) -> Iterator[tuple[str, list[str]]]:
    yield "NAME", _hanging(_INDENT, f"{rule.id} - {rule.title}")
    anything = [f"{_INDENT}any other of configuration space"] if rule.registers else [f"{_INDENT}any"]
    named = [line for name in rule.registers for line in _register(name)]
    yield "REGISTERS", named + anything * rule.judges_any_register
    yield "WRITTEN BY", [line for writer in rule.writers for line in _hanging(_INDENT, writer, 2)]
    yield "WHY IT HARMS", _hanging(_INDENT, rule.why)
    yield "WHEN IT IS FINE", _hanging(_INDENT, rule.acceptable)
    yield "HOW IT IS JUDGED", list(_judged(rule))
    yield "POLICIES", [line for policy in known for line in _policy(rule, policy)]
    yield "PLANTED FAULT", _hanging(_INDENT, rule.planted_fault)
    numbered = hazards()
    yield (
        "HAZARDS",
        [
            line
            for number in rule.hazards
            if number in numbered
            for line in _hanging(f"{_INDENT}{number:>2}  ", numbered[number].line)
        ],
    )
    yield "SOURCE", [line for part in rule.source.split("; ") for line in _hanging(_INDENT, part, 2)]


def _register(name: str) -> Iterator[str]:
    register, _, field = name.partition(".")
    places = [entry.describe(field or None) for entry in matching(register)]
    if len(f"{_INDENT}{name}  {'; '.join(places)}") <= COLUMNS:
        yield f"{_INDENT}{name}  {'; '.join(places)}"
        return
    yield f"{_INDENT}{name}"
    for place in places:
        yield from _hanging(f"{_INDENT}    ", place)


def _judged(rule: Rule) -> Iterator[str]:
    scope = "each function by itself" if rule.is_per_function else "the run as a whole"
    unknown = f"{rule.unknown_when}; and {_UNKNOWN}" if rule.unknown_when else _UNKNOWN
    for label, text in (
        ("examined", rule.examines or scope),
        ("FAIL", _BENCH_FAILS if rule.severity == BENCH else _FAILS),
        ("UNKNOWN", rule.unknown_when if rule.severity == BENCH and rule.unknown_when else unknown),
        ("VACUOUS", rule.vacuous_when or _VACUOUS),
    ):
        yield from _hanging(f"{_INDENT}{label:<9} ", text)


def _policy(rule: Rule, policy: Policy) -> Iterator[str]:
    choices = policy.scopes(rule, ()).choices
    label = f"{_INDENT}{policy.name:<13} "
    if not choices:
        yield from _hanging(label, "off: the policy does not mention it")
    for choice in choices:
        chosen = ", ".join(str(selector) for selector in (*choice.functions, *choice.registers))
        of = f" of {chosen}" if chosen else ""
        because = f": {choice.reason}" if choice.reason else ""
        yield from _hanging(label, f"{choice.level}{of}{because}")
        label = " " * len(label)
    for failure in policy.expected_failures:
        if rule.id in failure.rules:
            yield from _hanging(" " * len(label), f"expected to fail{failure.scope}: {failure.reason}")


def _hanging(label: str, text: str, further: int = 0) -> list[str]:
    """Text after a label, its other lines below its beginning, `further` columns in."""
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=label,
        subsequent_indent=" " * (len(label) + further),
        break_on_hyphens=False,
    ) or [label.rstrip()]


def _catalogue(policy: Policy | None) -> list[Rule]:
    return rules() if policy is None else list(policy.catalogue)


def _policies(policy: Policy | None) -> list[Policy]:
    shipped = list(policies().values())
    return shipped if policy is None or policy in shipped else [*shipped, policy]
