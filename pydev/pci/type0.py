# SPDX-License-Identifier: MIT
"""The type 0 configuration header, an endpoint's (PCIe 6.0 7.5.1.2)."""

from typing import Final

from pydev.pci.header import COMMON_REGISTERS
from pydev.registers import Access, Field, Register


class CardbusCis(Register, offset=0x28):
    """Hardwired to 0 on PCI Express."""

    value = Field(0, 32, access=Access.RO)


class SubsystemVendorId(Register, offset=0x2C, width=2):
    """Who made the adapter."""

    value = Field(0, 16, access=Access.HWINIT)


class SubsystemId(Register, offset=0x2E, width=2):
    """Which adapter."""

    value = Field(0, 16, access=Access.HWINIT)


class Rom(Register, offset=0x30):
    """Expansion ROM base address; these models have none, so it reads 0 and ignores sizing."""

    enable = Field(0, access=Access.RO)
    address = Field(11, 21, access=Access.RO)


class Reserved38(Register, offset=0x38, name="RESERVED_38"):
    """Reserved."""

    value = Field(0, 32, access=Access.RO)


class MinGnt(Register, offset=0x3E, width=1):
    """Hardwired to 0 on PCI Express."""

    value = Field(0, 8, access=Access.RO)


class MaxLat(Register, offset=0x3F, width=1):
    """Hardwired to 0 on PCI Express."""

    value = Field(0, 8, access=Access.RO)


TYPE0_REGISTERS: Final[tuple[type[Register], ...]] = (
    *COMMON_REGISTERS, CardbusCis, SubsystemVendorId, SubsystemId, Rom, Reserved38, MinGnt, MaxLat,
)  # fmt: skip
"""All but the BARs, whose layout depends on their size."""
