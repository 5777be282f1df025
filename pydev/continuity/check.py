# SPDX-License-Identifier: MIT
"""What a rule of several checks is made of: each check looks at one function over one blackout.

A rule passes only if some check found something to examine. What a check had nothing to look at for, it notes;
the notes become the reasons of a VACUOUS rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydev.continuity.causes import shared
from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout


@dataclass(frozen=True, slots=True)
class Case:
    """One function over one blackout, and where what is found goes."""

    evidence: Evidence
    judgement: Judgement
    blackout: Blackout
    function: FunctionEntry
    notes: list[str] = field(default_factory=list)
    """Why there was nothing to examine."""

    @property
    def name(self) -> str:
        """The function's BDF when frozen."""
        return self.evidence.name(self.function, self.blackout.begin.t_ns)

    @property
    def is_comparable(self) -> bool:
        """Whether the blackout has an end at which values can be compared with the beginning's."""
        return self.blackout.is_over and self.blackout.panic is None


class Check(Protocol):
    """One thing to look at."""

    def judge(self, case: Case) -> bool:
        """Fail, doubt or note what is found; returns whether there was something to examine."""


def judge_checks(
    evidence: Evidence, functions: Sequence[FunctionEntry], checks: Sequence[Check], what: str
) -> Result:
    """Every check of every function in every blackout; `what` is that which has to be there to examine."""
    judgement = Judgement()
    notes: list[str] = []
    for blackout in evidence.blackouts:
        for function in functions:
            case = Case(evidence, judgement, blackout, function, notes)
            was_examined = [check.judge(case) for check in checks]
            judgement.examined += any(was_examined)
            if any(was_examined) and not blackout.is_over:
                judgement.doubt(
                    Finding(f"no finish report: {case.name} was not seen through the whole blackout")
                )
    if not judgement.examined:
        for note in dict.fromkeys(notes):
            judgement.vacuous(note)
    nothing = f"nothing on a preserved path has {what}" if functions else "nothing is preserved"
    return judgement.result(
        caused_by=shared(evidence, judgement.causes),
        nothing=nothing if evidence.blackouts else "the guest was never frozen",
    )


def path(evidence: Evidence) -> tuple[FunctionEntry, ...]:
    """The preserved endpoints, and every bridge above one."""
    return (*evidence.preserved, *evidence.bridges)
