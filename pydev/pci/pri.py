# SPDX-License-Identifier: MIT
"""The Page Request Interface (PCIe 6.0 10.5.2): a function asks for pages that are not there yet.

It is stopped while it is off: no request is under way, for these models make none.
"""

from collections.abc import Callable
from typing import ClassVar, Final

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register, RegisterBank, Write

OUTSTANDING_REQUESTS: Final = 32


class PriHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the page request capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.PRI)


class PriControl(Register, offset=0x04, width=2, name="PRI_CTRL"):
    """On or off; `reset`, while it is off, forgets every request (PCIe 6.0 10.5.2.2)."""

    enable = Field(0)
    reset = Field(1, access=Access.WO)


class PriStatus(Register, offset=0x06, width=2, name="PRI_STATUS"):
    """What went wrong, and whether requests are under way (PCIe 6.0 10.5.2.3)."""

    response_failure = Field(0, access=Access.RW1C)
    unexpected_group_index = Field(1, access=Access.RW1C)
    stopped = Field(8, access=Access.RO, reset=1)
    response_needs_pasid = Field(15, access=Access.RO)


class PriCapacity(Register, offset=0x08, name="PRI_CAPACITY"):
    """How many requests can be outstanding (PCIe 6.0 10.5.2.4)."""

    value = Field(0, 32, access=Access.RO, reset=OUTSTANDING_REQUESTS)


class PriAllocation(Register, offset=0x0C, name="PRI_ALLOCATION"):
    """How many may be (PCIe 6.0 10.5.2.5)."""

    value = Field(0, 32)


class Pri(Capability):
    """Page requests, of which none is ever made."""

    __slots__ = ()

    name: ClassVar[str] = "PRI"
    registers: ClassVar[tuple[type[Register], ...]] = (
        PriHeader, PriControl, PriStatus, PriCapacity, PriAllocation,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 16
    is_extended: ClassVar[bool] = True

    def attach(self, bank: RegisterBank) -> Callable[[], None] | None:
        """Stopped is the opposite of enabled."""

        def control_written(write: Write) -> None:
            bank.set(PriStatus.stopped, 1 - PriControl(write.after).enable)

        bank.on_write(PriControl, control_written)
        return None
