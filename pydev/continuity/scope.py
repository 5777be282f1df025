# SPDX-License-Identifier: MIT
"""What of a recording one rule is judged on: the policy's choices, resolved for the recording's functions.

A policy says for each rule, function and register whether it is required, optional or off; the last choice that
speaks of all three wins. What is looked at as a whole (a register of which a policy names one field) is never
weakened by a choice for a part of it, and always strengthened by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydev.continuity.selection import FunctionSelector, RegisterSelector
from pydev.recording.functions import FunctionEntry


class Level(StrEnum):
    """How much a rule counts."""

    OFF = "off"
    OPTIONAL = "optional"
    """Its VACUOUS does not count; its FAIL and UNKNOWN do."""
    REQUIRED = "required"

    @property
    def weight(self) -> int:
        """OFF < OPTIONAL < REQUIRED."""
        return list(Level).index(self)


@dataclass(frozen=True, slots=True)
class Choice:
    """One `[[judge]]` of a policy. Nothing said about functions or registers means all of them."""

    rules: tuple[str, ...]
    """Ids, or `*` for every rule."""
    level: Level
    functions: tuple[FunctionSelector, ...] = ()
    registers: tuple[RegisterSelector, ...] = ()
    reason: str = ""

    def speaks_of(self, rule_id: str) -> bool:
        """Whether it is about this rule."""
        return rule_id in self.rules or "*" in self.rules

    @property
    def is_whole(self) -> bool:
        """Whether it is about all functions and registers, so that nothing before it matters."""
        return not self.functions and not self.registers


@dataclass(frozen=True, slots=True)
class _Resolved:
    choice: Choice
    functions: frozenset[int] | None
    """None: all."""

    def is_about(self, index: int) -> bool:
        return self.functions is None or index in self.functions


class Scopes:
    """One rule's choices on one topology: which levels there are, and the scope of each."""

    def __init__(
        self,
        choices: Sequence[Choice],
        functions: Sequence[FunctionEntry],
        registers: Sequence[tuple[str, str | None]] = (),
    ) -> None:
        """`choices` in the policy's order; `registers` what the rule judges by name."""
        wholes = [number for number, choice in enumerate(choices) if choice.is_whole]
        effective = choices[wholes[-1] :] if wholes else choices
        self._functions = tuple(functions)
        self._aspects: tuple[tuple[str | None, str | None], ...] = ((None, None), *registers)
        self._resolved = tuple(_Resolved(choice, _indexes(choice, functions)) for choice in effective)
        self.levels = frozenset(choice.level for choice in effective) - {Level.OFF}
        """The levels that the policy speaks of."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices that matter: from the last one about everything on."""
        return tuple(resolved.choice for resolved in self._resolved)

    @property
    def is_plain(self) -> bool:
        """Whether one level holds for everything."""
        return len(self._resolved) == 1 and self._resolved[0].choice.is_whole

    @property
    def chooses_registers(self) -> bool:
        """Whether some choice is about registers."""
        return any(resolved.choice.registers for resolved in self._resolved)

    def level(self, index: int, register: str | None = None, field: str | None = None) -> Level:
        """What holds for a function and something that is looked at there; no register for anything else."""
        level = Level.OFF
        for resolved in self._resolved:
            if resolved.is_about(index) and _speaks(resolved.choice, register, field, level):
                level = resolved.choice.level
        return level

    def scope(self, level: Level, only: Choice | None = None) -> "Scope":
        """What is judged at a level: all of it, or what one choice speaks of."""
        inside = frozenset(
            function.index
            for function in self._functions
            if any(self.holds(level, only, function.index, *aspect) for aspect in self._aspects)
        )
        return Scope(self, level, inside, only)

    def holds(
        self, level: Level, only: Choice | None, index: int, register: str | None, field: str | None
    ) -> bool:
        """Whether a function's register is judged at a level, and by a choice if one is given."""
        if self.level(index, register, field) is not level:
            return False
        named = next((r for r in self._resolved if r.choice is only), None)
        return named is None or (named.is_about(index) and _speaks(named.choice, register, field, Level.OFF))

    def demands(self) -> tuple[Choice, ...]:
        """The choices that require something of some functions or registers: each has to find something."""
        return tuple(
            r.choice for r in self._resolved if r.choice.level is Level.REQUIRED and not r.choice.is_whole
        )

    def absent(self, choice: Choice) -> list[str]:
        """What a choice speaks of and this recording does not have."""
        missing = [
            f"{selector}"
            for selector in choice.functions
            if selector.is_name and not selector.indexes(self._functions)
        ]
        found = _indexes(choice, self._functions)
        if found is not None and not found:
            return [str(selector) for selector in choice.functions]
        chosen = [f for f in self._functions if found is None or f.index in found]
        return missing + [
            str(selector) for selector in choice.registers if not any(_declares(f, selector) for f in chosen)
        ]

    @property
    def unmatched(self) -> list[tuple[Choice, list[str]]]:
        """Every choice that speaks of something absent, with what is."""
        return [(r.choice, absent) for r in self._resolved if (absent := self.absent(r.choice))]


@dataclass(frozen=True, slots=True)
class Scope:
    """The functions and registers of one judgement."""

    _scopes: Scopes
    _level: Level
    functions: frozenset[int]
    """Indexes."""
    _only: Choice | None = None

    def has_function(self, function: FunctionEntry) -> bool:
        """Whether a function is judged at all."""
        return function.index in self.functions

    def has_register(self, function: FunctionEntry, register: str, field: str | None) -> bool:
        """Whether a register or a field of a function is judged."""
        return self._scopes.holds(self._level, self._only, function.index, register, field)

    @property
    def chooses_registers(self) -> bool:
        """Whether it leaves some registers of its functions out."""
        return self._scopes.chooses_registers


def _indexes(choice: Choice, functions: Sequence[FunctionEntry]) -> frozenset[int] | None:
    if not choice.functions:
        return None
    return frozenset().union(*(selector.indexes(functions) for selector in choice.functions))


def _speaks(choice: Choice, register: str | None, field: str | None, current: Level) -> bool:
    if not choice.registers:
        return True
    if register is None:
        return False
    if choice.level.weight > current.weight:
        return any(selector.touches(register, field) for selector in choice.registers)
    return any(selector.covers(register, field) for selector in choice.registers)


def _declares(function: FunctionEntry, selector: RegisterSelector) -> bool:
    return any(
        selector.covers(name, None) or any(selector.covers(name, field) for field in entry.fields)
        for name, entry in function.registers.items()
    )
