# SPDX-License-Identifier: MIT
"""Translation by the device itself: ATS, page requests, address spaces of preserved endpoints."""

from typing import Final

from pydev.continuity.check import judge_checks
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule
from pydev.continuity.written import Erased, NeverWritten

_ATS_ON: Final = ("ATS_CTRL", "enable")
_PRI_ON: Final = ("PRI_CTRL", "enable")
_PASID_ON: Final = ("PASID_CTRL", "enable")
_ATS: Final = (
    Kept(*_ATS_ON, at_every_moment=True, zero_shows_nothing=True),
    Kept("ATS_CTRL", "smallest_translation_unit", at_every_moment=True, only_while=_ATS_ON),
)
_PRI: Final = (
    Kept(*_PRI_ON, at_every_moment=True, zero_shows_nothing=True),
    Kept("PRI_ALLOCATION", at_every_moment=True, only_while=_PRI_ON),
    NeverWritten("PRI_CTRL", "reset", "forgets every page request", only_while=_PRI_ON),
    Erased("PRI_STATUS", ("response_failure", "unexpected_group_index")),
    Kept(*_PASID_ON, at_every_moment=True, zero_shows_nothing=True),
    Kept("PASID_CTRL", "execute_permission", at_every_moment=True, only_while=_PASID_ON),
    Kept("PASID_CTRL", "privileged_mode", at_every_moment=True, only_while=_PASID_ON),
)

ATS: Final = Rule(
    id="ATS",
    title="A preserved endpoint that translates addresses itself goes on doing so, in the same units",
    hazards=(43,),
    severity="D",
    why="With ATS off a device drops every translation it holds, and a function that works on translated addresses "
    "has none: it stalls, or faults on untranslated requests. Requests under way come back to a device that no longer "
    "wants them. Another smallest unit makes it use a translation for more than was asked.",
    acceptable="ATS was off when frozen; nothing is done with it that the device notices. Wanted of the kernel: to "
    "find ATS on and adopt it.",
    source="PCIe 6.0 10.3, 10.5.1.3; linux drivers/pci/ats.c pci_prepare_ats, pci_enable_ats, pci_disable_ats; "
    "drivers/iommu/intel/iommu.c",
    planted_fault="ATS_CTRL of a preserved endpoint written with its unit alone, Enable clear",
    judge=lambda evidence: judge_checks(evidence, evidence.preserved, _ATS, "ATS"),
    registers=tuple(one.label for one in _ATS),
    writers=(
        "intel_iommu_probe_device -> pci_prepare_ats (drivers/iommu/intel/iommu.c, drivers/pci/ats.c)",
        "iommu_enable_pci_ats -> pci_enable_ats (drivers/iommu/intel/iommu.c, drivers/pci/ats.c)",
        "pci_restore_state -> pci_restore_ats_state (drivers/pci/ats.c)",
    ),
    examines="preserved endpoints that had ATS on when frozen",
    vacuous_when="no preserved endpoint has ATS, or it was off",
)
PRI_PASID: Final = Rule(
    id="PRI-PASID",
    title="A preserved endpoint keeps its page requests and its address spaces",
    hazards=(44,),
    severity="D",
    why="A page request that is forgotten is never answered: the work that waits for the page hangs. With PASID off "
    "requests carry no address space, and mean another process's memory, or none.",
    acceptable="Both were off when frozen.",
    source="PCIe 6.0 6.20, 7.8.9.3, 10.4, 10.5.2.2; linux drivers/pci/ats.c pci_enable_pri, pci_reset_pri, "
    "pci_enable_pasid, pci_disable_pasid; drivers/iommu/intel/iommu.c",
    planted_fault="PRI_CTRL of a preserved endpoint with page requests on written with Reset",
    judge=lambda evidence: judge_checks(evidence, evidence.preserved, _PRI, "page requests or address spaces"),
    registers=(
        "PRI_CTRL.enable", "PRI_CTRL.reset", "PRI_ALLOCATION", "PRI_STATUS.response_failure",
        "PRI_STATUS.unexpected_group_index", "PASID_CTRL.enable", "PASID_CTRL.execute_permission",
        "PASID_CTRL.privileged_mode",
    ),
    writers=(
        "iommu_enable_pci_pri -> pci_reset_pri, pci_enable_pri (drivers/iommu/intel/iommu.c, drivers/pci/ats.c)",
        "intel_iommu_probe_finalize -> pci_enable_pasid (drivers/iommu/intel/iommu.c, drivers/pci/ats.c)",
        "pci_restore_state -> pci_restore_pri_state, pci_restore_pasid_state (drivers/pci/ats.c)",
    ),
    examines="preserved endpoints that had page requests or address spaces on when frozen",
    vacuous_when="no preserved endpoint has them, or they were off",
)  # fmt: skip
