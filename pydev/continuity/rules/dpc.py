# SPDX-License-Identifier: MIT
"""Downstream Port Containment of the ports above preserved endpoints.

QEMU's ports do not have it. A preserved endpoint that declares the capability is judged as a port would be, so
that the rule can be seen at work (`pydev.pci.dpc`).
"""

from dataclasses import dataclass
from typing import Final

from pydev.continuity.check import Case, judge_checks, path
from pydev.continuity.evidence import transition, watch
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule
from pydev.continuity.written import Erased, NeverWritten
from pydev.recording.config import field_values, known


@dataclass(frozen=True, slots=True)
class _NeverTriggered:
    """Containment that began: the link below the port is down, and all below it gone."""

    def judge(self, case: Case) -> bool:
        watched = watch(case.evidence, case.function, case.blackout, "DPC_STATUS", "triggered")
        if watched is None:
            return False
        for change, is_at_edge in watched.changes:
            before, after = (field_values(v, watched.entry) for v in (change.before, change.after))
            if 1 not in after or 0 not in before or before == after:
                continue
            # Only the port itself sets it: whoever reads it there knows that it did.
            is_certain = (known(before), known(after)) == (0, 1) and not is_at_edge
            is_certain &= change.cause not in ("trace", "write")
            note = "" if is_certain else " (not certain)"
            found = transition(case.evidence, case.function, change, "DPC_STATUS", watched.entry, note)
            if is_certain:
                case.judgement.fail(found)
            else:
                case.judgement.doubt(found)
        return False


_CONTROL: Final = tuple(
    Kept("DPC_CTL", field, zero_shows_nothing=True)
    for field in (
        "trigger", "completion_control", "interrupt", "correctable_message", "poisoned_tlp_blocking",
        "link_active_message",
    )
)  # fmt: skip
_PIO: Final = tuple(
    Kept(register, zero_shows_nothing=True)
    for register in ("DPC_PIO_MASK", "DPC_PIO_SEVERITY", "DPC_PIO_SYSTEM_ERROR", "DPC_PIO_EXCEPTION")
)
_TRIGGER: Final = NeverWritten("DPC_CTL", "software_trigger", "takes the link below down")
_STATUS: Final = Erased("DPC_STATUS", ("triggered", "interrupt"))

DPC: Final = Rule(
    id="DPC",
    title="Containment above a preserved endpoint is set as when frozen, and is not triggered",
    hazards=(56, 7),
    severity="D",
    why="A port that contains an error takes its link down: everything below is cut off and reset. Enabled anew, "
    "with other triggers, it acts on an error that went by before; triggered by software it acts at once. Left "
    "disabled, it no longer stops a corrupt packet from reaching memory.",
    acceptable="A moment without it, between the kernels: errors of that time are not contained. The same value "
    "written again.",
    source="PCIe 6.0 6.2.11, 7.9.14; linux drivers/pci/pcie/dpc.c dpc_enable, dpc_disable",
    planted_fault="DPC_CTL of the port above a preserved endpoint left with its trigger disabled",
    judge=lambda evidence: judge_checks(
        evidence, path(evidence), (*_CONTROL, *_PIO, _TRIGGER, _STATUS, _NeverTriggered()), "containment"
    ),
    registers=(
        *(one.label for one in (*_CONTROL, *_PIO)),
        "DPC_CTL.software_trigger",
        "DPC_STATUS.triggered",
        "DPC_STATUS.interrupt",
    ),
    writers=(
        "pcie_portdrv_shutdown -> dpc_remove -> dpc_disable (drivers/pci/pcie/dpc.c)",
        "dpc_probe -> dpc_enable (drivers/pci/pcie/dpc.c)",
        "pci_restore_dpc_state (drivers/pci/pcie/dpc.c)",
    ),
    examines="ports above preserved endpoints whose containment was on when frozen",
    vacuous_when="no port of the path has the capability, or it was off throughout",
)
