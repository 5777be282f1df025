# SPDX-License-Identifier: MIT
"""The MSI-X capability, its vector table and its pending bits (PCIe 6.0 7.7.2).

QEMU answers reads of the capability and keeps the table itself; only control writes and reads of the pending
bits reach a server. The table is declared all the same, for clients that are not QEMU.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from pydev.errors import DeclarationError
from pydev.pci.capability import Capability, CapabilityHeader, Resets
from pydev.pci.ids import CapabilityId
from pydev.registers import Access, Field, Register

MAX_VECTORS: Final = 2048
ENTRY_BYTES: Final = 16
_PENDING_WORD_BITS: Final = 64


class MsixHeader(CapabilityHeader, offset=0x00):
    """Header of the MSI-X capability."""

    capability_id = Field(0, 8, access=Access.RO, reset=CapabilityId.MSIX)


class MsixControl(Register, offset=0x02, width=2):
    """Message control (PCIe 6.0 7.7.2.2)."""

    table_size = Field(0, 11, access=Access.RO)
    function_mask = Field(14)
    enable = Field(15)


class MsixTable(Register, offset=0x04):
    """Where the vector table is; `offset` counts in units of 8 bytes."""

    bir = Field(0, 3, access=Access.RO)
    table_offset = Field(3, 29, access=Access.RO)


class MsixPba(Register, offset=0x08):
    """Where the pending bits are; `offset` counts in units of 8 bytes."""

    bir = Field(0, 3, access=Access.RO)
    pba_offset = Field(3, 29, access=Access.RO)


@dataclass(frozen=True, slots=True)
class Msix(Capability):
    """`vectors` interrupts; `table` and `pba` are (BAR index, offset in its region)."""

    vectors: int
    table: tuple[int, int]
    pba: tuple[int, int]

    name: ClassVar[str] = "MSIX"
    registers: ClassVar[tuple[type[Register], ...]] = (MsixHeader, MsixControl, MsixTable, MsixPba)
    size_bytes: ClassVar[int] = 12

    def __post_init__(self) -> None:
        if not 1 <= self.vectors <= MAX_VECTORS:
            raise DeclarationError(f"MSI-X has 1 to {MAX_VECTORS} vectors, not {self.vectors}")
        for what, (bar, offset) in (("table", self.table), ("pending bits", self.pba)):
            if offset % 8:
                raise DeclarationError(f"MSI-X {what} at BAR{bar} offset {offset:#x}: not a multiple of 8")

    def resets(self) -> Resets:
        """The number of vectors, encoded as one less, and both places."""
        return {
            MsixControl: {"table_size": self.vectors - 1},
            MsixTable: {"bir": self.table[0], "table_offset": self.table[1] // 8},
            MsixPba: {"bir": self.pba[0], "pba_offset": self.pba[1] // 8},
        }

    def table_registers(self) -> list[type[Register]]:
        """The vector table, to be placed in its BAR's bank (PCIe 6.0 7.7.2.5 to 7.7.2.8)."""
        at, count = self.table[1], self.vectors

        class VectorAddress(Register, offset=at, width=8, count=count, stride=ENTRY_BYTES):
            address = Field(2, 62)

        class VectorData(Register, offset=at + 8, count=count, stride=ENTRY_BYTES):
            data = Field(0, 32)

        class VectorControl(Register, offset=at + 12, count=count, stride=ENTRY_BYTES):
            is_masked = Field(0, reset=1)

        return [VectorAddress, VectorData, VectorControl]

    def pending_register(self) -> type[Register]:
        """The pending bits, to be placed in their BAR's bank (PCIe 6.0 7.7.2.9)."""
        words = -(-self.vectors // _PENDING_WORD_BITS)

        class PendingBits(Register, offset=self.pba[1], width=8, count=words):
            pending = Field(0, 64, access=Access.RO)

        return PendingBits
