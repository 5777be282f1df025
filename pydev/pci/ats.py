# SPDX-License-Identifier: MIT
"""Address Translation Services (PCIe 6.0 10.5.1): a function asks the IOMMU, and keeps what it answered."""

from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class AtsHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the ATS capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.ATS)


class AtsCapability(Register, offset=0x04, width=2, name="ATS_CAP"):
    """How many invalidations are taken at once, 0 being 32 (PCIe 6.0 10.5.1.2)."""

    invalidate_queue_depth = Field(0, 5, access=Access.RO)
    page_aligned_request = Field(5, access=Access.RO, reset=1)
    global_invalidate = Field(6, access=Access.RO)
    relaxed_ordering = Field(7, access=Access.RO)


class AtsControl(Register, offset=0x06, width=2, name="ATS_CTRL"):
    """On or off, and the smallest unit: 2^(12 + unit) bytes (PCIe 6.0 10.5.1.3)."""

    smallest_translation_unit = Field(0, 5)
    enable = Field(15)


class Ats(Capability):
    """Address translation by the function itself."""

    __slots__ = ()

    name: ClassVar[str] = "ATS"
    registers: ClassVar[tuple[type[Register], ...]] = (AtsHeader, AtsCapability, AtsControl)
    size_bytes: ClassVar[int] = 8
    is_extended: ClassVar[bool] = True
