# SPDX-License-Identifier: MIT
"""Every rule, in the order in which they are judged: causes before consequences."""

from typing import Final

from pydev.continuity.rule import Rule
from pydev.continuity.rules.agreement import WRITES_AGREE
from pydev.continuity.rules.ats import ATS, PRI_PASID
from pydev.continuity.rules.bars import BAR_FINAL
from pydev.continuity.rules.belief import BELIEF
from pydev.continuity.rules.catch_up import CATCH_UP
from pydev.continuity.rules.command import BME_BRIDGE, BME_ENDPOINT, CONTROL_CLEARED
from pydev.continuity.rules.dma import DMA_CONTINUITY
from pydev.continuity.rules.doe import DOE
from pydev.continuity.rules.dpc import DPC
from pydev.continuity.rules.early_mmio import EARLY_MMIO
from pydev.continuity.rules.errors import ERROR_EVIDENCE, ERROR_REPORTING
from pydev.continuity.rules.forwarding import UPSTREAM_FORWARDING
from pydev.continuity.rules.guest import GUEST_UPDATED
from pydev.continuity.rules.ide import IDE
from pydev.continuity.rules.integrity import DMA_INTEGRITY
from pydev.continuity.rules.interrupts import MSI_TAKEOVER, MSIX_TAKEOVER
from pydev.continuity.rules.intx import INTX_DISABLE
from pydev.continuity.rules.iommu import IOMMU_INTERRUPTS, IOMMU_INVALIDATION, IOMMU_TRANSLATION
from pydev.continuity.rules.l1ss import L1SS
from pydev.continuity.rules.link_notification import LINK_NOTIFICATION
from pydev.continuity.rules.mapping import IOVA_MAPPING
from pydev.continuity.rules.msix_sequence import MSIX_SEQUENCE
from pydev.continuity.rules.neutral import ACS_CONTROL, ARI_FORWARDING, DEVICE_CONTROL, LINK_CONTROL
from pydev.continuity.rules.pme import PME
from pydev.continuity.rules.port_interrupts import PORT_INTERRUPT
from pydev.continuity.rules.power import POWER_STATE
from pydev.continuity.rules.preserved_set import PRESERVED_SET
from pydev.continuity.rules.record import RECORD_COMPLETE
from pydev.continuity.rules.rescan import RESCAN
from pydev.continuity.rules.reset import RESET
from pydev.continuity.rules.root_control import ROOT_CONTROL
from pydev.continuity.rules.routing import BUS_NUMBERS, REQUESTER_ID
from pydev.continuity.rules.silence import CONFIG_QUIET
from pydev.continuity.rules.sizing import BAR_SIZING
from pydev.continuity.rules.slot import SLOT_CONTROL, SLOT_POWER
from pydev.continuity.rules.sriov import SRIOV
from pydev.continuity.rules.stray import STRAY_INTERRUPT
from pydev.continuity.rules.vga import VGA_FORWARDING
from pydev.continuity.rules.windows import BRIDGE_WINDOWS
from pydev.errors import PolicyError

_RULES: Final = (
    RECORD_COMPLETE,
    WRITES_AGREE,
    PRESERVED_SET,
    GUEST_UPDATED,
    SLOT_POWER,
    POWER_STATE,
    RESET,
    BME_ENDPOINT,
    BME_BRIDGE,
    CONTROL_CLEARED,
    BUS_NUMBERS,
    REQUESTER_ID,
    ACS_CONTROL,
    ARI_FORWARDING,
    DEVICE_CONTROL,
    LINK_CONTROL,
    L1SS,
    LINK_NOTIFICATION,
    ERROR_REPORTING,
    ERROR_EVIDENCE,
    SLOT_CONTROL,
    ROOT_CONTROL,
    PME,
    DPC,
    DOE,
    IDE,
    ATS,
    PRI_PASID,
    SRIOV,
    EARLY_MMIO,
    BAR_FINAL,
    BAR_SIZING,
    BRIDGE_WINDOWS,
    VGA_FORWARDING,
    PORT_INTERRUPT,
    INTX_DISABLE,
    MSI_TAKEOVER,
    MSIX_TAKEOVER,
    MSIX_SEQUENCE,
    STRAY_INTERRUPT,
    CATCH_UP,
    BELIEF,
    IOMMU_TRANSLATION,
    IOMMU_INTERRUPTS,
    IOMMU_INVALIDATION,
    IOVA_MAPPING,
    UPSTREAM_FORWARDING,
    DMA_CONTINUITY,
    DMA_INTEGRITY,
    RESCAN,
    CONFIG_QUIET,
)

NOT_OBSERVABLE: Final = {
    11: "AMD-Vi and SMMUv3 have registers of their own, in memory; this machine's IOMMU is VT-d, whose are recorded",
    24: "nothing makes an error in a run, and Master-Abort Mode of QEMU's ports is hardwired; ERROR-EVIDENCE judges "
    "recordings in which a bit is set",
    27: "QEMU's root port cannot report RRS; ROOT-CONTROL judges one that can",
    52: "this machine's root complex is described by ACPI and not programmed by a host driver",
    56: "QEMU's ports have no containment; DPC judges ports that have, and endpoints that are given the capability",
    58: "QEMU's ports hardwire Link Control; LINK-NOTIFICATION judges ports that do not",
    60: "QEMU's ports have no power management capability; POWER-STATE and UPSTREAM-FORWARDING "
    "judge ports that have one",
}
"""Hazards that cannot show on this wire, with the reason, and the rule that would find them where they can."""


def rules() -> list[Rule]:
    """Every rule, causes before consequences."""
    return list(_RULES)


def rule(rule_id: str) -> Rule:
    """The rule of an id; PolicyError where there is none."""
    for candidate in _RULES:
        if candidate.id == rule_id:
            return candidate
    raise PolicyError(f"there is no rule {rule_id!r}; there are {', '.join(r.id for r in _RULES)}")
