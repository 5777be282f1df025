# SPDX-License-Identifier: MIT
"""Integrity and Data Encryption (PCIe 6.0 6.33, 7.9.26): one link stream, one selective stream.

Keys, and so the state Secure, come from a protocol (6.33.3) that these models do not speak: a stream that is
enabled stays Insecure and carries nothing. What is here is what a kernel can see and write.
"""

from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class IdeHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the IDE capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.IDE)


class IdeCapability(Register, offset=0x04, name="IDE_CAP"):
    """Which streams there are; counts are one less than there are (PCIe 6.0 7.9.26.2)."""

    link_streams = Field(0, access=Access.HWINIT, reset=1)
    selective_streams = Field(1, access=Access.HWINIT, reset=1)
    flow_through = Field(2, access=Access.HWINIT)
    partial_header_encryption = Field(3, access=Access.HWINIT)
    aggregation = Field(4, access=Access.HWINIT)
    pcrc = Field(5, access=Access.HWINIT)
    key_management = Field(6, access=Access.HWINIT)
    selective_config_requests = Field(7, access=Access.HWINIT)
    algorithms = Field(8, 5, access=Access.HWINIT)
    link_traffic_classes = Field(13, 3, access=Access.HWINIT)
    selective_stream_count = Field(16, 8, access=Access.HWINIT)
    tee_limited = Field(24, access=Access.HWINIT)


class IdeControl(Register, offset=0x08, name="IDE_CTL"):
    """What a switch lets through (PCIe 6.0 7.9.26.3)."""

    flow_through = Field(2)


class IdeLinkControl(Register, offset=0x0C, name="IDE_LINK_CTL"):
    """The stream of the whole link (PCIe 6.0 7.9.26.4.1)."""

    enable = Field(0)
    aggregation_non_posted = Field(2, 2)
    aggregation_posted = Field(4, 2)
    aggregation_completions = Field(6, 2)
    pcrc = Field(8)
    partial_header_encryption = Field(10, 4)
    algorithm = Field(14, 5)
    traffic_class = Field(19, 3)
    stream_id = Field(24, 8)


class IdeLinkStatus(Register, offset=0x10, name="IDE_LINK_STATUS"):
    """Its state: 0 insecure, 2 secure (PCIe 6.0 7.9.26.4.2)."""

    state = Field(0, 4, access=Access.RO)
    failed = Field(31, access=Access.RW1C)


class IdeSelectiveCapability(Register, offset=0x14, name="IDE_SELECTIVE_CAP"):
    """How many ranges of addresses the stream can be given (PCIe 6.0 7.9.26.5.1)."""

    address_blocks = Field(0, 4, access=Access.RO, reset=1)


class IdeSelectiveControl(Register, offset=0x18, name="IDE_SELECTIVE_CTL"):
    """The stream between two functions (PCIe 6.0 7.9.26.5.2)."""

    enable = Field(0)
    aggregation_non_posted = Field(2, 2)
    aggregation_posted = Field(4, 2)
    aggregation_completions = Field(6, 2)
    pcrc = Field(8)
    config_requests = Field(9)
    partial_header_encryption = Field(10, 4)
    algorithm = Field(14, 5)
    traffic_class = Field(19, 3)
    is_default = Field(22)
    tee_limited = Field(23)
    stream_id = Field(24, 8)


class IdeSelectiveStatus(IdeLinkStatus, offset=0x1C, name="IDE_SELECTIVE_STATUS"):
    """Its state (PCIe 6.0 7.9.26.5.3)."""


class IdeRequesterLimit(Register, offset=0x20, name="IDE_RID_LIMIT"):
    """The last requester ID that belongs to it (PCIe 6.0 7.9.26.5.4.1)."""

    requester_id = Field(8, 16)


class IdeRequesterBase(Register, offset=0x24, name="IDE_RID_BASE"):
    """The first, and whether they count (PCIe 6.0 7.9.26.5.4.2)."""

    valid = Field(0)
    requester_id = Field(8, 16)


class IdeAddressRange(Register, offset=0x28, name="IDE_ADDRESS_1"):
    """The range's low ends, in MiB, and whether it counts (PCIe 6.0 7.9.26.5.5.1)."""

    valid = Field(0)
    base_low = Field(8, 12)
    limit_low = Field(20, 12)


class IdeAddressLimit(Register, offset=0x2C, name="IDE_ADDRESS_2"):
    """Upper half of its last address (PCIe 6.0 7.9.26.5.5.2)."""

    limit_high = Field(0, 32)


class IdeAddressBase(Register, offset=0x30, name="IDE_ADDRESS_3"):
    """Upper half of its first (PCIe 6.0 7.9.26.5.5.3)."""

    base_high = Field(0, 32)


class Ide(Capability):
    """One stream of each kind, for traffic class 0."""

    __slots__ = ()

    name: ClassVar[str] = "IDE"
    registers: ClassVar[tuple[type[Register], ...]] = (
        IdeHeader, IdeCapability, IdeControl, IdeLinkControl, IdeLinkStatus, IdeSelectiveCapability,
        IdeSelectiveControl, IdeSelectiveStatus, IdeRequesterLimit, IdeRequesterBase, IdeAddressRange,
        IdeAddressLimit, IdeAddressBase,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 0x34
    is_extended: ClassVar[bool] = True
