# SPDX-License-Identifier: MIT
"""The PCI Express capability of an endpoint (PCIe 6.0 7.5.3). Register names are Linux's without `EXP_`.

`keeps_flr` marks what PCIe 6.0 6.6.2 exempts from a Function Level Reset: captured slot power, payload size,
and the link controls, which belong to the link and not to one function.
"""

from dataclasses import dataclass
from typing import ClassVar

from pydev.pci.capability import Capability, CapabilityHeader, Resets
from pydev.pci.ids import CapabilityId
from pydev.registers import Access, Field, Register

RO = Access.RO


class ExpHeader(CapabilityHeader, offset=0x00):
    """Header of the PCI Express capability."""

    capability_id = Field(0, 8, access=RO, reset=CapabilityId.EXPRESS)


class ExpFlags(Register, offset=0x02, width=2):
    """PCI Express capabilities (PCIe 6.0 7.5.3.2); port type 0 is an endpoint."""

    version = Field(0, 4, access=RO, reset=2)
    port_type = Field(4, 4, access=RO)
    slot_implemented = Field(8, access=Access.HWINIT)
    interrupt_message_number = Field(9, 5, access=RO)


class DeviceCapabilities(Register, offset=0x04, name="DEVCAP"):
    """What the function can do (PCIe 6.0 7.5.3.3)."""

    max_payload_size_supported = Field(0, 3, access=RO, reset=1)
    phantom_functions = Field(3, 2, access=RO)
    extended_tag_supported = Field(5, access=RO, reset=1)
    l0s_acceptable_latency = Field(6, 3, access=RO)
    l1_acceptable_latency = Field(9, 3, access=RO)
    role_based_error_reporting = Field(15, access=RO, reset=1)
    captured_slot_power_limit = Field(18, 8, access=RO, keeps_flr=True)
    captured_slot_power_scale = Field(26, 2, access=RO, keeps_flr=True)
    flr_capable = Field(28, access=RO, reset=1)


class ExpReserved14(Register, offset=0x14, width=8, name="EXP_RESERVED_14"):
    """An endpoint has no slot."""

    value = Field(0, 64, access=RO)


class ExpReserved1C(ExpReserved14, offset=0x1C, name="EXP_RESERVED_1C"):
    """It is no root port either."""


class ExpReserved34(ExpReserved14, offset=0x34, name="EXP_RESERVED_34"):
    """And so has no more of a slot."""


class DeviceControl(Register, offset=0x08, width=2, name="DEVCTL"):
    """What the function may do (PCIe 6.0 7.5.3.4)."""

    correctable_error_reporting = Field(0)
    non_fatal_error_reporting = Field(1)
    fatal_error_reporting = Field(2)
    unsupported_request_reporting = Field(3)
    relaxed_ordering = Field(4, reset=1)
    max_payload_size = Field(5, 3, keeps_flr=True)
    extended_tag = Field(8)
    phantom_functions = Field(9, access=RO)
    aux_power = Field(10, access=RO)
    no_snoop = Field(11, reset=1)
    max_read_request_size = Field(12, 3, reset=2)
    initiate_flr = Field(15, access=Access.WO)


class DeviceStatus(Register, offset=0x0A, width=2, name="DEVSTA"):
    """What went wrong (PCIe 6.0 7.5.3.5)."""

    correctable_error = Field(0, access=Access.RW1C)
    non_fatal_error = Field(1, access=Access.RW1C)
    fatal_error = Field(2, access=Access.RW1C)
    unsupported_request = Field(3, access=Access.RW1C)
    aux_power = Field(4, access=RO)
    transactions_pending = Field(5, access=RO)


class LinkCapabilities(Register, offset=0x0C, name="LNKCAP"):
    """One lane of 2.5 GT/s, no power management of the link (PCIe 6.0 7.5.3.6)."""

    max_speed = Field(0, 4, access=RO, reset=1)
    max_width = Field(4, 6, access=RO, reset=1)
    aspm_support = Field(10, 2, access=RO)
    l0s_exit_latency = Field(12, 3, access=RO)
    l1_exit_latency = Field(15, 3, access=RO)
    clock_power_management = Field(18, access=RO)
    surprise_down_reporting = Field(19, access=RO)
    link_active_reporting = Field(20, access=RO)
    bandwidth_notification = Field(21, access=RO)
    aspm_optionality = Field(22, access=RO, reset=1)
    port_number = Field(24, 8, access=Access.HWINIT)


class LinkControl(Register, offset=0x10, width=2, name="LNKCTL"):
    """Control of the link (PCIe 6.0 7.5.3.7)."""

    aspm_control = Field(0, 2, keeps_flr=True)
    read_completion_boundary = Field(3, keeps_flr=True)
    link_disable = Field(4, access=RO)
    retrain_link = Field(5, access=RO)
    common_clock = Field(6, keeps_flr=True)
    extended_synch = Field(7, keeps_flr=True)
    clock_power_management = Field(8, access=RO)
    autonomous_width_disable = Field(9, access=RO)
    bandwidth_management_interrupt = Field(10, access=RO)
    autonomous_bandwidth_interrupt = Field(11, access=RO)
    sris_clocking = Field(12, access=RO)
    flit_mode_disable = Field(13, access=RO)
    drs_signaling = Field(14, 2, access=RO)


class LinkStatus(Register, offset=0x12, width=2, name="LNKSTA"):
    """State of the link (PCIe 6.0 7.5.3.8)."""

    speed = Field(0, 4, access=RO, reset=1)
    width_lanes = Field(4, 6, access=RO, reset=1)
    link_training = Field(11, access=RO)
    slot_clock = Field(12, access=Access.HWINIT)
    link_active = Field(13, access=RO)
    bandwidth_management = Field(14, access=RO)
    autonomous_bandwidth = Field(15, access=RO)


class DeviceCapabilities2(Register, offset=0x24, name="DEVCAP2"):
    """What else the function can do (PCIe 6.0 7.5.3.15)."""

    completion_timeout_ranges = Field(0, 4, access=RO)
    completion_timeout_disable = Field(4, access=RO, reset=1)
    ari_forwarding = Field(5, access=RO)
    atomic_op_routing = Field(6, access=RO)
    atomic_op_completer_32 = Field(7, access=RO)
    atomic_op_completer_64 = Field(8, access=RO)
    cas_completer_128 = Field(9, access=RO)
    no_relaxed_peer_to_peer = Field(10, access=RO)
    ltr = Field(11, access=RO)
    tph_completer = Field(12, 2, access=RO)
    ten_bit_tag_completer = Field(16, access=RO)
    ten_bit_tag_requester = Field(17, access=RO)
    obff = Field(18, 2, access=RO)
    extended_fmt = Field(20, access=RO)
    end_end_tlp_prefix = Field(21, access=RO)
    max_end_end_tlp_prefixes = Field(22, 2, access=RO)
    emergency_power_reduction = Field(24, 2, access=RO)
    emergency_power_initialization = Field(26, access=RO)
    frs = Field(31, access=Access.HWINIT)


class DeviceControl2(Register, offset=0x28, width=2, name="DEVCTL2"):
    """What else the function may do (PCIe 6.0 7.5.3.16)."""

    completion_timeout_value = Field(0, 4, access=RO)
    completion_timeout_disable = Field(4)
    ari_forwarding = Field(5, access=RO)
    atomic_op_requester = Field(6, access=RO)
    atomic_op_egress_blocking = Field(7, access=RO)
    ido_request = Field(8, access=RO)
    ido_completion = Field(9, access=RO)
    ltr = Field(10, access=RO)
    emergency_power_reduction = Field(11, access=RO)
    ten_bit_tag_requester = Field(12, access=RO)
    obff = Field(13, 2, access=RO)
    end_end_tlp_prefix_blocking = Field(15, access=RO)


class LtrDeviceControl2(DeviceControl2, name="DEVCTL2"):
    """As above, of a function that reports its latency tolerance."""

    ltr = Field(10)


class DeviceStatus2(Register, offset=0x2A, width=2, name="DEVSTA2"):
    """Reserved."""

    value = Field(0, 16, access=RO)


class LinkCapabilities2(Register, offset=0x2C, name="LNKCAP2"):
    """Link speeds: 2.5 GT/s alone (PCIe 6.0 7.5.3.18)."""

    supported_speeds = Field(1, 7, access=RO, reset=1)


class LinkControl2(Register, offset=0x30, width=2, name="LNKCTL2"):
    """Target speed and compliance (PCIe 6.0 7.5.3.19); all of it is sticky."""

    target_speed = Field(0, 4, access=Access.RWS, reset=1)
    enter_compliance = Field(4, access=Access.RWS)
    autonomous_speed_disable = Field(5, access=RO)
    selectable_deemphasis = Field(6, access=RO)
    transmit_margin = Field(7, 3, access=Access.RWS)
    enter_modified_compliance = Field(10, access=Access.RWS)
    compliance_sos = Field(11, access=Access.RWS)
    compliance_preset = Field(12, 4, access=Access.RWS)


class LinkStatus2(Register, offset=0x32, width=2, name="LNKSTA2"):
    """Equalisation and de-emphasis (PCIe 6.0 7.5.3.20)."""

    current_deemphasis = Field(0, access=RO)


@dataclass(frozen=True, slots=True)
class Express(Capability):
    """Version 2, an endpoint that can reset itself unless `is_flr_capable` is false.

    `has_tlp_prefixes`: requests can carry prefixes from end to end, as address spaces need them.
    """

    is_flr_capable: bool = True
    has_tlp_prefixes: bool = False

    name: ClassVar[str] = "EXP"
    registers: ClassVar[tuple[type[Register], ...]] = (
        ExpHeader, ExpFlags, DeviceCapabilities, DeviceControl, DeviceStatus, LinkCapabilities, LinkControl,
        LinkStatus, ExpReserved14, ExpReserved1C, DeviceCapabilities2, DeviceControl2, DeviceStatus2,
        LinkCapabilities2, LinkControl2, LinkStatus2, ExpReserved34,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 0x3C

    def resets(self) -> Resets:
        """Whether DEVCTL.Initiate_FLR does anything, and how many prefixes there can be."""
        prefixes = int(self.has_tlp_prefixes)
        return {
            DeviceCapabilities: {"flr_capable": int(self.is_flr_capable)},
            DeviceCapabilities2: {
                "extended_fmt": prefixes,
                "end_end_tlp_prefix": prefixes,
                "max_end_end_tlp_prefixes": prefixes,
            },
        }


@dataclass(frozen=True, slots=True)
class ExpressWithLtr(Express):
    """As above, and reports its latency tolerance."""

    registers: ClassVar[tuple[type[Register], ...]] = tuple(
        LtrDeviceControl2 if register is DeviceControl2 else register for register in Express.registers
    )

    def resets(self) -> Resets:
        """As above, and that it can."""
        resets = Express.resets(self)
        return {**resets, DeviceCapabilities2: {**resets[DeviceCapabilities2], "ltr": 1}}
