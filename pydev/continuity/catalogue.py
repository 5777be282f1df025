# SPDX-License-Identifier: MIT
"""Every rule, in the order in which they are judged: causes before consequences."""

import textwrap
from typing import Any, Final

from pydev.continuity.rule import SEVERITIES, Rule
from pydev.continuity.rules.bars import BAR_FINAL
from pydev.continuity.rules.catch_up import CATCH_UP
from pydev.continuity.rules.command import BME_BRIDGE, BME_ENDPOINT, CONTROL_CLEARED
from pydev.continuity.rules.dma import DMA_CONTINUITY
from pydev.continuity.rules.guest import GUEST_UPDATED
from pydev.continuity.rules.integrity import DMA_INTEGRITY
from pydev.continuity.rules.interrupts import MSIX_TAKEOVER
from pydev.continuity.rules.iommu import IOMMU_INTERRUPTS, IOMMU_INVALIDATION, IOMMU_TRANSLATION
from pydev.continuity.rules.mapping import IOVA_MAPPING
from pydev.continuity.rules.neutral import ACS_CONTROL, ARI_FORWARDING, DEVICE_CONTROL, LINK_CONTROL
from pydev.continuity.rules.power import POWER_STATE
from pydev.continuity.rules.preserved_set import PRESERVED_SET
from pydev.continuity.rules.record import RECORD_COMPLETE
from pydev.continuity.rules.reset import RESET
from pydev.continuity.rules.routing import BUS_NUMBERS, REQUESTER_ID
from pydev.errors import PolicyError

_RULES: Final = (
    RECORD_COMPLETE,
    PRESERVED_SET,
    GUEST_UPDATED,
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
    BAR_FINAL,
    MSIX_TAKEOVER,
    CATCH_UP,
    IOMMU_TRANSLATION,
    IOMMU_INTERRUPTS,
    IOMMU_INVALIDATION,
    IOVA_MAPPING,
    DMA_CONTINUITY,
    DMA_INTEGRITY,
)

NOT_OBSERVABLE: Final = {
    11: "AMD-Vi and SMMUv3 are programmed through MMIO, which is not recorded",
    12: "the IO-APIC and the local APICs are no PCI functions",
    42: "QEMU's ports have no IDE extended capability",
    52: "this machine's root complex is described by ACPI and not programmed by a host driver",
    60: "QEMU's ports have no power management capability; POWER-STATE judges ports that have one",
}
"""Hazards that cannot show on this wire, with the reason."""


def rules() -> list[Rule]:
    """Every rule, causes before consequences."""
    return list(_RULES)


def rule(rule_id: str) -> Rule:
    """The rule of an id; PolicyError where there is none."""
    for candidate in _RULES:
        if candidate.id == rule_id:
            return candidate
    raise PolicyError(f"there is no rule {rule_id!r}; there are {', '.join(r.id for r in _RULES)}")


def rules_json() -> dict[str, Any]:
    """What `luscope rules --json` prints."""
    return {
        "rules": [entry.describe() for entry in _RULES],
        "not_observable": {str(number): reason for number, reason in NOT_OBSERVABLE.items()},
    }


def explain_rule(rule_id: str) -> str:
    """One rule for a person, at most 78 columns; PolicyError where there is none."""
    found = rule(rule_id.upper())
    hazards = ", ".join(str(number) for number in found.hazards) or "none"
    parts = [
        f"{found.id}: {found.title}",
        f"hazards {hazards}; severity {found.severity}: {SEVERITIES[found.severity]}",
    ]
    for name in ("why", "acceptable", "source", "planted_fault"):
        label = name.replace("_", " ")
        parts.append(
            textwrap.fill(
                f"{label}: {getattr(found, name)}", 78, subsequent_indent="  ", break_on_hyphens=False
            )
        )
    return "\n".join(textwrap.fill(part, 78) if "\n" not in part else part for part in parts)
