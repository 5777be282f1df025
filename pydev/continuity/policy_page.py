# SPDX-License-Identifier: MIT
"""What a policy says, for people and programs: its rules by level, narrowed choices, expected failures."""

import textwrap
from collections.abc import Iterator
from typing import Any, Final

from pydev.continuity.policy import BENCH, Policy
from pydev.continuity.rule import Rule
from pydev.continuity.scope import Choice, Level

COLUMNS: Final = 78


def policy_json(policy: Policy) -> dict[str, Any]:
    """A policy as data: each rule's choices in order, the last that speaks of something being right."""
    return {
        "name": policy.name,
        "description": policy.description,
        "extends": policy.base.name if policy.base else None,
        "rules": {
            rule.id: [_choice(choice) for choice in policy.scopes(rule, ()).choices]
            for rule in policy.catalogue
        },
        "exceptions": [
            {
                "rules": list(failure.rules),
                "functions": [str(selector) for selector in failure.functions],
                "registers": [str(selector) for selector in failure.registers],
                "phases": list(failure.phases),
                "writers": list(failure.writers),
                "unattributed": failure.unattributed,
                "caused_by": failure.caused_by,
                "reason": failure.reason,
            }
            for failure in policy.expected_failures
        ],
    }


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "level": str(choice.level),
        "functions": [str(selector) for selector in choice.functions],
        "registers": [str(selector) for selector in choice.registers],
        "reason": choice.reason,
    }


def policy_page(policy: Policy) -> str:
    """A policy for a terminal, at most 78 columns."""
    lines = _wrapped(f"{policy.name}: {policy.description}" if policy.description else policy.name, 0)
    if policy.base is not None:
        lines += _wrapped(f"extends {policy.base.name}", 2)
    for level in sorted(Level, key=lambda level: -level.weight):
        if body := list(_level(policy, level)):
            lines += ["", str(level), *body]
    if apart := [line for rule in policy.catalogue for line in _apart(policy, rule)]:
        lines += ["", "chosen by function or register (the last that speaks of something is right)", *apart]
    if policy.expected_failures:
        lines += ["", "expected failures"]
        for failure in policy.expected_failures:
            lines += _wrapped(f"{', '.join(failure.rules)}{failure.scope}: {failure.reason}", 2)
    return "\n".join(lines)


def _level(policy: Policy, level: Level) -> Iterator[str]:
    """The rules that are at a level throughout, together where they have the same reason."""
    by_reason: dict[str, list[str]] = {}
    for rule in policy.catalogue:
        choices = policy.scopes(rule, ()).choices
        if not choices and level is Level.OFF:
            by_reason.setdefault("not mentioned", []).append(rule.id)
        elif len(choices) == 1 and choices[0].is_whole and choices[0].level is level:
            reason = "" if rule.severity == BENCH else choices[0].reason
            by_reason.setdefault(reason, []).append(rule.id)
    for reason, ids in by_reason.items():
        yield from _wrapped(", ".join(ids) + (f": {reason}" if reason else ""), 2)


def _apart(policy: Policy, rule: Rule) -> Iterator[str]:
    choices = policy.scopes(rule, ()).choices
    if len(choices) == 1 and choices[0].is_whole:
        return
    for choice in choices:
        chosen = (
            ", ".join(str(selector) for selector in (*choice.functions, *choice.registers)) or "everything"
        )
        because = f": {choice.reason}" if choice.reason else ""
        yield from _wrapped(f"{rule.id} {choice.level} of {chosen}{because}", 2)


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
    )
