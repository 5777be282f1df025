# SPDX-License-Identifier: MIT
"""Access Control Services (PCIe 6.0 7.7.11): which peer-to-peer requests a port, or a function, lets pass."""

from dataclasses import dataclass
from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader, Resets
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class AcsHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the ACS capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.ACS)


class AcsCapability(Register, offset=0x04, width=2):
    """Which controls there are (PCIe 6.0 7.7.11.2)."""

    source_validation = Field(0, access=Access.RO)
    translation_blocking = Field(1, access=Access.RO)
    request_redirect = Field(2, access=Access.RO)
    completion_redirect = Field(3, access=Access.RO)
    upstream_forwarding = Field(4, access=Access.RO)
    egress_control = Field(5, access=Access.RO)
    direct_translated = Field(6, access=Access.RO)
    enhanced = Field(7, access=Access.RO)
    egress_vector_bits = Field(8, 8, access=Access.HWINIT)


class AcsControl(Register, offset=0x06, width=2):
    """Which of them are on (PCIe 6.0 7.7.11.3)."""

    source_validation = Field(0)
    translation_blocking = Field(1)
    request_redirect = Field(2)
    completion_redirect = Field(3)
    upstream_forwarding = Field(4)
    egress_control = Field(5)
    direct_translated = Field(6)
    io_request_blocking = Field(7, access=Access.RO)
    downstream_memory_target = Field(8, 2, access=Access.RO)
    upstream_memory_target = Field(10, 2, access=Access.RO)
    unclaimed_redirect = Field(12, access=Access.RO)


class PortAcsControl(AcsControl, name="ACS_CONTROL"):
    """As an endpoint's, with what enhanced ACS adds to ports."""

    io_request_blocking = Field(7)
    downstream_memory_target = Field(8, 2)
    upstream_memory_target = Field(10, 2)
    unclaimed_redirect = Field(12)


@dataclass(frozen=True, slots=True)
class Acs(Capability):
    """Peer-to-peer control of a multi-function endpoint: redirects and direct translated requests."""

    request_redirect: bool = True
    completion_redirect: bool = True
    direct_translated: bool = False

    name: ClassVar[str] = "ACS"
    registers: ClassVar[tuple[type[Register], ...]] = (AcsHeader, AcsCapability, AcsControl)
    size_bytes: ClassVar[int] = 8
    is_extended: ClassVar[bool] = True

    def resets(self) -> Resets:
        """Which controls there are."""
        return {
            AcsCapability: {
                "request_redirect": int(self.request_redirect),
                "completion_redirect": int(self.completion_redirect),
                "direct_translated": int(self.direct_translated),
            }
        }


class AcsPort(Acs):
    """What a port has, for naming accesses to it."""

    __slots__ = ()

    registers: ClassVar[tuple[type[Register], ...]] = (AcsHeader, AcsCapability, PortAcsControl)
