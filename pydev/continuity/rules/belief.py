# SPDX-License-Identifier: MIT
"""What the incoming kernel believes of preserved functions and the bridges above, against their registers.

It adopts what the hardware holds (bus numbers, ARI Forwarding), or sets the hardware to what it wants (windows,
interrupts): a register that was written by another way, or a write that was forgotten, leaves the two apart.
What is compared, and with what, is in `pydev.continuity.comparison`.
"""

from typing import Final

from pydev.continuity.beliefs import Belief, state_reports
from pydev.continuity.causes import shared
from pydev.continuity.comparison import Comparison, compare
from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.phases import Blackout

_CAUSES: Final = {
    "VENDOR_ID": ("BUS-NUMBERS",),
    "COMMAND": ("RESET",),
    "SECONDARY_BUS": ("BUS-NUMBERS", "RESET"),
    "DEVCTL2": ("ARI-FORWARDING", "RESET"),
    "MSIX_CONTROL": ("MSIX-TAKEOVER", "RESET"),
    "PMCSR": ("POWER-STATE", "RESET"),
}
_OUT_OF_REACH: Final = "D3cold"
"""What the kernel takes a function to be in that does not answer (linux drivers/pci/pci.c pci_power_up)."""
_BAR_CAUSES: Final = ("BAR-FINAL", "RESET")


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    judged = {function.index for function in (*evidence.preserved, *evidence.bridges)}
    for blackout in evidence.blackouts:
        for report in state_reports(evidence.timeline):
            if not _is_incoming(evidence, blackout, report.t_ns):
                continue
            if report.damage is not None:
                judgement.doubt(Finding(f"a state report cannot be read: {report.damage}", t_ns=report.t_ns))
            for belief in report.beliefs:
                if belief.function.index in judged:
                    _judge_belief(evidence, judgement, belief)
    nothing = "no incoming kernel was asked what it believes"
    cause = shared(evidence, judgement.causes)
    return judgement.result(
        caused_by=cause, nothing=nothing if evidence.blackouts else "the guest was never frozen"
    )


def _is_incoming(evidence: Evidence, blackout: Blackout, t_ns: int) -> bool:
    """Whether a report is of the kernel that this blackout has led to, and not of the next one's outgoing."""
    updated = blackout.start_of("updated")
    later = (b.start_of("prepared") or b.begin.t_ns for b in evidence.blackouts if b.update > blackout.update)
    return updated is not None and updated <= t_ns < min(later, default=evidence.timeline.last_ns + 1)


def _judge_belief(evidence: Evidence, judgement: Judgement, belief: Belief) -> None:
    comparisons = compare(evidence, belief)
    judgement.examined += len(comparisons)
    for comparison in comparisons:
        if not comparison.agrees:
            cause = _cause(evidence, comparison)
            judgement.fail(_finding(evidence, belief, comparison), cause)


def _cause(evidence: Evidence, comparison: Comparison) -> str | None:
    """The failure that has left the register as it is, or the function out of reach."""
    if comparison.change is None and comparison.believed != _OUT_OF_REACH:
        return None
    rules = _CAUSES.get(comparison.register, _BAR_CAUSES if comparison.register.startswith("BAR") else ())
    return next((rule for rule in rules if evidence.failed(rule, comparison.function)), None)


def _finding(evidence: Evidence, belief: Belief, comparison: Comparison) -> Finding:
    timeline = evidence.timeline
    writer = None if comparison.change is None else comparison.change.writer
    name = evidence.name(comparison.function, belief.t_ns)
    words = (
        f"{comparison.name} of {name} holds {comparison.held}, and the kernel believes {comparison.believed}"
    )
    return Finding(
        f"the kernel knows no function {name}" if belief.is_absent else words,
        t_ns=belief.t_ns,
        phase=timeline.phase_at(belief.t_ns),
        bdf=timeline.bdf_at(comparison.function.index, belief.t_ns),
        register=comparison.register,
        field=comparison.field,
        function=None if writer is None else writer.function,
        stack=() if writer is None else writer.frames,
    )


BELIEF: Final = Rule(
    id="BELIEF",
    title="What the incoming kernel believes of a preserved function and the bridges above is what they hold",
    hazards=(25, 28, 30, 31, 48, 49),
    severity="T",
    why="No register value crosses the jump: the incoming kernel reads what it finds, or takes it to be what it "
    "would have written. Where the two differ it acts on what is not so later: it assigns a bus number or an address "
    "that is in use, leaves interrupts enabled that it knows nothing of, or writes its own idea over a device at work.",
    acceptable="A function that is bus master and that the kernel has not enabled: it came in so, and nobody has "
    "opened it yet. Where the record leaves the register's value open nothing is compared; d3cold_allowed and the "
    "parity flag have no register; link speed and width are read from the device whenever somebody asks, and so are "
    "the bus numbers but for the name of the bus below.",
    source="linux drivers/pci/pci-sysfs.c, include/linux/pci.h struct pci_dev; PCIe 6.0 7.5.1.1.3, 7.5.1.2.1, 7.5.1.3",
    planted_fault="a state report of the incoming kernel with another number of the bus below than the bridge holds",
    judge=_judge,
    registers=(
        "COMMAND.memory_space", "BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5",
        "SECONDARY_BUS", "IO_BASE", "MEMORY_BASE", "PREF_MEMORY_BASE",
        "PMCSR.power_state", "MSI_CONTROL.enable", "MSIX_CONTROL.enable", "DEVCTL2.ari_forwarding",
    ),
    writers=(
        "user space (sysfs config), and every quirk that writes past the core",
        "pci_read_bases, pci_scan_bridge_extend (drivers/pci/probe.c), which form the belief",
    ),
    examines="each register or window that a state report of the incoming kernel speaks of, at its arrival and after "
    "finish; the number of comparisons is counted",
    vacuous_when="the agent was not asked, or the incoming kernel never answered",
)  # fmt: skip
