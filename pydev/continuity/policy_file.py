# SPDX-License-Identifier: MIT
"""Policies as TOML: those that come with this project, and a user's own.

    name = "mine"
    description = "…"
    extends = "series"                  # a shipped policy, or a file
    rules = ["my_rules.py"]             # a user's own rules

    [[judge]]                           # the last one that speaks of a rule, a function and a register is right
    rule = "BME-BRIDGE"                 # or a list, or "*"
    functions = ["type:root_port"]      # nothing: all
    registers = ["COMMAND.bus_master"]  # nothing: all
    level = "required"                  # or "optional", "off"
    reason = "…"

    [[exception]]                       # a failure that is expected: all that is said has to hold of a finding
    rule = "BME-BRIDGE"
    functions = ["path"]
    registers = ["COMMAND.bus_master"]
    phases = ["shutdown"]
    writers = ["pci_clear_master"]      # kernel functions, one of them on the call stack
    unattributed = true                 # ... or nobody's, where the recording attributes no write at all
    caused_by = "BME-ENDPOINT"          # a consequence of this rule's failures, themselves all excused
    reason = "…"

README has the table. Everything wrong in a file is one PolicyError, of one line.
"""

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from pydev.continuity.declarations import declared, is_declared
from pydev.continuity.expected_failure import ExpectedFailure
from pydev.continuity.policy import BENCH, Policy, RuleFile
from pydev.continuity.rule import Rule
from pydev.continuity.scope import Choice, Level
from pydev.continuity.selection import FunctionSelector, RegisterSelector, judged_registers
from pydev.continuity.user_rules import load_rules
from pydev.errors import PolicyError
from pydev.recording.phases import PHASES

T = TypeVar("T")

_KEYS: Final = ("name", "description", "extends", "rules", "unexcused", "judge", "exception")
_JUDGE_KEYS: Final = ("rule", "functions", "registers", "level", "reason")
_EXCEPTION_KEYS: Final = (
    "rule", "functions", "registers", "phases", "writers", "unattributed", "caused_by", "reason",
)  # fmt: skip
_CRITERIA: Final = ("functions", "registers", "phases", "writers", "caused_by")
_MOST_EXTENDED: Final = 8


def policies() -> Mapping[str, Policy]:
    """The policies that come with this project, by name."""
    return {name: _shipped(name) for name in _shipped_names()}


def load_policy(name: str | Path) -> Policy:
    """The shipped policy of that name, or the TOML file at that path; PolicyError says what is wrong."""
    return _load(name, Path(), ())


def _load(name: str | Path, folder: Path, above: tuple[Path, ...]) -> Policy:
    if str(name) in _shipped_names():
        return _shipped(str(name))
    path = folder / name
    if path.resolve() in above or len(above) >= _MOST_EXTENDED:
        raise PolicyError(f"{path}: extends itself, by way of {', '.join(str(p) for p in above)}")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        shipped = ", ".join(_shipped_names())
        raise PolicyError(
            f"{path}: neither a shipped policy ({shipped}) nor a file: {error.strerror}"
            f"{_nearest(str(name), _shipped_names())}"
        ) from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    policy = _parse(text, str(path), path.parent, (*above, path.resolve()))
    if policy.name in _shipped_names():
        raise PolicyError(f"{path}: {policy.name!r} is the name of a shipped policy; give it another")
    return replace(policy, path=path)


@cache
def _shipped_names() -> tuple[str, ...]:
    folder = resources.files("pydev.continuity") / "policies"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def _shipped(name: str) -> Policy:
    file = resources.files("pydev.continuity") / "policies" / f"{name}.toml"
    return _parse(file.read_text(encoding="utf-8"), f"{name}.toml", Path(), ())


def _parse(text: str, where: str, folder: Path, above: tuple[Path, ...]) -> Policy:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{where}: not TOML: {error}") from error
    _check_keys(document, _KEYS, where)
    extends = _string(document, "extends", where)
    files = _strings(document, "rules", where, "a list of Python files; levels are [[judge]] entries")
    policy = Policy(
        name=_string(document, "name", where) or Path(where).stem,
        description=_string(document, "description", where),
        unexcused=tuple(_strings(document, "unexcused", where)),
        base=_load(extends, folder, above) if extends else None,
        rule_files=tuple(_rule_file(folder / file) for file in files),
    )
    _check_unique(policy, where)
    known = {rule.id: rule for rule in policy.catalogue}
    _check_unexcused(policy, known, where)
    choices = _entries(document, "judge", where, _JUDGE_KEYS, lambda t, w: _choice(t, w, known))
    expected = _entries(document, "exception", where, _EXCEPTION_KEYS, lambda t, w: _expected(t, w, known))
    policy = replace(policy, own_choices=choices, own_expected=expected)
    if all(rule.severity == BENCH for rule in policy.judged()):
        raise PolicyError(f'{where}: judges nothing; write [[judge]] entries, or extends = "series"')
    return policy


def _rule_file(path: Path) -> RuleFile:
    return RuleFile(path, *load_rules(path))


def _check_unexcused(policy: Policy, known: Iterable[str], where: str) -> None:
    excused = {
        rule for failure in (policy.base.expected_failures if policy.base else ()) for rule in failure.rules
    }
    for rule_id in policy.unexcused:
        if rule_id != "*" and rule_id not in known:
            raise PolicyError(f"{where}: unexcused: {_no_rule(rule_id, known)}")
        if rule_id not in (*excused, "*"):
            raise PolicyError(f"{where}: unexcused: nothing that it extends expects {rule_id} to fail")


def _check_unique(policy: Policy, where: str) -> None:
    seen: set[str] = set()
    for rule in policy.user_rules:
        if rule.id in seen:
            raise PolicyError(f"{where}: two files of rules have a rule {rule.id}")
        seen.add(rule.id)


# ------------------------------------------------------------------- entries


def _entries(
    document: Mapping[str, Any],
    key: str,
    where: str,
    known: Sequence[str],
    parse: Callable[[Mapping[str, Any], str], T],
) -> tuple[T, ...]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(table, Mapping) for table in value):
        raise PolicyError(f"{where}: {key} has to be written [[{key}]], once for each")
    parsed = []
    for number, table in enumerate(value, start=1):
        here = f"{where}: [[{key}]] {number}"
        _check_keys(table, known, here)
        parsed.append(parse(table, here))
    return tuple(parsed)


def _choice(table: Mapping[str, Any], where: str, known: Mapping[str, Rule]) -> Choice:
    named = _rule_ids(table, where, known, every=True)
    level = _string(table, "level", where)
    if level not in list(Level):
        raise PolicyError(f"{where}: level has to be {', '.join(Level)}, not {level!r}")
    choice = Choice(
        named,
        Level(level),
        _functions(table, where),
        _selected(table, "registers", where, RegisterSelector.parse),
        _string(table, "reason", where),
    )
    for rule in (known[rule_id] for rule_id in named if rule_id != "*"):
        if rule.severity == BENCH and not (choice.is_whole and choice.level is Level.REQUIRED):
            raise PolicyError(f"{where}: {rule.id} is always required: without it no other answer counts")
        _check_scope(rule, choice.functions, choice.registers, where)
    if "*" in named and choice.registers:
        raise PolicyError(f'{where}: registers need rules by name, not "*"')
    return choice


def _expected(table: Mapping[str, Any], where: str, known: Mapping[str, Rule]) -> ExpectedFailure:
    named = _rule_ids(table, where, known, every=False)
    phases = _strings(table, "phases", where)
    for phase in phases:
        if phase not in PHASES:
            raise PolicyError(f"{where}: {phase!r} is no phase; there are {', '.join(PHASES)}")
    cause = _string(table, "caused_by", where)
    if cause and cause not in known:
        raise PolicyError(f"{where}: caused_by: {_no_rule(cause, known)}")
    failure = ExpectedFailure(
        named,
        _string(table, "reason", where).strip(),
        _functions(table, where),
        _selected(table, "registers", where, RegisterSelector.parse),
        tuple(phases),
        tuple(_strings(table, "writers", where)),
        unattributed=_flag(table, "unattributed", where),
        caused_by=cause or None,
    )
    if failure.unattributed and not failure.writers:
        raise PolicyError(f"{where}: unattributed is about writers, and there are none")
    if not failure.reason:
        raise PolicyError(f"{where}: reason is missing: why is the failure expected?")
    if not any(getattr(failure, name) for name in _CRITERIA):
        raise PolicyError(
            f"{where}: excuses every failure of a rule; say which by {', '.join(_CRITERIA)}, "
            'or judge the rule with level = "off"'
        )
    for rule in (known[rule_id] for rule_id in named):
        if rule.severity == BENCH or not (rule.is_per_function or rule.registers):
            raise PolicyError(
                f"{where}: {rule.id} judges the run as a whole, of which nothing can be excused"
            )
        _check_scope(rule, failure.functions, (), where)
        _check_registers(rule, failure.registers, where)
    return failure


def _check_scope(
    rule: Rule,
    functions: Sequence[FunctionSelector],
    registers: Sequence[RegisterSelector],
    where: str,
) -> None:
    if (functions or registers) and not rule.is_per_function:
        raise PolicyError(f"{where}: {rule.id} judges the run as a whole: it has nothing to choose from")
    _check_registers(rule, registers, where)


def _check_registers(rule: Rule, registers: Sequence[RegisterSelector], where: str) -> None:
    judged = judged_registers(rule.registers)
    if rule.judges_any_register:
        judged = (*judged, *((name, None) for name in declared()))
    for selector in registers:
        if not any(selector.touches(register, field) for register, field in judged):
            what = ", ".join(rule.registers) or "nothing by a register's name"
            raise PolicyError(f"{where}: {rule.id} does not judge {selector}; it judges {what}")
        if selector.field is not None and not _has_field(selector, judged):
            raise PolicyError(f"{where}: {selector.register} has no field {selector.field!r}")


def _has_field(selector: RegisterSelector, judged: Sequence[tuple[str, str | None]]) -> bool:
    return is_declared(selector) or any(
        field and selector.covers(register, field) for register, field in judged
    )


def _rule_ids(
    table: Mapping[str, Any], where: str, known: Mapping[str, Rule], *, every: bool
) -> tuple[str, ...]:
    value = table.get("rule")
    ids = [value] if isinstance(value, str) else value
    if not isinstance(ids, list) or not ids or not all(isinstance(rule_id, str) for rule_id in ids):
        raise PolicyError(f"{where}: rule has to be a rule's id, or a list of them")
    for rule_id in ids:
        if rule_id not in known and not (every and rule_id == "*"):
            raise PolicyError(f"{where}: {_no_rule(rule_id, known)}")
    return tuple(ids)


def _no_rule(rule_id: str, known: Iterable[str]) -> str:
    return f"there is no rule {rule_id!r}{_nearest(rule_id, known)}; `luscope rules` lists them"


def _functions(table: Mapping[str, Any], where: str) -> tuple[FunctionSelector, ...]:
    selectors = _selected(table, "functions", where, FunctionSelector.parse)
    # `all` is what nothing said means.
    return () if any(selector.kind == "all" for selector in selectors) else selectors


def _selected(table: Mapping[str, Any], key: str, where: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    words = _strings(table, key, where)
    if key in table and not words:
        raise PolicyError(f"{where}: {key} is empty, which selects nothing; leave it out for all")
    try:
        return tuple(parse(word) for word in words)
    except PolicyError as error:
        raise PolicyError(f"{where}: {key}: {error}") from error


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise PolicyError(
                f"{where}: unknown key {key!r}{_nearest(key, known)}; there are {', '.join(known)}"
            )


def _string(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise PolicyError(f"{where}: {key} has to be a string, not {value!r}")
    return value


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise PolicyError(f"{where}: {key} has to be true or false, not {value!r}")
    return value


def _strings(table: Mapping[str, Any], key: str, where: str, what: str = "a list of strings") -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise PolicyError(f"{where}: {key} has to be {what}")
    return value


def _nearest(word: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""
