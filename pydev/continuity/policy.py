# SPDX-License-Identifier: MIT
"""Which rules hold, for which functions and registers, and which failures are known.

A policy is a TOML file (`policy_file`); those that come with this project are in `policies/`. What is here is
what the verifier asks of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydev.continuity.catalogue import rules
from pydev.continuity.expected_failure import ExpectedFailure
from pydev.continuity.rule import Rule
from pydev.continuity.scope import Choice, Level, Scopes
from pydev.continuity.selection import judged_registers
from pydev.recording.functions import FunctionEntry

RECORD_RULE: Final = "RECORD-COMPLETE"
"""Part of every policy, and required: nothing can be judged from an incomplete record."""
BENCH: Final = "B"
"""The severity of rules that every policy requires, whatever it says."""


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A user's Python file, as it was read."""

    path: Path
    text: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Choices in order, the last one that speaks of something being right; and failures that are expected."""

    name: str
    description: str = ""
    base: "Policy | None" = None
    """What it extends; its own choices and expected failures come after that one's."""
    unexcused: tuple[str, ...] = ()
    """Rules, or `*`, whose expected failures in what it extends do not hold here."""
    own_choices: tuple[Choice, ...] = ()
    own_expected: tuple[ExpectedFailure, ...] = ()
    rule_files: tuple[RuleFile, ...] = ()
    path: Path | None = None
    """The file it was read from; None for one that comes with this project."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All choices, those of what it extends first."""
        return (*(self.base.choices if self.base else ()), *self.own_choices)

    @property
    def expected_failures(self) -> tuple[ExpectedFailure, ...]:
        """All expected failures, those of what it extends first."""
        inherited = (f.without(self.unexcused) for f in (self.base.expected_failures if self.base else ()))
        return (*(failure for failure in inherited if failure is not None), *self.own_expected)

    @property
    def user_rules(self) -> tuple[Rule, ...]:
        """The rules of Python files."""
        own = tuple(rule for file in self.rule_files for rule in file.rules)
        return (*(self.base.user_rules if self.base else ()), *own)

    @property
    def catalogue(self) -> tuple[Rule, ...]:
        """Every rule there is under this policy, judged or not: the catalogue's, then the user's."""
        return (*rules(), *self.user_rules)

    def choices_for(self, rule: Rule) -> tuple[Choice, ...]:
        """What is said of a rule, in order; a rule of which nothing is said is off."""
        if rule.severity == BENCH:
            return (Choice((rule.id,), Level.REQUIRED, reason="without it no other answer counts"),)
        # A user who names a file of rules wants them judged.
        own = (Choice((rule.id,), Level.REQUIRED),) if rule in self.user_rules else ()
        said = (choice for choice in self.choices if choice.speaks_of(rule.id))
        # What is said of every rule's functions says nothing of a rule about the run as a whole.
        return (*own, *(choice for choice in said if choice.is_whole or rule.is_per_function))

    def level(self, rule: Rule) -> Level:
        """The highest level that a rule has for anything."""
        levels = self.scopes(rule, ()).levels
        return max(levels, key=lambda level: level.weight, default=Level.OFF)

    def judged(self) -> list[Rule]:
        """The rules that are judged, causes before consequences."""
        return [rule for rule in self.catalogue if self.level(rule) is not Level.OFF]

    def scopes(self, rule: Rule, functions: Sequence[FunctionEntry]) -> Scopes:
        """A rule's choices, on a recording's functions."""
        choices = self.choices_for(rule)
        registers = judged_registers(rule.registers)
        if rule.judges_any_register:
            registers += tuple((s.register, s.field) for choice in choices for s in choice.registers)
        return Scopes(choices, functions, registers)
