# SPDX-License-Identifier: MIT
"""Messages of preserved endpoints: none is preserved by design, and the incoming kernel takes them over.

Writers, linux 7.3, drivers/pci/msi/pcidev_msi.c: `pci_msi_init` and `pci_msix_init` (hazard 28), which must
happen. What a device sends until then is `stray.py`'s, how MSI-X is set up anew `msix_sequence.py`'s.
"""

from typing import Final

from pydev.continuity.evidence import Evidence, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import field_values, known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout

MSI: Final = ("MSI", "MSI_CONTROL")
MSIX: Final = ("MSI-X", "MSIX_CONTROL")


def _judge(evidence: Evidence, kind: tuple[str, str]) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function, kind)
    nothing = f"no preserved endpoint has {kind[0]}" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(nothing=nothing)


def _judge_function(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    kind: tuple[str, str],
) -> None:
    what, register = kind
    watched = watch(evidence, function, blackout, register, "enable")
    if watched is None:
        return
    name = evidence.name(function, blackout.begin.t_ns)
    jump, sweep = blackout.phases.get("jump"), blackout.phases.get("enumeration")
    at_jump = watched.initial if jump is None else field_values(watched.history.at(jump.t_ns), watched.entry)
    if known(watched.initial) != 1 and known(at_jump) != 1:
        judgement.vacuous(f"{what} of {name} was not enabled when frozen")
        return
    if blackout.refusal is not None or blackout.panic is not None:
        judgement.vacuous(f"no incoming kernel finished: {what} of {name} was nobody's to take over")
        return
    if jump is None or sweep is None:
        judgement.doubt(
            Finding(f"no enumeration by an incoming kernel was seen while {what} of {name} was enabled")
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
        judgement.doubt(Finding(f"{what} of {name} was disabled between the kernels; by which is not known"))
    elif outgoing:
        judgement.vacuous(f"{what} of {name} was disabled by the outgoing kernel")
    elif not blackout.is_finished:
        judgement.doubt(Finding(f"no finish report: whether {what} of {name} was taken over is not known"))
    else:
        judgement.fail(
            Finding(
                message=f"{register}.enable of {name} was never cleared by the incoming kernel",
                t_ns=blackout.end_ns,
                phase="finished",
                bdf=evidence.timeline.bdf_at(function.index, blackout.begin.t_ns),
                register=register,
                field="enable",
            )
        )


_WHY: Final = (
    "{} from the outgoing kernel points at vectors that mean something else now: the interrupts that it sends "
    "are stray writes until the incoming kernel takes control."
)
MSI_TAKEOVER: Final = Rule(
    id="MSI-TAKEOVER",
    title="The incoming kernel disables MSI that it finds enabled",
    hazards=(28,),
    severity="E",
    why=_WHY.format("An address"),
    acceptable="MSI was not enabled when the guest was frozen, or the outgoing kernel disabled it.",
    source="PCIe 6.0 7.7.1.2 (MSI Enable); linux drivers/pci/msi/pcidev_msi.c pci_msi_init",
    planted_fault="no write that clears MSI Enable between enumeration and finish",
    judge=lambda evidence: _judge(evidence, MSI),
    registers=("MSI_CONTROL.enable",),
    writers=(
        "pci_init_capabilities -> pci_msi_init (drivers/pci/probe.c, msi/pcidev_msi.c)",
        "pci_msi_shutdown -> pci_msi_set_enable (drivers/pci/msi/msi.c), by the outgoing kernel",
    ),
    examines="MSI Enable of each preserved endpoint that had it set when frozen, in each update",
    unknown_when="it was cleared between the kernels, or no incoming kernel was seen to look for devices",
    vacuous_when="no preserved endpoint had it set, or the outgoing kernel cleared it",
)
MSIX_TAKEOVER: Final = Rule(
    id="MSIX-TAKEOVER",
    title="The incoming kernel disables MSI-X that it finds enabled",
    hazards=(28,),
    severity="E",
    why=_WHY.format("A table"),
    acceptable="MSI-X was not enabled when the guest was frozen, or the outgoing kernel disabled it.",
    source="PCIe 6.0 7.7.2.2 (MSI-X Enable); linux drivers/pci/msi/pcidev_msi.c pci_msix_init",
    planted_fault="no write that clears MSI-X Enable between enumeration and finish",
    judge=lambda evidence: _judge(evidence, MSIX),
    registers=("MSIX_CONTROL.enable",),
    writers=(
        "pci_init_capabilities -> pci_msix_init (drivers/pci/probe.c, msi/pcidev_msi.c)",
        "pci_msix_shutdown -> pci_msix_clear_and_set_ctrl (drivers/pci/msi/msi.c), by the outgoing kernel",
    ),
    examines="MSI-X Enable of each preserved endpoint that had it set when frozen, in each update",
    unknown_when="it was cleared between the kernels, or no incoming kernel was seen to look for devices",
    vacuous_when="no preserved endpoint had it set, or the outgoing kernel cleared it",
)
