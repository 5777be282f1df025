# SPDX-License-Identifier: MIT
"""Whether a port tells of a link that has become slower or narrower."""

from typing import Final

from pydev.continuity.check import judge_checks
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule
from pydev.continuity.written import Erased

_KEPT: Final = tuple(
    Kept("LNKCTL", field, zero_shows_nothing=True)
    for field in ("bandwidth_management_interrupt", "autonomous_bandwidth_interrupt", "drs_signaling")
)
_EVENTS: Final = Erased("LNKSTA", ("bandwidth_management", "autonomous_bandwidth"))

LINK_NOTIFICATION: Final = Rule(
    id="LINK-NOTIFICATION",
    title="Ports above a preserved endpoint tell of their link's bandwidth as before, and forget no change of it",
    hazards=(58, 7),
    severity="H",
    why="A link that came up slower, or lost lanes, while no kernel listened is told of by a status bit alone: "
    "erased, or with its interrupt left off, a device runs at a fraction of its speed and nobody knows why.",
    acceptable="A moment without the interrupt, between the kernels. No bit was set.",
    source="PCIe 6.0 7.5.3.7 (Link Bandwidth Management Interrupt Enable), 7.5.3.8; linux drivers/pci/pcie/bwctrl.c "
    "pcie_bwnotif_enable, pcie_bwnotif_disable, pcie_reset_lbms",
    planted_fault="LNKCTL of the port above a preserved endpoint left without its bandwidth interrupts",
    judge=lambda evidence: judge_checks(
        evidence, evidence.bridges, (*_KEPT, _EVENTS), "bandwidth notification in use"
    ),
    registers=(*(one.label for one in _KEPT), *(f"LNKSTA.{field}" for field in _EVENTS.fields)),
    writers=(
        "pcie_portdrv_shutdown -> pcie_bwnotif_remove -> pcie_bwnotif_disable (drivers/pci/pcie/bwctrl.c)",
        "pcie_bwnotif_probe -> pcie_bwnotif_enable (drivers/pci/pcie/bwctrl.c)",
        "pcie_retrain_link -> pcie_reset_lbms (drivers/pci/pci.c, pcie/bwctrl.c)",
    ),
    examines="ports above preserved endpoints with a bandwidth interrupt on, or a change noted, when frozen",
    vacuous_when="no bandwidth interrupt was on and no change was noted",
)
