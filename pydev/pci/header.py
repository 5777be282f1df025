# SPDX-License-Identifier: MIT
"""The part of the configuration header that every function has (PCIe 6.0 7.5.1.1).

Registers have Linux's names (linux include/uapi/linux/pci_regs.h), fields the specification's.
"""

from typing import Final

from pydev.registers import Access, Field, Register

CONFIG_BYTES: Final = 4096
CONVENTIONAL_BYTES: Final = 256


class VendorId(Register, offset=0x00, width=2):
    """Who made it."""

    value = Field(0, 16, access=Access.HWINIT)


class DeviceId(Register, offset=0x02, width=2):
    """What it is, in the vendor's numbers."""

    value = Field(0, 16, access=Access.HWINIT)


class Command(Register, offset=0x04, width=2):
    """Control of the function's ability to decode and to issue requests (PCIe 6.0 7.5.1.1.3)."""

    io_space = Field(0, access=Access.RO)
    memory_space = Field(1)
    bus_master = Field(2)
    special_cycle = Field(3, access=Access.RO)
    memory_write_invalidate = Field(4, access=Access.RO)
    vga_snoop = Field(5, access=Access.RO)
    parity_error_response = Field(6)
    idsel_stepping = Field(7, access=Access.RO)
    serr_enable = Field(8)
    fast_back_to_back = Field(9, access=Access.RO)
    intx_disable = Field(10)


class Status(Register, offset=0x06, width=2):
    """Conventional status and error bits (PCIe 6.0 7.5.1.1.4)."""

    immediate_readiness = Field(0, access=Access.RO)
    interrupt_status = Field(3, access=Access.RO)
    capabilities_list = Field(4, access=Access.RO)
    mhz_66 = Field(5, access=Access.RO)
    fast_back_to_back = Field(7, access=Access.RO)
    master_data_parity_error = Field(8, access=Access.RW1C)
    devsel_timing = Field(9, 2, access=Access.RO)
    signaled_target_abort = Field(11, access=Access.RW1C)
    received_target_abort = Field(12, access=Access.RW1C)
    received_master_abort = Field(13, access=Access.RW1C)
    signaled_system_error = Field(14, access=Access.RW1C)
    detected_parity_error = Field(15, access=Access.RW1C)


class RevisionId(Register, offset=0x08, width=1):
    """Which version of it."""

    value = Field(0, 8, access=Access.HWINIT)


class ClassProg(Register, offset=0x09, width=1):
    """Programming interface, the lowest byte of the class code."""

    value = Field(0, 8, access=Access.RO)


class ClassDevice(Register, offset=0x0A, width=2):
    """Subclass and base class."""

    subclass = Field(0, 8, access=Access.RO)
    base_class = Field(8, 8, access=Access.RO)


class CacheLineSize(Register, offset=0x0C, width=1):
    """Kept for software that writes it; no effect (PCIe 6.0 7.5.1.1.7)."""

    value = Field(0, 8)


class LatencyTimer(Register, offset=0x0D, width=1):
    """Hardwired to 0 on PCI Express."""

    value = Field(0, 8, access=Access.RO)


class HeaderType(Register, offset=0x0E, width=1):
    """Layout of the rest of the header: 0 or 1."""

    layout = Field(0, 7, access=Access.RO)
    multi_function = Field(7, access=Access.RO)


class Bist(Register, offset=0x0F, width=1):
    """No built-in self test."""

    value = Field(0, 8, access=Access.RO)


class CapabilityList(Register, offset=0x34, width=1):
    """Where the first capability is."""

    pointer = Field(0, 8, access=Access.RO)


class Reserved35(Register, offset=0x35, width=3, name="RESERVED_35"):
    """Reserved."""

    value = Field(0, 24, access=Access.RO)


class InterruptLine(Register, offset=0x3C, width=1):
    """Routing information that firmware leaves for the system; the function does not read it."""

    value = Field(0, 8)


class InterruptPin(Register, offset=0x3D, width=1):
    """Which legacy interrupt message the function uses; 0 is none."""

    value = Field(0, 8, access=Access.RO)


COMMON_REGISTERS: Final[tuple[type[Register], ...]] = (
    VendorId, DeviceId, Command, Status, RevisionId, ClassProg, ClassDevice, CacheLineSize, LatencyTimer,
    HeaderType, Bist, CapabilityList, Reserved35, InterruptLine, InterruptPin,
)  # fmt: skip
