# SPDX-License-Identifier: MIT
"""Root Control of the root ports above preserved endpoints."""

from typing import Final

from pydev.continuity.check import judge_checks
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule

_KEPT: Final = tuple(
    Kept("RTCTL", field, zero_shows_nothing=True)
    for field in (
        "correctable_system_error", "non_fatal_system_error", "fatal_system_error", "pme_interrupt",
        "rrs_software_visibility",
    )
)  # fmt: skip

ROOT_CONTROL: Final = Rule(
    id="ROOT-CONTROL",
    title="Root Control above a preserved endpoint ends as it began",
    hazards=(7, 27),
    severity="H",
    why="System errors that are switched off go unseen, those switched on can stop the machine; without the PME "
    "interrupt a device that asks for power is not heard. RRS Software Visibility decides what a read of a device "
    "that is not ready gives: switched off, a scan waits for it, or misses it.",
    acceptable="A moment of another value: the outgoing kernel's port driver switches the PME interrupt off, the "
    "incoming one's on.",
    source="PCIe 6.0 7.5.3.12; linux drivers/pci/probe.c pci_enable_rrs_sv; pcie/pme.c pcie_pme_interrupt_enable; "
    "pcie/aer.c aer_enable_rootport",
    planted_fault="RTCTL of the root port above a preserved endpoint left 0 where system errors were on",
    judge=lambda evidence: judge_checks(evidence, evidence.bridges, _KEPT, "Root Control"),
    registers=tuple(one.label for one in _KEPT),
    writers=(
        "pci_scan_bridge -> pci_add_new_bus -> pci_alloc_child_bus -> pci_enable_rrs_sv (drivers/pci/probe.c)",
        "pcie_pme_probe, pcie_pme_remove -> pcie_pme_interrupt_enable (drivers/pci/pcie/pme.c)",
        "aer_probe -> aer_enable_rootport clears the system errors (drivers/pci/pcie/aer.c)",
    ),
    examines="root ports above preserved endpoints whose Root Control was not 0 when frozen",
    vacuous_when="Root Control is 0 throughout, or was never seen",
)
