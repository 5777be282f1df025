# SPDX-License-Identifier: MIT
"""L1 PM Substates and reported latencies of a preserved path."""

from typing import Final

from pydev.continuity.check import judge_checks, path
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule

_KEPT: Final = (
    Kept("L1SS_CTL1", zero_shows_nothing=True),
    Kept("L1SS_CTL2"),
    Kept("LTR_MAX_SNOOP", zero_shows_nothing=True),
    Kept("LTR_MAX_NO_SNOOP", zero_shows_nothing=True),
)

L1SS: Final = Rule(
    id="L1SS",
    title="L1 substates and latency limits of a preserved path end as they began",
    hazards=(37, 39),
    severity="T",
    why="Both ends of a link have to agree on when its clock may stop and how long power takes to come back: other "
    "times, or other substates at one end, and the link does not wake up in time, or not at all. The latency limits "
    "are what the platform promised the device.",
    acceptable="The same values written again. A moment with the L1.2 bits clear, which is how they have to be "
    "changed.",
    source="PCIe 6.0 5.5.4, 7.8.2, 7.8.3; linux drivers/pci/pcie/aspm.c aspm_calc_l12_info, pcie_config_aspm_l1ss, "
    "pci_configure_aspm_l1ss, pci_configure_ltr",
    planted_fault="L1SS_CTL1 of a preserved endpoint left with ASPM L1.2 off",
    judge=lambda evidence: judge_checks(evidence, path(evidence), _KEPT, "L1 substates or latency limits"),
    registers=tuple(one.label for one in _KEPT),
    writers=(
        "pcie_aspm_cap_init -> aspm_l1ss_init -> aspm_calc_l12_info (drivers/pci/pcie/aspm.c)",
        "pcie_config_aspm_link -> pcie_config_aspm_l1ss (drivers/pci/pcie/aspm.c)",
        "pci_restore_state -> pci_restore_aspm_l1ss_state, pci_restore_ltr_state (drivers/pci/pcie/aspm.c)",
    ),
    examines="preserved endpoints and bridges above them that have L1 substates, or latency limits that are not 0",
    vacuous_when="nothing on the path has the capability, or it was never seen",
)
