# SPDX-License-Identifier: MIT
"""Power states of preserved endpoints, and of the bridges above where they have the capability.

Writers, linux 7.3: `pm_runtime_resume` in shutdown → `pci_power_up` (hazard 5), `pci_set_full_power_state`
(30), `vfio_pci_core_register_device` (59), the port driver's autosuspend (60).
"""

from typing import Final

from pydev.continuity.evidence import Evidence, WatchedField, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, field_values, known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in (*evidence.preserved, *evidence.bridges):
            _judge_function(evidence, judgement, blackout, function)
    nothing = "nothing on a preserved path has a power management capability"
    return judgement.result(nothing=nothing if evidence.blackouts else "the guest was never frozen")


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    watched = watch(evidence, function, blackout, "PMCSR", "power_state")
    if watched is None:
        return
    name = evidence.name(function, blackout.begin.t_ns)
    judgement.examined += 1
    for change, is_at_edge in watched.changes:
        before, after = watched.values(change)
        if change.cause == "bus reset" or len(before | after) == 1:
            continue  # RESET speaks of the one, and the other was written with the value it had
        # An endpoint's own server knows; a bridge's trace may leave it open.
        is_certain = bool(before and after) and not before & after and change.cause != "read"
        note = _soft_reset(watched, change)
        note += " (at the blackout's edge)" if is_at_edge else "" if is_certain else " (not certain)"
        finding = transition(evidence, function, change, "PMCSR", watched.entry, note)
        if is_certain and not is_at_edge:
            judgement.fail(finding)
        else:
            judgement.doubt(finding)
    if known(watched.initial) is None:
        judgement.doubt(Finding(f"PMCSR.power_state of {name} is not known when frozen"))
    elif known(watched.initial) != 0:
        judgement.vacuous(f"{name} was not in D0 when frozen")
    if not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))


def _soft_reset(watched: WatchedField, change: Change) -> str:
    """What the way back to D0 does to a function without No_Soft_Reset (PCI PM 1.2 5.4.1), in words."""
    entry = watched.history.register.fields.get("no_soft_reset")
    before, after = watched.values(change)
    if entry is None or 3 not in before or after != {0}:
        return ""
    kept = field_values(change.before, entry)
    return {frozenset({0}): ": No_Soft_Reset is clear, it resets", frozenset({1}): ", without a reset"}.get(
        kept, ""
    )


POWER_STATE: Final = Rule(
    id="POWER-STATE",
    title="A preserved endpoint and the bridges above it stay in D0 from frozen to finished",
    hazards=(5, 30, 59, 60),
    severity="D",
    why="Outside D0 a function issues no request and a bridge forwards none; on its return without "
    "No_Soft_Reset a function resets.",
    acceptable="The function, and for a bridge all below it, is not preserved. QEMU's ports lack the capability.",
    source="PCI PM 1.2 5.4.1; PCIe 6.0 5.3.1; linux drivers/pci/pci.c pci_power_up, pci_set_full_power_state",
    planted_fault="PMCSR of a preserved endpoint written to D3hot when the driver binds",
    judge=_judge,
    registers=("PMCSR.power_state",),
    writers=(
        "pci_power_up (drivers/pci/pci.c)",
        "pci_set_full_power_state (drivers/pci/pci.c)",
        "vfio_pci_core_register_device (drivers/vfio/pci/vfio_pci_core.c)",
    ),
    examines="PMCSR of each preserved endpoint and bridge above that has the capability, in each update",
    vacuous_when="nothing on a preserved path has the capability, or a function was not in D0 when frozen",
)
