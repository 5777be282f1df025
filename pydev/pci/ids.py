# SPDX-License-Identifier: MIT
"""Numbers that tell functions and capabilities apart."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

LUSCOPE_VENDOR_ID: Final = 0x1DE5
"""What this project's own models show; no driver matches it together with their device numbers."""

UNASSIGNED_CLASS: Final = 0xFF0000  # PCI Code and ID Assignment 1.16 1.1, class FFh


class CapabilityId(IntEnum):
    """Capabilities below 0x100 (PCI Code and ID Assignment 1.16, section 2)."""

    POWER_MANAGEMENT = 0x01
    MSI = 0x05
    SUBSYSTEM = 0x0D
    EXPRESS = 0x10
    MSIX = 0x11


class ExtendedCapabilityId(IntEnum):
    """Capabilities from 0x100 up (PCI Code and ID Assignment 1.16, section 3)."""

    AER = 0x0001
    DEVICE_SERIAL_NUMBER = 0x0003
    ACS = 0x000D
    ATS = 0x000F
    SRIOV = 0x0010
    PRI = 0x0013
    LTR = 0x0018
    PASID = 0x001B
    DPC = 0x001D
    L1_PM_SUBSTATES = 0x001E
    DOE = 0x002E
    IDE = 0x0030


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a function says it is; the subsystem's numbers are its own where not given.

    `class_code` has 24 bits: base class, subclass, programming interface.
    """

    vendor_id: int
    device_id: int
    class_code: int = UNASSIGNED_CLASS
    revision_id: int = 0
    subsystem_vendor_id: int | None = None
    subsystem_id: int | None = None
