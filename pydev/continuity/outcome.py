# SPDX-License-Identifier: MIT
"""What a rule says: outcome, findings, reasons; and how outcomes add up."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Of a rule and of a whole verdict."""

    PASS = "PASS"
    VACUOUS = "VACUOUS"
    """Nothing was examined."""
    UNKNOWN = "UNKNOWN"
    """The record does not decide, or the rule crashed."""
    FAIL = "FAIL"

    @property
    def weight(self) -> int:
        """FAIL > UNKNOWN > VACUOUS > PASS."""
        return list(Outcome).index(self)


def heaviest(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that wins; VACUOUS where there is none."""
    return max(outcomes, key=lambda outcome: outcome.weight, default=Outcome.VACUOUS)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found wrong, or that keeps it from knowing."""

    message: str
    t_ns: int | None = None
    """CLOCK_MONOTONIC as recorded; reports make it relative to the recording's start."""
    phase: str | None = None
    bdf: int | None = None
    register: str | None = None
    field: str | None = None
    width: int | None = None
    """Bytes of the access; None where the record does not tell."""
    before: int | None = None
    """Of the whole register."""
    after: int | None = None
    function: str | None = None
    """The kernel function that made the write (`Attribution.function`); None where it is not known."""
    stack: tuple[str, ...] = ()
    """Its call stack, innermost first."""
    count: int = 1
    """How many things like it this one stands for: time, phase and writer are then the first one's only."""


@dataclass(frozen=True, slots=True)
class Result:
    """A rule's answer."""

    outcome: Outcome
    examined: int
    """How many things were looked at: functions, streams, updates, events; the rule says which."""
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why nothing was examined, for people; doubts are findings."""
    caused_by: str | None = None
    """The rule whose failure explains every finding of this one."""
    doubts: tuple[Finding, ...] = ()
    """Of a FAIL: what the record does not decide beside it. They count again where a policy excuses the rest."""

    @property
    def without_failures(self) -> Outcome:
        """What a FAIL would have been without its findings."""
        if self.doubts:
            return Outcome.UNKNOWN
        return Outcome.VACUOUS if self.reasons or not self.examined else Outcome.PASS


class Judgement:
    """Collects what a rule comes across, and weighs it at the end."""

    def __init__(self) -> None:
        self.examined = 0
        self._failures: list[Finding] = []
        self.causes: set[str | None] = set()
        """What caused the failures so far; None for one that nothing else explains."""
        self._doubts: list[Finding] = []
        self._vacuous: list[str] = []

    def fail(self, finding: Finding, cause: str | None = None) -> None:
        """The promise was broken, perhaps in consequence of another rule's failure."""
        self._failures.append(finding)
        self.causes.add(cause)

    def doubt(self, finding: Finding) -> None:
        """The record does not decide."""
        self._doubts.append(finding)

    def vacuous(self, reason: str) -> None:
        """Something that the rule is for was not there to be examined."""
        self._vacuous.append(reason)

    @property
    def has_failed(self) -> bool:
        """Whether anything was broken so far."""
        return bool(self._failures)

    def result(self, *, caused_by: str | None = None, nothing: str = "nothing to examine") -> Result:
        """FAIL with findings, else UNKNOWN with doubts, else VACUOUS, else PASS."""
        if self._failures:
            findings = tuple(sorted(self._failures, key=lambda finding: finding.t_ns or 0))
            doubts = tuple(self._doubts)
            return Result(Outcome.FAIL, self.examined, findings, tuple(self._vacuous), caused_by, doubts)
        if self._doubts:
            return Result(Outcome.UNKNOWN, self.examined, tuple(self._doubts), tuple(self._vacuous))
        if self._vacuous or not self.examined:
            return Result(Outcome.VACUOUS, self.examined, (), tuple(self._vacuous) or (nothing,))
        return Result(Outcome.PASS, self.examined)
