# SPDX-License-Identifier: MIT
"""The MSI capability, 64-bit without masking (PCIe 6.0 7.7.1): names for accesses to bridges that have it."""

from typing import ClassVar

from pydev.pci.capability import Capability, CapabilityHeader
from pydev.pci.ids import CapabilityId
from pydev.registers import Access, Field, Register


class MsiHeader(CapabilityHeader, offset=0x00):
    """Header of the MSI capability."""

    capability_id = Field(0, 8, access=Access.RO, reset=CapabilityId.MSI)


class MsiControl(Register, offset=0x02, width=2):
    """Message control (PCIe 6.0 7.7.1.2)."""

    enable = Field(0)
    multiple_message_capable = Field(1, 3, access=Access.RO)
    multiple_message_enable = Field(4, 3)
    is_64bit = Field(7, access=Access.RO, reset=1)
    per_vector_masking = Field(8, access=Access.RO)
    extended_data_capable = Field(9, access=Access.RO)
    extended_data = Field(10, access=Access.RO)


class MsiAddress(Register, offset=0x04):
    """Message address, low half."""

    address = Field(2, 30)


class MsiUpperAddress(Register, offset=0x08):
    """Message address, high half."""

    address = Field(0, 32)


class MsiData(Register, offset=0x0C, width=2):
    """Message data."""

    data = Field(0, 16)


class MsiExtendedData(Register, offset=0x0E, width=2):
    """Its upper half, which nobody here has (PCIe 6.0 7.7.1.6)."""

    data = Field(0, 16, access=Access.RO)


class Msi(Capability):
    """MSI with 64-bit addresses."""

    __slots__ = ()

    name: ClassVar[str] = "MSI"
    registers: ClassVar[tuple[type[Register], ...]] = (
        MsiHeader, MsiControl, MsiAddress, MsiUpperAddress, MsiData, MsiExtendedData,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 16
