# SPDX-License-Identifier: MIT
"""When a field left the value that it had when the guest was frozen, and for how long.

For rules to which a moment of another value matters. The value at the end is only one of the moments.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydev.continuity.causes import reset_cause
from pydev.continuity.evidence import Evidence, WatchedField, transition
from pydev.continuity.outcome import Finding, Judgement
from pydev.recording.config import Change, known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout


@dataclass(frozen=True, slots=True)
class Departure:
    """One time that a field was something else than when frozen."""

    change: Change
    back_ns: int | None
    """When it held the same again for certain; None: never before the blackout's end."""
    is_certain: bool

    def during(self, blackout: Blackout) -> str:
        """How long, in words."""
        if self.back_ns is not None:
            return f", for {(self.back_ns - self.change.t_ns) / 1e6:.3f} ms"
        return ", and not back by finished" if blackout.is_finished else ", and not back"


def departures(watched: WatchedField, held: int) -> Iterator[Departure]:
    """Each departure from `held`, in time order. One at the blackout's edge, or seen by a read, is not certain."""
    for position, (change, is_at_edge) in enumerate(watched.changes):
        before, after = watched.values(change)
        if after == {held} or (held not in before and before):
            continue
        later = (c for c, _ in watched.changes[position + 1 :] if watched.values(c)[1] == {held})
        back = next(later, None)
        is_certain = bool(after) and held not in after and change.cause != "read" and not is_at_edge
        yield Departure(change, None if back is None else back.t_ns, is_certain)


def report_departures(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    watched: WatchedField,
    *,
    note: str = "",
    cause: str | None = None,
    without_resets: bool = False,
) -> bool:
    """Fail, or doubt, for each departure; returns whether the value when frozen is known at all.

    `cause` is the rule that explains a departure for good, where it has failed for this function. Without
    resets, what one took is left to RESET, where that has failed.
    """
    register = watched.history.register.name
    held = known(watched.initial)
    if held is None:
        if watched.changes:
            name = register if watched.entry is None else f"{register}.{watched.entry.name}"
            where = evidence.name(function, blackout.begin.t_ns)
            judgement.doubt(
                Finding(f"{name} of {where} was written, and what it held when frozen is not known")
            )
        return False
    for departure in departures(watched, held):
        blamed = reset_cause(evidence, function, departure.change)
        if without_resets and blamed is not None:
            continue
        words = departure.during(blackout) + note + ("" if departure.is_certain else " (not certain)")
        finding = transition(evidence, function, departure.change, register, watched.entry, words)
        is_for_good = cause is not None and departure.back_ns is None and evidence.failed(cause, function)
        if not departure.is_certain:
            judgement.doubt(finding)
        else:
            judgement.fail(finding, cause if blamed is None and is_for_good else blamed)
    return True
