# SPDX-License-Identifier: MIT
"""The interrupts of the ports above preserved endpoints: off at the jump, and nothing else moved with them.

Writer, linux 7.3: `pcie_portdrv_shutdown` (drivers/pci/pcie/portdrv.c: hazard 6), which takes MSI or MSI-X of a
port that has services away and sets or clears INTX_DISABLE with it. COMMAND, where that bit is, also holds Bus
Master Enable, which what is preserved below needs.
"""

from typing import Final

from pydev.continuity.causes import by_author, shared
from pydev.continuity.evidence import Evidence, WatchedField, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, field_values, known
from pydev.recording.functions import FieldEntry, FunctionEntry
from pydev.recording.phases import Blackout

_ENABLES: Final = ("MSI_CONTROL", "MSIX_CONTROL")


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    notes: list[str] = []
    for blackout in evidence.blackouts:
        for bridge in evidence.bridges:
            for register in _ENABLES:
                _judge_enable(evidence, judgement, blackout, bridge, register, notes)
            _judge_command(evidence, judgement, blackout, bridge)
    if not judgement.examined:
        for note in notes:
            judgement.vacuous(note)
    nothing = "no bridge above has MSI or MSI-X" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _judge_enable(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    bridge: FunctionEntry,
    register: str,
    notes: list[str],
) -> None:
    watched = watch(evidence, bridge, blackout, register, "enable")
    if watched is None:
        return
    name = evidence.name(bridge, blackout.begin.t_ns)
    held = known(watched.initial)
    jump = blackout.phases.get("jump")
    if jump is None or (held is None and not watched.changes):
        notes.append(f"{register}.enable of {name} was never seen" if jump else "no jump was seen")
        return
    values = field_values(watched.history.at(jump.t_ns), watched.entry)
    if held == 0 and values == {0}:
        notes.append(f"{register}.enable of {name} was off when frozen")
        return
    judgement.examined += 1
    if values == {0}:
        return
    words = f"{register}.enable of {name} was still set at the jump: its service interrupts go where the outgoing "
    finding = Finding(
        words + "kernel had them",
        t_ns=jump.t_ns,
        phase="jump",
        bdf=evidence.timeline.bdf_at(bridge.index, jump.t_ns),
        register=register,
        field="enable",
    )
    by_whom = [change.writer for change, _ in watched.changes if change.t_ns <= jump.t_ns]
    finding = by_author(finding, by_whom[-1] if by_whom else None)
    is_certain = values == {1} and not _moved_about(evidence, watched, jump.t_ns, jump.uncertainty_ns)
    (judgement.fail if is_certain else judgement.doubt)(finding)


def _moved_about(evidence: Evidence, watched: WatchedField, t_ns: int, margin_ns: int) -> bool:
    """Whether the register was written so near the jump that either kernel may have done it."""
    margin_ns += evidence.timeline.bridge_uncertainty_ns
    return any(t_ns < change.t_ns <= t_ns + margin_ns for change, _ in watched.changes)


def _judge_command(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, bridge: FunctionEntry
) -> None:
    """One write that moves INTX_DISABLE and takes Bus Master Enable along."""
    watched = watch(evidence, bridge, blackout, "COMMAND", "intx_disable")
    if watched is None or watched.entry is None:
        return
    master = watched.history.register.fields.get("bus_master")
    for change, is_at_edge in watched.changes:
        if master is None or not _differs(change, watched.entry) or not _falls(change, master):
            continue
        note = ", in the write that also cleared bus_master" + (
            " (at the blackout's edge)" if is_at_edge else ""
        )
        finding = transition(evidence, bridge, change, "COMMAND", watched.entry, note)
        judgement.examined += 1
        if is_at_edge or change.cause == "read":
            judgement.doubt(finding)
        elif change.cause not in ("bus reset", "machine reset"):
            judgement.fail(finding, "BME-BRIDGE" if evidence.failed("BME-BRIDGE", bridge) else None)


def _differs(change: Change, entry: FieldEntry) -> bool:
    before, after = field_values(change.before, entry), field_values(change.after, entry)
    return bool(before and after) and not before & after


def _falls(change: Change, entry: FieldEntry) -> bool:
    return field_values(change.before, entry) == {1} and field_values(change.after, entry) == {0}


PORT_INTERRUPT: Final = Rule(
    id="PORT-INTERRUPT",
    title="Ports above a preserved endpoint have their own interrupts off at the jump, and keep bus mastering",
    hazards=(6,),
    severity="H",
    why="A port's MSI for PME, AER, hotplug or bandwidth goes up like any other memory write: one raised between the "
    "kernels is as stray as an endpoint's. Turning it off is harmless by itself; INTX_DISABLE shares a register with "
    "Bus Master Enable, and a write that moves both stops the DMA of what is below (BME-BRIDGE).",
    acceptable="The port had no interrupt enabled when frozen, as switch ports without services have none; the "
    "incoming kernel enables it when its port driver is probed.",
    source="PCIe 6.0 7.7.1.2, 7.7.2.2, 7.5.1.1.3; linux drivers/pci/pcie/portdrv.c pcie_portdrv_shutdown, "
    "pcie_port_device_remove; drivers/pci/msi/msi.c pci_msix_shutdown, pci_intx_for_msi",
    planted_fault="MSI-X of the root port above a preserved endpoint left enabled at shutdown",
    judge=_judge,
    registers=("MSI_CONTROL.enable", "MSIX_CONTROL.enable", "COMMAND.intx_disable"),
    writers=(
        "pcie_portdrv_shutdown -> pcie_port_device_remove -> pci_free_irq_vectors (drivers/pci/pcie/portdrv.c)",
        "pci_msix_shutdown, pci_msi_shutdown -> pci_intx_for_msi -> pci_intx (drivers/pci/msi/msi.c, pci.c)",
        "pcie_init_service_irqs -> pcie_port_enable_irq_vec (drivers/pci/pcie/portdrv.c), by the incoming kernel",
    ),
    examines="each MSI or MSI-X Enable that was set when frozen, of a bridge above a preserved endpoint, and each "
    "write that moves INTX_DISABLE and Bus Master Enable together",
    unknown_when="the register was written about the jump, and which kernel did it is not known",
    vacuous_when="no such bridge had its interrupts enabled",
)
