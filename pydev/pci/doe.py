# SPDX-License-Identifier: MIT
"""Data Object Exchange (PCIe 6.0 6.30, 7.9.24): a mailbox in configuration space.

The mailbox answers discovery (PCIe 6.0 6.30.1.1), which is the only protocol that it has. An object of any other
is dropped without an answer, as 6.30.1 wants it.
"""

from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register, RegisterBank, Write

PCI_SIG: Final = 0x0001
DISCOVERY: Final = 0x00
NO_PROTOCOL: Final = 0xFFFF
_HEADER_DWORDS: Final = 2
_MAX_DWORDS: Final = 16
"""The longest request: discovery's has three."""


class DoeHeader(ExtendedCapabilityHeader, offset=0x00):
    """Header of the DOE capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.DOE)


class DoeCapability(Register, offset=0x04, name="DOE_CAP"):
    """Whether it interrupts (PCIe 6.0 7.9.24.2)."""

    interrupt_support = Field(0, access=Access.RO)
    interrupt_message_number = Field(1, 11, access=Access.RO)


class DoeControl(Register, offset=0x08, name="DOE_CTRL"):
    """Begin an exchange, or forget it (PCIe 6.0 7.9.24.3)."""

    abort = Field(0, access=Access.WO)
    interrupt = Field(1, access=Access.RO)
    go = Field(31, access=Access.WO)


class DoeStatus(Register, offset=0x0C, name="DOE_STATUS"):
    """How far an exchange is (PCIe 6.0 7.9.24.4)."""

    busy = Field(0, access=Access.RO)
    interrupt = Field(1, access=Access.RW1C)
    error = Field(2, access=Access.RO)
    data_object_ready = Field(31, access=Access.RO)


class DoeWriteMailbox(Register, offset=0x10, name="DOE_WRITE"):
    """The request, dword by dword (PCIe 6.0 7.9.24.5)."""

    value = Field(0, 32, access=Access.WO)


class DoeReadMailbox(Register, offset=0x14, name="DOE_READ"):
    """The response; a write of anything takes a dword out (PCIe 6.0 7.9.24.6)."""

    value = Field(0, 32, access=Access.RO)


class ObjectHeader1(Register):
    """First dword of an object (PCIe 6.0 6.30.1)."""

    vendor_id = Field(0, 16)
    object_type = Field(16, 8)


class ObjectHeader2(Register):
    """Second: how many dwords, these two included; 0 is 2^18."""

    length = Field(0, 18)


class DiscoveryRequest(Register):
    """Which protocol is asked for (PCIe 6.0 6.30.1.1)."""

    protocol_index = Field(0, 8)


class DiscoveryResponse(Register):
    """Which it is, and the next one's index, 0 after the last (PCIe 6.0 6.30.1.1)."""

    vendor_id = Field(0, 16)
    object_type = Field(16, 8)
    next_index = Field(24, 8)


class DoeMailbox:
    """The mailbox of one function: decides the registers above in its bank."""

    def __init__(self, bank: RegisterBank) -> None:
        self._bank = bank
        self._request: list[int] = []
        self._response: deque[int] = deque()
        bank.on_write(DoeControl, self._control_written)
        bank.on_write(DoeWriteMailbox, self._dword_written)
        bank.on_write(DoeReadMailbox, self._dword_taken)

    def forget(self) -> None:
        """Drop the exchange: what an abort, and every reset, does."""
        self._request.clear()
        self._response.clear()
        self._bank.set(DoeStatus.error, 0)
        self._show()

    def _control_written(self, write: Write) -> None:
        if write.wrote_one(DoeControl.abort):
            self.forget()
        elif write.wrote_one(DoeControl.go):
            self._answer()

    def _dword_written(self, write: Write) -> None:
        if self._response or len(self._request) == _MAX_DWORDS:
            self._fail()
        elif not self._bank.get(DoeStatus.error):
            self._request.append(write.written)

    def _dword_taken(self, write: Write) -> None:
        del write  # what is written does not matter
        if not self._response:
            self._fail()
            return
        self._response.popleft()
        self._show()

    def _answer(self) -> None:
        request, self._request = self._request, []
        if self._bank.get(DoeStatus.error):
            return
        if len(request) < _HEADER_DWORDS or ObjectHeader2(request[1]).length != len(request):
            self._fail()
            return
        header = ObjectHeader1(request[0])
        if (header.vendor_id, header.object_type) == (PCI_SIG, DISCOVERY) and len(request) > _HEADER_DWORDS:
            self._response = deque(_discovered(DiscoveryRequest(request[_HEADER_DWORDS]).protocol_index))
        self._show()

    def _fail(self) -> None:
        """Only an abort leads out of this (PCIe 6.0 7.9.24.4)."""
        self._request.clear()
        self._response.clear()
        self._bank.set(DoeStatus.error, 1)
        self._show()

    def _show(self) -> None:
        self._bank.set(DoeStatus.data_object_ready, int(bool(self._response)))
        self._bank.set(DoeReadMailbox, self._response[0] if self._response else 0)


def _discovered(index: int) -> list[int]:
    vendor = PCI_SIG if index == 0 else NO_PROTOCOL
    return [
        ObjectHeader1.compose(vendor_id=PCI_SIG, object_type=DISCOVERY),
        ObjectHeader2.compose(length=_HEADER_DWORDS + 1),
        DiscoveryResponse.compose(vendor_id=vendor, object_type=DISCOVERY),
    ]


class Doe(Capability):
    """A mailbox without interrupts."""

    __slots__ = ()

    name: ClassVar[str] = "DOE"
    registers: ClassVar[tuple[type[Register], ...]] = (
        DoeHeader, DoeCapability, DoeControl, DoeStatus, DoeWriteMailbox, DoeReadMailbox,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 0x18
    is_extended: ClassVar[bool] = True

    def attach(self, bank: RegisterBank) -> Callable[[], None] | None:
        """A mailbox, which forgets at every reset."""
        return DoeMailbox(bank).forget
