# SPDX-License-Identifier: MIT
"""The PCI Express capability of root ports and switch ports (PCIe 6.0 7.5.3), for naming accesses to them.

Bridges are modelled elsewhere: only names, places and widths are used, and access as software sees it.
"""

from typing import ClassVar

from pydev.pci.capability import Capability
from pydev.pci.express import (
    DeviceCapabilities,
    DeviceCapabilities2,
    DeviceControl,
    DeviceControl2,
    DeviceStatus,
    DeviceStatus2,
    ExpFlags,
    ExpHeader,
    LinkCapabilities,
    LinkCapabilities2,
    LinkControl,
    LinkControl2,
    LinkStatus,
    LinkStatus2,
)
from pydev.registers import Access, Field, Register

RO = Access.RO
RW1C = Access.RW1C


class PortDeviceControl(DeviceControl, name="DEVCTL"):
    """As an endpoint's, without a Function Level Reset."""

    initiate_flr = Field(15, access=RO)


class PortLinkControl(LinkControl, name="LNKCTL"):
    """As an endpoint's, with the controls that only the upper end of a link has."""

    link_disable = Field(4)
    retrain_link = Field(5, access=Access.WO)
    bandwidth_management_interrupt = Field(10)
    autonomous_bandwidth_interrupt = Field(11)
    flit_mode_disable = Field(13)
    drs_signaling = Field(14, 2)


class PortLinkStatus(LinkStatus, name="LNKSTA"):
    """As an endpoint's, with bandwidth notification."""

    bandwidth_management = Field(14, access=RW1C)
    autonomous_bandwidth = Field(15, access=RW1C)


class SlotCapabilities(Register, offset=0x14, name="SLTCAP"):
    """What the slot has (PCIe 6.0 7.5.3.9)."""

    attention_button = Field(0, access=Access.HWINIT)
    power_controller = Field(1, access=Access.HWINIT)
    retention_latch = Field(2, access=Access.HWINIT)
    attention_indicator = Field(3, access=Access.HWINIT)
    power_indicator = Field(4, access=Access.HWINIT)
    hotplug_surprise = Field(5, access=Access.HWINIT)
    hotplug_capable = Field(6, access=Access.HWINIT)
    power_limit_value = Field(7, 8, access=Access.HWINIT)
    power_limit_scale = Field(15, 2, access=Access.HWINIT)
    interlock = Field(17, access=Access.HWINIT)
    no_command_completed = Field(18, access=Access.HWINIT)
    physical_slot_number = Field(19, 13, access=Access.HWINIT)


class SlotControl(Register, offset=0x18, width=2, name="SLTCTL"):
    """Control of the slot (PCIe 6.0 7.5.3.10); `power_controller` 1 is power off."""

    attention_button_interrupt = Field(0)
    power_fault_interrupt = Field(1)
    retention_latch_interrupt = Field(2)
    presence_interrupt = Field(3)
    command_completed_interrupt = Field(4)
    hotplug_interrupt = Field(5)
    attention_indicator = Field(6, 2)
    power_indicator = Field(8, 2)
    power_controller = Field(10)
    interlock = Field(11, access=Access.WO)
    link_state_changed = Field(12)
    auto_power_limit_disable = Field(13)
    in_band_presence_disable = Field(14)


class SlotStatus(Register, offset=0x1A, width=2, name="SLTSTA"):
    """Events of the slot (PCIe 6.0 7.5.3.11)."""

    attention_button_pressed = Field(0, access=RW1C)
    power_fault = Field(1, access=RW1C)
    retention_latch_changed = Field(2, access=RW1C)
    presence_changed = Field(3, access=RW1C)
    command_completed = Field(4, access=RW1C)
    retention_latch_state = Field(5, access=RO)
    presence = Field(6, access=RO)
    interlock = Field(7, access=RO)
    link_state_changed = Field(8, access=RW1C)


class RootControl(Register, offset=0x1C, width=2, name="RTCTL"):
    """System errors and PME of a root port (PCIe 6.0 7.5.3.12)."""

    correctable_system_error = Field(0)
    non_fatal_system_error = Field(1)
    fatal_system_error = Field(2)
    pme_interrupt = Field(3)
    rrs_software_visibility = Field(4)


class RootCapabilities(Register, offset=0x1E, width=2, name="RTCAP"):
    """What a root port can do (PCIe 6.0 7.5.3.13)."""

    rrs_software_visibility = Field(0, access=RO)


class RootStatus(Register, offset=0x20, name="RTSTA"):
    """Who asked for power (PCIe 6.0 7.5.3.14)."""

    pme_requester_id = Field(0, 16, access=RO)
    pme_status = Field(16, access=RW1C)
    pme_pending = Field(17, access=RO)


class PortDeviceControl2(DeviceControl2, name="DEVCTL2"):
    """As an endpoint's, with what only ports forward."""

    completion_timeout_value = Field(0, 4)
    ari_forwarding = Field(5)
    atomic_op_requester = Field(6)
    atomic_op_egress_blocking = Field(7)
    ido_request = Field(8)
    ido_completion = Field(9)
    ltr = Field(10)
    ten_bit_tag_requester = Field(12)
    obff = Field(13, 2)
    end_end_tlp_prefix_blocking = Field(15)


class PortLinkControl2(LinkControl2, name="LNKCTL2"):
    """As an endpoint's, with what the upper end of a link chooses."""

    autonomous_speed_disable = Field(5, access=Access.RWS)
    selectable_deemphasis = Field(6, access=Access.HWINIT)


class SlotCapabilities2(Register, offset=0x34, name="SLTCAP2"):
    """What else the slot has (PCIe 6.0 7.5.3.21)."""

    in_band_presence_disable = Field(0, access=Access.HWINIT)


class SlotControl2(Register, offset=0x38, width=2, name="SLTCTL2"):
    """Reserved (PCIe 6.0 7.5.3.22)."""

    value = Field(0, 16, access=RO)


class SlotStatus2(Register, offset=0x3A, width=2, name="SLTSTA2"):
    """Reserved (PCIe 6.0 7.5.3.23)."""

    value = Field(0, 16, access=RO)


class ExpressPort(Capability):
    """Version 2 with slot and root registers; those that a kind of port lacks read 0."""

    __slots__ = ()

    name: ClassVar[str] = "EXP"
    registers: ClassVar[tuple[type[Register], ...]] = (
        ExpHeader, ExpFlags, DeviceCapabilities, PortDeviceControl, DeviceStatus, LinkCapabilities,
        PortLinkControl, PortLinkStatus, SlotCapabilities, SlotControl, SlotStatus, RootControl,
        RootCapabilities, RootStatus, DeviceCapabilities2, PortDeviceControl2, DeviceStatus2,
        LinkCapabilities2, PortLinkControl2, LinkStatus2, SlotCapabilities2, SlotControl2, SlotStatus2,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 0x3C
