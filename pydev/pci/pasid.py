# SPDX-License-Identifier: MIT
"""Process Address Space ID (PCIe 6.0 7.8.9): requests that say whose address space they mean."""

from typing import ClassVar, Final

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register

MAX_PASID_BITS: Final = 20


class PasidHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the PASID capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.PASID)


class PasidCapability(Register, offset=0x04, width=2, name="PASID_CAP"):
    """How many address spaces, and which permissions can be asked for (PCIe 6.0 7.8.9.2)."""

    execute_permission = Field(1, access=Access.RO, reset=1)
    privileged_mode = Field(2, access=Access.RO, reset=1)
    max_pasid_bits = Field(8, 5, access=Access.RO, reset=MAX_PASID_BITS)


class PasidControl(Register, offset=0x06, width=2, name="PASID_CTRL"):
    """What of it is on (PCIe 6.0 7.8.9.3)."""

    enable = Field(0)
    execute_permission = Field(1)
    privileged_mode = Field(2)


class Pasid(Capability):
    """Address spaces of processes, 2^20 of them."""

    __slots__ = ()

    name: ClassVar[str] = "PASID"
    registers: ClassVar[tuple[type[Register], ...]] = (PasidHeader, PasidCapability, PasidControl)
    size_bytes: ClassVar[int] = 8
    is_extended: ClassVar[bool] = True
