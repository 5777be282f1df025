# SPDX-License-Identifier: MIT
"""A policy written out again: as the files that a run's directory keeps of a user's own."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydev.continuity.expected_failure import ExpectedFailure
from pydev.continuity.policy import Policy
from pydev.continuity.scope import Choice


def flattened(policy: Policy) -> tuple[str, dict[str, str]]:
    """A user's policy as one file, and the files of rules that it names, by the names that it gives them.

    What it extends is written into it, but for a shipped policy, which it still extends.
    """
    own: list[Policy] = []
    base: Policy | None = policy
    while base is not None and base.path is not None:
        own.insert(0, base)
        base = base.base
    files = [file for part in own for file in part.rule_files]
    names = [f"{number}-{file.path.name}" for number, file in enumerate(files, start=1)]
    head = {
        "name": policy.name,
        "description": policy.description,
        "extends": base.name if base else "",
        "rules": names,
        "unexcused": _unexcused(own, base),
    }
    tables = [_table("judge", _choice_table(choice)) for part in own for choice in part.own_choices]
    expected: list[ExpectedFailure] = []
    for part in own:
        left = (failure.without(part.unexcused) for failure in expected)
        expected = [*(failure for failure in left if failure is not None), *part.own_expected]
    tables += [_table("exception", _expected_table(failure)) for failure in expected]
    text = "\n".join([_lines(head), *tables])
    return text, {name: file.text for name, file in zip(names, files, strict=True)}


def _unexcused(own: Sequence[Policy], base: Policy | None) -> list[str]:
    """What the user's own files together take out of the shipped policy's expected failures."""
    taken = {rule for part in own for rule in part.unexcused}
    expected = {rule for failure in (base.expected_failures if base else ()) for rule in failure.rules}
    return sorted(expected if "*" in taken else expected & taken)


def _choice_table(choice: Choice) -> dict[str, Any]:
    return {
        "rule": list(choice.rules),
        "functions": [str(selector) for selector in choice.functions],
        "registers": [str(selector) for selector in choice.registers],
        "level": str(choice.level),
        "reason": choice.reason,
    }


def _expected_table(failure: ExpectedFailure) -> dict[str, Any]:
    return {
        "rule": list(failure.rules),
        "functions": [str(selector) for selector in failure.functions],
        "registers": [str(selector) for selector in failure.registers],
        "phases": list(failure.phases),
        "writers": list(failure.writers),
        "unattributed": failure.unattributed,
        "caused_by": failure.caused_by or "",
        "reason": failure.reason,
    }


def _table(name: str, members: Mapping[str, Any]) -> str:
    return f"[[{name}]]\n{_lines(members)}"


def _lines(members: Mapping[str, Any]) -> str:
    # JSON's strings and lists of them are TOML's, but for the one character that TOML wants escaped.
    return "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")
        for key, value in members.items()
        if value
    )
