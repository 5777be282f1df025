# SPDX-License-Identifier: MIT
"""Advanced Error Reporting (PCIe 6.0 7.8.4): status, masks and log are sticky, reset by power-on alone."""

from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class AerHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the AER capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.AER)
    version = Field(16, 4, access=Access.RO, reset=2)


class UncorrectableStatus(Register, offset=0x04, name="AER_UNCOR_STATUS"):
    """Uncorrectable errors seen (PCIe 6.0 7.8.4.2)."""

    data_link_protocol = Field(4, access=Access.RW1CS)
    surprise_down = Field(5, access=Access.RO)
    poisoned_tlp = Field(12, access=Access.RW1CS)
    flow_control = Field(13, access=Access.RW1CS)
    completion_timeout = Field(14, access=Access.RW1CS)
    completer_abort = Field(15, access=Access.RW1CS)
    unexpected_completion = Field(16, access=Access.RW1CS)
    receiver_overflow = Field(17, access=Access.RW1CS)
    malformed_tlp = Field(18, access=Access.RW1CS)
    ecrc = Field(19, access=Access.RW1CS)
    unsupported_request = Field(20, access=Access.RW1CS)
    acs_violation = Field(21, access=Access.RO)
    internal = Field(22, access=Access.RW1CS)
    multicast_blocked = Field(23, access=Access.RO)
    atomic_op_blocked = Field(24, access=Access.RO)
    tlp_prefix_blocked = Field(25, access=Access.RO)
    poisoned_tlp_blocked = Field(26, access=Access.RO)
    dmwr_blocked = Field(27, access=Access.RO)
    ide_check_failed = Field(28, access=Access.RO)
    misrouted_ide_tlp = Field(29, access=Access.RO)
    pcrc_check_failed = Field(30, access=Access.RO)
    translation_blocked = Field(31, access=Access.RO)


class UncorrectableMask(Register, offset=0x08, name="AER_UNCOR_MASK"):
    """Which of them are not reported (PCIe 6.0 7.8.4.3)."""

    data_link_protocol = Field(4, access=Access.RWS)
    surprise_down = Field(5, access=Access.RO)
    poisoned_tlp = Field(12, access=Access.RWS)
    flow_control = Field(13, access=Access.RWS)
    completion_timeout = Field(14, access=Access.RWS)
    completer_abort = Field(15, access=Access.RWS)
    unexpected_completion = Field(16, access=Access.RWS)
    receiver_overflow = Field(17, access=Access.RWS)
    malformed_tlp = Field(18, access=Access.RWS)
    ecrc = Field(19, access=Access.RWS)
    unsupported_request = Field(20, access=Access.RWS)
    acs_violation = Field(21, access=Access.RO)
    internal = Field(22, access=Access.RWS, reset=1)
    multicast_blocked = Field(23, access=Access.RO)
    atomic_op_blocked = Field(24, access=Access.RO)
    tlp_prefix_blocked = Field(25, access=Access.RO)
    poisoned_tlp_blocked = Field(26, access=Access.RO)
    dmwr_blocked = Field(27, access=Access.RO)
    ide_check_failed = Field(28, access=Access.RO)
    misrouted_ide_tlp = Field(29, access=Access.RO)
    pcrc_check_failed = Field(30, access=Access.RO)
    translation_blocked = Field(31, access=Access.RO)


class UncorrectableSeverity(UncorrectableMask, offset=0x0C, name="AER_UNCOR_SEVERITY"):
    """Which of them are fatal (PCIe 6.0 7.8.4.4)."""

    data_link_protocol = Field(4, access=Access.RWS, reset=1)
    surprise_down = Field(5, access=Access.RO, reset=1)
    flow_control = Field(13, access=Access.RWS, reset=1)
    receiver_overflow = Field(17, access=Access.RWS, reset=1)
    malformed_tlp = Field(18, access=Access.RWS, reset=1)
    internal = Field(22, access=Access.RWS, reset=1)


class CorrectableStatus(Register, offset=0x10, name="AER_COR_STATUS"):
    """Correctable errors seen (PCIe 6.0 7.8.4.5)."""

    receiver = Field(0, access=Access.RW1CS)
    bad_tlp = Field(6, access=Access.RW1CS)
    bad_dllp = Field(7, access=Access.RW1CS)
    replay_rollover = Field(8, access=Access.RW1CS)
    replay_timeout = Field(12, access=Access.RW1CS)
    advisory_non_fatal = Field(13, access=Access.RW1CS)
    corrected_internal = Field(14, access=Access.RW1CS)
    header_log_overflow = Field(15, access=Access.RW1CS)


class CorrectableMask(Register, offset=0x14, name="AER_COR_MASK"):
    """Which of them are not reported (PCIe 6.0 7.8.4.6)."""

    receiver = Field(0, access=Access.RWS)
    bad_tlp = Field(6, access=Access.RWS)
    bad_dllp = Field(7, access=Access.RWS)
    replay_rollover = Field(8, access=Access.RWS)
    replay_timeout = Field(12, access=Access.RWS)
    advisory_non_fatal = Field(13, access=Access.RWS, reset=1)
    corrected_internal = Field(14, access=Access.RWS, reset=1)
    header_log_overflow = Field(15, access=Access.RWS, reset=1)


class AerControl(Register, offset=0x18):
    """Error capabilities and control (PCIe 6.0 7.8.4.7)."""

    first_error_pointer = Field(0, 5, access=Access.ROS)
    ecrc_generation_capable = Field(5, access=Access.RO, reset=1)
    ecrc_generation = Field(6, access=Access.RWS)
    ecrc_check_capable = Field(7, access=Access.RO, reset=1)
    ecrc_check = Field(8, access=Access.RWS)
    multiple_header_capable = Field(9, access=Access.RO)
    multiple_header = Field(10, access=Access.RO)
    tlp_prefix_log_present = Field(11, access=Access.ROS)


class AerHeaderLog0(Register, offset=0x1C, name="AER_HEADER_LOG0"):
    """First dword of the header of the packet that failed."""

    value = Field(0, 32, access=Access.ROS)


class AerHeaderLog1(AerHeaderLog0, offset=0x20, name="AER_HEADER_LOG1"):
    """Second dword."""


class AerHeaderLog2(AerHeaderLog0, offset=0x24, name="AER_HEADER_LOG2"):
    """Third dword."""


class AerHeaderLog3(AerHeaderLog0, offset=0x28, name="AER_HEADER_LOG3"):
    """Fourth dword."""


class AerReserved2C(Register, offset=0x2C, width=8, name="AER_RESERVED_2C"):
    """An endpoint is no root port."""

    value = Field(0, 64, access=Access.RO)


class AerReserved34(Register, offset=0x34, name="AER_RESERVED_34"):
    """As above."""

    value = Field(0, 32, access=Access.RO)


class AerPrefixLog(Register, offset=0x38, width=8, name="AER_PREFIX_LOG"):
    """First half of the prefixes of the packet that failed (PCIe 6.0 7.8.4.12)."""

    value = Field(0, 64, access=Access.ROS)


class AerPrefixLogHigh(AerPrefixLog, offset=0x40, name="AER_PREFIX_LOG_HIGH"):
    """Second half."""


class PortUncorrectableStatus(UncorrectableStatus, name="AER_UNCOR_STATUS"):
    """As an endpoint's, with what only ports detect."""

    surprise_down = Field(5, access=Access.RW1CS)
    acs_violation = Field(21, access=Access.RW1CS)
    multicast_blocked = Field(23, access=Access.RW1CS)
    atomic_op_blocked = Field(24, access=Access.RW1CS)
    tlp_prefix_blocked = Field(25, access=Access.RW1CS)
    poisoned_tlp_blocked = Field(26, access=Access.RW1CS)
    dmwr_blocked = Field(27, access=Access.RW1CS)


class PortUncorrectableMask(UncorrectableMask, name="AER_UNCOR_MASK"):
    """As an endpoint's, with what only ports detect."""

    surprise_down = Field(5, access=Access.RWS)
    acs_violation = Field(21, access=Access.RWS)
    multicast_blocked = Field(23, access=Access.RWS)
    atomic_op_blocked = Field(24, access=Access.RWS)
    tlp_prefix_blocked = Field(25, access=Access.RWS)
    poisoned_tlp_blocked = Field(26, access=Access.RWS)
    dmwr_blocked = Field(27, access=Access.RWS)


class PortUncorrectableSeverity(PortUncorrectableMask, offset=0x0C, name="AER_UNCOR_SEVERITY"):
    """Which of them are fatal."""


class PortAerControl(AerControl, name="AER_CONTROL"):
    """As an endpoint's, with a log of several headers."""

    multiple_header = Field(10, access=Access.RWS)


class RootErrorCommand(Register, offset=0x2C, name="AER_ROOT_COMMAND"):
    """Which errors interrupt, on root ports (PCIe 6.0 7.8.4.9)."""

    correctable_interrupt = Field(0)
    non_fatal_interrupt = Field(1)
    fatal_interrupt = Field(2)


class RootErrorStatus(Register, offset=0x30, name="AER_ROOT_STATUS"):
    """Which errors arrived, on root ports (PCIe 6.0 7.8.4.10)."""

    correctable = Field(0, access=Access.RW1CS)
    multiple_correctable = Field(1, access=Access.RW1CS)
    uncorrectable = Field(2, access=Access.RW1CS)
    multiple_uncorrectable = Field(3, access=Access.RW1CS)
    first_is_fatal = Field(4, access=Access.RW1CS)
    non_fatal = Field(5, access=Access.RW1CS)
    fatal = Field(6, access=Access.RW1CS)
    interrupt_message_number = Field(27, 5, access=Access.RO)


class RootErrorSource(Register, offset=0x34, name="AER_ROOT_SOURCE"):
    """Who sent them, on root ports (PCIe 6.0 7.8.4.11)."""

    correctable = Field(0, 16, access=Access.ROS)
    uncorrectable = Field(16, 16, access=Access.ROS)


class Aer(Capability):
    """Error reporting of an endpoint."""

    __slots__ = ()

    name: ClassVar[str] = "AER"
    registers: ClassVar[tuple[type[Register], ...]] = (
        AerHeader, UncorrectableStatus, UncorrectableMask, UncorrectableSeverity, CorrectableStatus,
        CorrectableMask, AerControl, AerHeaderLog0, AerHeaderLog1, AerHeaderLog2, AerHeaderLog3,
        AerReserved2C, AerReserved34, AerPrefixLog, AerPrefixLogHigh,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 0x48
    is_extended: ClassVar[bool] = True


class AerPort(Aer):
    """Error reporting of a port; the root registers read 0 on switch ports."""

    __slots__ = ()

    registers: ClassVar[tuple[type[Register], ...]] = (
        AerHeader, PortUncorrectableStatus, PortUncorrectableMask, PortUncorrectableSeverity, CorrectableStatus,
        CorrectableMask, PortAerControl, AerHeaderLog0, AerHeaderLog1, AerHeaderLog2, AerHeaderLog3,
        RootErrorCommand, RootErrorStatus, RootErrorSource, AerPrefixLog, AerPrefixLogHigh,
    )  # fmt: skip
