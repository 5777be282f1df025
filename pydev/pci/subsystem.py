# SPDX-License-Identifier: MIT
"""Subsystem ID and Subsystem Vendor ID of a bridge (PCI-to-PCI Bridge 1.2 3.2.5.13, SSID/SSVID capability)."""

from typing import ClassVar

from pydev.pci.capability import Capability, CapabilityHeader
from pydev.pci.ids import CapabilityId
from pydev.registers import Access, Field, Register


class SubsystemHeader(CapabilityHeader, offset=0x00, name="SSVID_HEADER"):
    """Header of the capability."""

    capability_id = Field(0, 8, access=Access.RO, reset=CapabilityId.SUBSYSTEM)


class SubsystemReserved(Register, offset=0x02, width=2, name="SSVID_RESERVED_02"):
    """Reserved."""

    value = Field(0, 16, access=Access.RO)


class BridgeSubsystemVendorId(Register, offset=0x04, width=2, name="SSVID_VENDOR_ID"):
    """Who made the adapter."""

    value = Field(0, 16, access=Access.HWINIT)


class BridgeSubsystemId(Register, offset=0x06, width=2, name="SSVID_ID"):
    """Which adapter."""

    value = Field(0, 16, access=Access.HWINIT)


class Subsystem(Capability):
    """What a type 0 header has at 2Ch, for a bridge."""

    __slots__ = ()

    name: ClassVar[str] = "SSVID"
    registers: ClassVar[tuple[type[Register], ...]] = (
        SubsystemHeader, SubsystemReserved, BridgeSubsystemVendorId, BridgeSubsystemId,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 8
