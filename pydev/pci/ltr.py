# SPDX-License-Identifier: MIT
"""Latency Tolerance Reporting (PCIe 6.0 7.8.2): the most that a function may say it can wait."""

from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class LtrHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the LTR capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.LTR)


class LtrMaxSnoop(Register, offset=0x04, width=2, name="LTR_MAX_SNOOP"):
    """For requests that are snooped: `latency` times 32^`scale` ns (PCIe 6.0 7.8.2.2)."""

    latency = Field(0, 10)
    scale = Field(10, 3)


class LtrMaxNoSnoop(LtrMaxSnoop, offset=0x06, name="LTR_MAX_NO_SNOOP"):
    """For those that are not (PCIe 6.0 7.8.2.3)."""


class Ltr(Capability):
    """The limits of what DEVCTL2.ltr lets a function report."""

    __slots__ = ()

    name: ClassVar[str] = "LTR"
    registers: ClassVar[tuple[type[Register], ...]] = (LtrHeader, LtrMaxSnoop, LtrMaxNoSnoop)
    size_bytes: ClassVar[int] = 8
    is_extended: ClassVar[bool] = True
