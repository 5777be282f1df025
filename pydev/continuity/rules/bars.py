# SPDX-License-Identifier: MIT
"""Base address registers of preserved endpoints.

Writers, linux 7.3: `__pci_size_bars` (drivers/pci/probe.c: hazard 19), which sizes and puts back;
drivers/pci/setup-res.c (49), which moves.
"""

import re
from typing import Final

from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.evidence import Evidence, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout

_BAR: Final = re.compile(r"BAR\d")


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
    nothing = "no preserved endpoint has a BAR in use" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    timeline = evidence.timeline
    bdf = timeline.bdf_at(function.index, blackout.begin.t_ns)
    for register in sorted(filter(_BAR.fullmatch, function.registers)):
        watched = watch(evidence, function, blackout, register)
        if watched is None or known(watched.initial) == 0:
            continue
        held, final = known(watched.initial), known(watched.final)
        name = evidence.name(function, blackout.begin.t_ns)
        if held is None or final is None:
            judgement.doubt(Finding(f"{register} of {name} is not known at both ends of the blackout"))
            continue
        judgement.examined += 1
        if held != final and blackout.is_over and blackout.panic is None:
            # Sizing leaves and comes back: what matters is when it left for good.
            left = [c for c, _ in watched.changes if held in c.before and held not in c.after]
            last = left[-1] if left else watched.changes[-1][0]
            phase = timeline.phase_at(last.t_ns)
            judgement.fail(
                Finding(
                    message=f"{register} {held:#x} -> {final:#x} at {name} in {phase}",
                    t_ns=last.t_ns,
                    phase=phase,
                    bdf=bdf,
                    register=register,
                    width=last.width,
                    before=held,
                    after=final,
                ),
                reset_cause(evidence, function, last),
            )
        elif not blackout.is_over:
            judgement.doubt(Finding(f"no finish report: where {register} of {name} ends is not known"))


BAR_FINAL: Final = Rule(
    id="BAR-FINAL",
    title="A preserved endpoint's BARs end where they began",
    hazards=(19, 49, 65),
    severity="P",
    why="A moved BAR breaks every mapping that the outgoing kernel handed over, and peer-to-peer DMA.",
    acceptable="Sizing writes all ones and puts the address back; only the address at the end counts.",
    source="PCIe 6.0 7.5.1.2.1; linux drivers/pci/probe.c __pci_size_bars, setup-res.c",
    planted_fault="a BAR of a preserved endpoint left with another address after sizing",
    judge=_judge,
)
