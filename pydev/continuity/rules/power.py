# SPDX-License-Identifier: MIT
"""Power states of preserved endpoints. QEMU's ports have no power management capability (hazard 60).

Writers, linux 7.3: `pm_runtime_resume` in shutdown → `pci_power_up` (hazard 5), `pci_set_full_power_state`
(30), `vfio_pci_core_register_device` (59).
"""

from typing import Final

from pydev.continuity.evidence import Evidence, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import known


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            watched = watch(evidence, function, blackout, "PMCSR", "power_state")
            if watched is None:
                continue
            name = evidence.name(function, blackout.begin.t_ns)
            judgement.examined += 1
            for change, _ in watched.changes:
                before, after = watched.values(change)
                if len(before | after) > 1:
                    judgement.fail(transition(evidence, function, change, "PMCSR", watched.entry))
            if known(watched.initial) != 0:
                judgement.vacuous(f"{name} was not in D0 when frozen")
            if not blackout.is_finished and blackout.refusal is None:
                judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    nothing = "no preserved endpoint has a power management capability"
    return judgement.result(nothing=nothing if evidence.blackouts else "the guest was never frozen")


POWER_STATE: Final = Rule(
    id="POWER-STATE",
    title="A preserved endpoint stays in D0 from frozen to finished",
    hazards=(5, 30, 59),
    severity="D",
    why="Outside D0 a function issues no request, and on its return without No_Soft_Reset it resets.",
    acceptable="The function is not preserved. Bridges cannot be judged: QEMU's ports lack the capability.",
    source="PCI PM 1.2 5.4.1; PCIe 6.0 5.3.1; linux drivers/pci/pci.c pci_power_up, pci_set_full_power_state",
    planted_fault="PMCSR of a preserved endpoint written to D3hot when the driver binds",
    judge=_judge,
)
