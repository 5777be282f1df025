# SPDX-License-Identifier: MIT
"""Power management events: whether a preserved device may ask for power, and whether it was heard."""

from typing import Final

from pydev.continuity.check import judge_checks, path
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule
from pydev.continuity.written import Erased

_KEPT: Final = Kept("PMCSR", "pme_enable", zero_shows_nothing=True)
_EVENTS: Final = (Erased("PMCSR", ("pme_status",)), Erased("RTSTA", ("pme_status",)))

PME: Final = Rule(
    id="PME",
    title="A preserved device may signal a power management event as before, and none is erased unheard",
    hazards=(29, 7),
    severity="H",
    why="With PME Enable clear a device cannot wake what it depends on. PME Status, of the device and of the root "
    "port, is where an event waits that came while no kernel listened: cleared unseen, the device waits for ever.",
    acceptable="PME was not enabled and no event was pending. PowerState, in the same register, is POWER-STATE's.",
    source="PCIe 6.0 5.3.3, 7.5.2.2, 7.5.3.14; linux drivers/pci/pci.c pci_pm_init, pci_pme_active; pcie/pme.c "
    "pcie_pme_probe, pcie_pme_disable_interrupt",
    planted_fault="PMCSR of a preserved endpoint, in which PME was enabled, written 8000h",
    judge=lambda evidence: judge_checks(
        evidence, path(evidence), (_KEPT, *_EVENTS), "a power management event enabled or pending"
    ),
    registers=("PMCSR.pme_enable", "PMCSR.pme_status", "RTSTA.pme_status"),
    writers=(
        "pci_init_capabilities -> pci_pm_init -> pci_pme_active(dev, false) (drivers/pci/pci.c)",
        "pcie_pme_probe -> pcie_clear_root_pme_status (drivers/pci/pcie/pme.c)",
        "pcie_portdrv_shutdown -> pcie_pme_remove -> pcie_pme_disable_interrupt (drivers/pci/pcie/pme.c)",
    ),
    examines="preserved endpoints and bridges above them with PME enabled, or an event pending, when frozen",
    vacuous_when="PME was not enabled and no event was pending",
)
