# SPDX-License-Identifier: MIT
"""Single Root I/O Virtualization (PCIe 6.0 9.3.3): one virtual function, which is not modelled.

QEMU takes this capability out of the chain of a vfio-user device (QEMU hw/vfio/pci.c vfio_add_ext_cap): its bytes
can be accessed, and no kernel finds it.
"""

from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class SriovHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the SR-IOV capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.SRIOV)


class SriovCapability(Register, offset=0x04, name="SRIOV_CAP"):
    """What beyond plain virtual functions there is (PCIe 6.0 9.3.3.2)."""

    migration = Field(0, access=Access.RO)
    ari_preserved = Field(1, access=Access.RO)
    larger_tags = Field(2, access=Access.HWINIT)
    interrupt_message_number = Field(21, 11, access=Access.RO)


class SriovControl(Register, offset=0x08, width=2, name="SRIOV_CTRL"):
    """Whether virtual functions exist, and decode memory (PCIe 6.0 9.3.3.3)."""

    vf_enable = Field(0)
    vf_migration = Field(1, access=Access.RO)
    vf_migration_interrupt = Field(2, access=Access.RO)
    vf_memory_space = Field(3)
    ari_hierarchy = Field(4)
    larger_tags = Field(5, access=Access.RO)


class SriovStatus(Register, offset=0x0A, width=2, name="SRIOV_STATUS"):
    """Migration (PCIe 6.0 9.3.3.4)."""

    vf_migration = Field(0, access=Access.RO)


class SriovInitialVfs(Register, offset=0x0C, width=2, name="SRIOV_INITIAL_VFS"):
    """How many there are at first (PCIe 6.0 9.3.3.5)."""

    value = Field(0, 16, access=Access.HWINIT, reset=1)


class SriovTotalVfs(Register, offset=0x0E, width=2, name="SRIOV_TOTAL_VFS"):
    """How many there can be (PCIe 6.0 9.3.3.6)."""

    value = Field(0, 16, access=Access.HWINIT, reset=1)


class SriovNumVfs(Register, offset=0x10, width=2, name="SRIOV_NUM_VFS"):
    """How many software can see (PCIe 6.0 9.3.3.7)."""

    value = Field(0, 16)


class SriovFunctionLink(Register, offset=0x12, width=1, name="SRIOV_FUNCTION_LINK"):
    """Which function it depends on: itself (PCIe 6.0 9.3.3.8)."""

    value = Field(0, 8, access=Access.HWINIT)


class SriovReserved(Register, offset=0x13, width=1, name="SRIOV_RESERVED_13"):
    """Reserved."""

    value = Field(0, 8, access=Access.RO)


class SriovFirstOffset(Register, offset=0x14, width=2, name="SRIOV_VF_OFFSET"):
    """From this function's routing ID to the first one's (PCIe 6.0 9.3.3.9)."""

    value = Field(0, 16, access=Access.RO, reset=1)


class SriovStride(Register, offset=0x16, width=2, name="SRIOV_VF_STRIDE"):
    """From one's to the next one's (PCIe 6.0 9.3.3.10)."""

    value = Field(0, 16, access=Access.RO, reset=1)


class SriovReserved18(Register, offset=0x18, width=2, name="SRIOV_RESERVED_18"):
    """Reserved."""

    value = Field(0, 16, access=Access.RO)


class SriovDeviceId(Register, offset=0x1A, width=2, name="SRIOV_VF_DEVICE_ID"):
    """Their device ID (PCIe 6.0 9.3.3.11)."""

    value = Field(0, 16, access=Access.HWINIT)


class SriovSupportedPages(Register, offset=0x1C, name="SRIOV_SUPPORTED_PAGE_SIZES"):
    """Bit n is 2^(12 + n) bytes (PCIe 6.0 9.3.3.12)."""

    value = Field(0, 32, access=Access.HWINIT, reset=1)


class SriovSystemPage(Register, offset=0x20, name="SRIOV_SYSTEM_PAGE_SIZE"):
    """Which of them the system uses (PCIe 6.0 9.3.3.13)."""

    value = Field(0, 32, reset=1)


class SriovVfBar0(Register, offset=0x24, name="SRIOV_VF_BAR0"):
    """Where their memory is: 4 KiB each (PCIe 6.0 9.3.3.14)."""

    address = Field(12, 20)


class SriovVfBar1(Register, offset=0x28, name="SRIOV_VF_BAR1"):
    """Not implemented."""

    address = Field(0, 32, access=Access.RO)


class SriovVfBar2(SriovVfBar1, offset=0x2C, name="SRIOV_VF_BAR2"):
    """Not implemented."""


class SriovVfBar3(SriovVfBar1, offset=0x30, name="SRIOV_VF_BAR3"):
    """Not implemented."""


class SriovVfBar4(SriovVfBar1, offset=0x34, name="SRIOV_VF_BAR4"):
    """Not implemented."""


class SriovVfBar5(SriovVfBar1, offset=0x38, name="SRIOV_VF_BAR5"):
    """Not implemented."""


class SriovMigrationArray(Register, offset=0x3C, name="SRIOV_MIGRATION_STATE"):
    """Not implemented (PCIe 6.0 9.3.3.15)."""

    bir = Field(0, 3, access=Access.RO)
    array_offset = Field(3, 29, access=Access.RO)


class Sriov(Capability):
    """A physical function's."""

    __slots__ = ()

    name: ClassVar[str] = "SRIOV"
    registers: ClassVar[tuple[type[Register], ...]] = (
        SriovHeader, SriovCapability, SriovControl, SriovStatus, SriovInitialVfs, SriovTotalVfs, SriovNumVfs,
        SriovFunctionLink, SriovReserved, SriovFirstOffset, SriovStride, SriovReserved18, SriovDeviceId,
        SriovSupportedPages, SriovSystemPage, SriovVfBar0, SriovVfBar1, SriovVfBar2, SriovVfBar3, SriovVfBar4,
        SriovVfBar5, SriovMigrationArray,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 0x40
    is_extended: ClassVar[bool] = True
