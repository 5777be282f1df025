# SPDX-License-Identifier: MIT
"""A field, or a whole register, that may be written and may not change.

It is compared with what it held when frozen. Where a moment of another value does harm, every write counts;
else only the value at the end does. A value that was never seen is not examined.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydev.continuity.causes import reset_cause
from pydev.continuity.check import Case
from pydev.continuity.evidence import WatchedField, transition, watch
from pydev.continuity.outcome import Finding
from pydev.recording.config import Change, Values, known


@dataclass(frozen=True, slots=True)
class Kept:
    """What has to be kept."""

    register: str
    field: str | None = None
    at_every_moment: bool = False
    """A moment of another value does harm."""
    zero_shows_nothing: bool = False
    """A kernel that keeps a 0 and one that drops everything look the same: it is not examined then."""
    only_while: tuple[str, str] | None = None
    """A register's field that has to be set when frozen, or there is nothing to keep."""
    remark: Callable[[Case, Change], str] | None = None
    """More words for a finding."""

    @property
    def label(self) -> str:
        """Its name."""
        return self.register if self.field is None else f"{self.register}.{self.field}"

    def judge(self, case: Case) -> bool:
        """Compare it; returns whether there was something to examine."""
        watched = watch(case.evidence, case.function, case.blackout, self.register, self.field)
        if watched is None or not self._is_at_work(case):
            return False
        held = known(watched.initial)
        if held is None:
            if any(change.cause != "read" for change, _ in watched.changes):
                case.judgement.doubt(
                    Finding(
                        f"{self.label} of {case.name} was written, and what it held when frozen is not known"
                    )
                )
            case.notes.append(f"{self.label} of {case.name} was never seen")
            return False
        left = [
            (change, is_at_edge)
            for change, is_at_edge in watched.changes
            if watched.values(change)[1] != {held} and held in (watched.values(change)[0] or {held})
        ]
        if self.at_every_moment:
            for change, is_at_edge in left:
                self._report(
                    case, watched, change, _is_other(watched.values(change)[1], held) and not is_at_edge
                )
        elif watched.final != {held} and case.is_comparable:
            self._report_final(case, watched, held, left)
        if held == 0 and self.zero_shows_nothing and not left:
            case.notes.append(f"{self.label} of {case.name} was 0 throughout: nothing could have been lost")
            return False
        return True

    def _is_at_work(self, case: Case) -> bool:
        """Whether what it belongs to was on when frozen; a doubt where that is not known."""
        if self.only_while is None:
            return True
        register, field = self.only_while
        switch = watch(case.evidence, case.function, case.blackout, register, field)
        if switch is None or known(switch.initial) == 0:
            case.notes.append(f"{register}.{field} of {case.name} was off when frozen")
            return False
        if known(switch.initial) is None:
            # Its own check, of the switch, says what it is that nobody knows.
            case.notes.append(f"{register}.{field} of {case.name} was never seen")
            return False
        return True

    def _report_final(
        self, case: Case, watched: WatchedField, held: int, left: list[tuple[Change, bool]]
    ) -> None:
        if not left:
            case.judgement.doubt(
                Finding(
                    f"{self.label} of {case.name} does not hold {held:#x} at the end, and nobody wrote it"
                )
            )
            return
        change, is_at_edge = left[-1]
        self._report(case, watched, change, _is_other(watched.final, held) and not is_at_edge)

    def _report(self, case: Case, watched: WatchedField, change: Change, is_certain: bool) -> None:
        is_certain = is_certain and change.cause != "read"
        note = _changed_fields(watched, change) + (self.remark(case, change) if self.remark else "")
        note += "" if is_certain else " (not certain)"
        finding = transition(case.evidence, case.function, change, self.register, watched.entry, note)
        if is_certain:
            case.judgement.fail(finding, reset_cause(case.evidence, case.function, change))
        else:
            case.judgement.doubt(finding)


def _is_other(values: Values, held: int) -> bool:
    return bool(values) and held not in values


def _changed_fields(watched: WatchedField, change: Change) -> str:
    """Of a whole register, which fields are others now."""
    before, after = known(change.before), known(change.after)
    if watched.entry is not None or before is None or after is None:
        return ""
    fields = watched.history.register.fields.values()
    names = [field.name for field in fields if field.extract(before) != field.extract(after)]
    return f" ({', '.join(names)})" if names else ""
