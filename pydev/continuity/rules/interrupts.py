# SPDX-License-Identifier: MIT
"""Interrupts of preserved endpoints: none is preserved by design, and the incoming kernel takes them over.

Writer, linux 7.3: drivers/pci/pcidev_msi.c `pci_msix_init` (hazard 28), which must happen.
"""

from typing import Final

from pydev.continuity.evidence import Evidence, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
    nothing = "no preserved endpoint has MSI-X" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    watched = watch(evidence, function, blackout, "MSIX_CONTROL", "enable")
    if watched is None:
        return
    name = evidence.name(function, blackout.begin.t_ns)
    if known(watched.initial) != 1:
        judgement.vacuous(f"MSI-X of {name} was not enabled when frozen")
        return
    if blackout.refusal is not None or blackout.panic is not None:
        judgement.vacuous(f"no incoming kernel finished: MSI-X of {name} was nobody's to take over")
        return
    jump, sweep = blackout.phases.get("jump"), blackout.phases.get("enumeration")
    if jump is None or sweep is None:
        judgement.doubt(
            Finding(f"no enumeration by an incoming kernel was seen while MSI-X of {name} was enabled")
        )
        return
    cleared = [
        change.t_ns
        for change, _ in watched.changes
        if known(watched.values(change)[0]) == 1 and known(watched.values(change)[1]) == 0
    ]
    outgoing = [t_ns for t_ns in cleared if t_ns <= jump.t_ns]
    incoming = [t_ns for t_ns in cleared if t_ns >= sweep.t_ns - sweep.uncertainty_ns]
    judgement.examined += 1
    if incoming:
        return
    if len(cleared) > len(outgoing):
        judgement.doubt(Finding(f"MSI-X of {name} was disabled between the kernels; by which is not known"))
    elif outgoing:
        judgement.vacuous(f"MSI-X of {name} was disabled by the outgoing kernel")
    elif not blackout.is_finished:
        judgement.doubt(Finding(f"no finish report: whether MSI-X of {name} was taken over is not known"))
    else:
        judgement.fail(
            Finding(
                message=f"MSIX_CONTROL.enable of {name} was never cleared by the incoming kernel",
                t_ns=blackout.end_ns,
                phase="finished",
                bdf=evidence.timeline.bdf_at(function.index, blackout.begin.t_ns),
                register="MSIX_CONTROL",
                field="enable",
            )
        )


MSIX_TAKEOVER: Final = Rule(
    id="MSIX-TAKEOVER",
    title="The incoming kernel disables MSI-X that it finds enabled",
    hazards=(28,),
    severity="E",
    why="A table from the outgoing kernel points at vectors that mean something else now: the interrupts "
    "that it sends are stray writes until the incoming kernel takes control.",
    acceptable="MSI-X was not enabled when the guest was frozen, or the outgoing kernel disabled it.",
    source="PCIe 6.0 7.7.2.2; linux drivers/pci/pcidev_msi.c pci_msix_init",
    planted_fault="no write that clears MSI-X Enable between enumeration and finish",
    judge=_judge,
)
