# SPDX-License-Identifier: MIT
"""Downstream Port Containment (PCIe 6.0 7.9.14): a port takes its link down when an error comes up it.

A port's capability. An endpoint may be given it all the same, so that the names and what a kernel makes of them
can be seen where no port has it: containment itself is not modelled.
"""

from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class DpcHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the DPC capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.DPC)


class DpcCapability(Register, offset=0x04, width=2, name="DPC_CAP"):
    """What can trigger containment, and how it is told (PCIe 6.0 7.9.14.2)."""

    interrupt_message_number = Field(0, 5, access=Access.RO)
    root_port_extensions = Field(5, access=Access.RO)
    poisoned_tlp_blocking = Field(6, access=Access.RO)
    software_trigger = Field(7, access=Access.RO)
    pio_log_dwords = Field(8, 4, access=Access.RO)
    link_active_message = Field(12, access=Access.RO)


class DpcControl(Register, offset=0x06, width=2, name="DPC_CTL"):
    """What does (PCIe 6.0 7.9.14.3); `trigger` 1 is fatal errors, 2 others as well."""

    trigger = Field(0, 2)
    completion_control = Field(2)
    interrupt = Field(3)
    correctable_message = Field(4)
    poisoned_tlp_blocking = Field(5)
    software_trigger = Field(6, access=Access.WO)
    link_active_message = Field(7)


class DpcStatus(Register, offset=0x08, width=2, name="DPC_STATUS"):
    """Whether and why the link was taken down (PCIe 6.0 7.9.14.4)."""

    triggered = Field(0, access=Access.RW1CS)
    reason = Field(1, 2, access=Access.ROS)
    interrupt = Field(3, access=Access.RW1CS)
    root_port_busy = Field(4, access=Access.RO)
    reason_extension = Field(5, 2, access=Access.ROS)
    pio_first_error = Field(8, 5, access=Access.ROS)


class DpcErrorSource(Register, offset=0x0A, width=2, name="DPC_SOURCE_ID"):
    """Who sent the error message (PCIe 6.0 7.9.14.5)."""

    requester_id = Field(0, 16, access=Access.ROS)


class DpcPioStatus(Register, offset=0x0C, name="DPC_PIO_STATUS"):
    """Requests of the root port that failed, by what they were (PCIe 6.0 7.9.14.6)."""

    config_unsupported = Field(0, access=Access.RW1CS)
    config_abort = Field(1, access=Access.RW1CS)
    config_timeout = Field(2, access=Access.RW1CS)
    io_unsupported = Field(8, access=Access.RW1CS)
    io_abort = Field(9, access=Access.RW1CS)
    io_timeout = Field(10, access=Access.RW1CS)
    memory_unsupported = Field(16, access=Access.RW1CS)
    memory_abort = Field(17, access=Access.RW1CS)
    memory_timeout = Field(18, access=Access.RW1CS)


class DpcPioMask(Register, offset=0x10, name="DPC_PIO_MASK"):
    """Which of them do not count (PCIe 6.0 7.9.14.7)."""

    config_unsupported = Field(0, access=Access.RWS)
    config_abort = Field(1, access=Access.RWS)
    config_timeout = Field(2, access=Access.RWS)
    io_unsupported = Field(8, access=Access.RWS)
    io_abort = Field(9, access=Access.RWS)
    io_timeout = Field(10, access=Access.RWS)
    memory_unsupported = Field(16, access=Access.RWS)
    memory_abort = Field(17, access=Access.RWS)
    memory_timeout = Field(18, access=Access.RWS)


class DpcPioSeverity(DpcPioMask, offset=0x14, name="DPC_PIO_SEVERITY"):
    """Which of them are uncorrectable (PCIe 6.0 7.9.14.8)."""


class DpcPioSystemError(DpcPioMask, offset=0x18, name="DPC_PIO_SYSTEM_ERROR"):
    """Which of them are a system error (PCIe 6.0 7.9.14.9)."""


class DpcPioException(DpcPioMask, offset=0x1C, name="DPC_PIO_EXCEPTION"):
    """Which of them are answered with an exception (PCIe 6.0 7.9.14.10)."""


class DpcPioHeaderLog(Register, offset=0x20, width=8, name="DPC_PIO_HEADER_LOG"):
    """First half of the header of the request that failed (PCIe 6.0 7.9.14.11)."""

    value = Field(0, 64, access=Access.ROS)


class DpcPioHeaderLogHigh(DpcPioHeaderLog, offset=0x28, name="DPC_PIO_HEADER_LOG_HIGH"):
    """Second half."""


class DpcPioImplementationLog(Register, offset=0x30, name="DPC_PIO_IMPLEMENTATION_LOG"):
    """As the maker sees fit (PCIe 6.0 7.9.14.12)."""

    value = Field(0, 32, access=Access.ROS)


class DpcPioPrefixLog(DpcPioImplementationLog, offset=0x34, name="DPC_PIO_PREFIX_LOG"):
    """First prefix of the request that failed (PCIe 6.0 7.9.14.13)."""


class Dpc(Capability):
    """What a downstream port of a switch has."""

    __slots__ = ()

    name: ClassVar[str] = "DPC"
    registers: ClassVar[tuple[type[Register], ...]] = (
        DpcHeader, DpcCapability, DpcControl, DpcStatus, DpcErrorSource,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 12
    is_extended: ClassVar[bool] = True


class DpcPort(Dpc):
    """What a root port with the extensions has."""

    __slots__ = ()

    registers: ClassVar[tuple[type[Register], ...]] = (
        *Dpc.registers, DpcPioStatus, DpcPioMask, DpcPioSeverity, DpcPioSystemError, DpcPioException,
        DpcPioHeaderLog, DpcPioHeaderLogHigh, DpcPioImplementationLog, DpcPioPrefixLog,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 0x38
