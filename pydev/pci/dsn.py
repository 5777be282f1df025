# SPDX-License-Identifier: MIT
"""Device Serial Number (PCIe 6.0 7.9.3): 64 bits that tell two equal devices apart."""

from dataclasses import dataclass
from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader, Resets
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class DsnHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the serial number capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.DEVICE_SERIAL_NUMBER)


class DsnLow(Register, offset=0x04):
    """Lower half."""

    value = Field(0, 32, access=Access.HWINIT)


class DsnHigh(Register, offset=0x08):
    """Upper half."""

    value = Field(0, 32, access=Access.HWINIT)


@dataclass(frozen=True, slots=True)
class DeviceSerialNumber(Capability):
    """A serial number of 64 bits."""

    serial_number: int

    name: ClassVar[str] = "DSN"
    registers: ClassVar[tuple[type[Register], ...]] = (DsnHeader, DsnLow, DsnHigh)
    size_bytes: ClassVar[int] = 12
    is_extended: ClassVar[bool] = True

    def resets(self) -> Resets:
        """Both halves."""
        return {
            DsnLow: {"value": self.serial_number & 0xFFFFFFFF},
            DsnHigh: {"value": self.serial_number >> 32},
        }
