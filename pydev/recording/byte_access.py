# SPDX-License-Identifier: MIT
"""How software may touch the bits of a byte of config space: its fields' access kinds, as masks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydev.recording.functions import RegisterEntry
from pydev.registers import Access

BYTE: Final = 0xFF
_KINDS: Final = {kind.value: kind for kind in Access}


@dataclass(slots=True)
class ByteAccess:
    """Each mask has the bits that behave so; bits in none of them are read-only."""

    takes: int = 0
    """Hold what is written to them."""
    clears: int = 0
    """Written ones clear."""
    reads_zero: int = 0
    """Hold nothing."""
    reserved: int = BYTE
    """Belong to no field."""

    def add(self, bits: int, access: str) -> None:
        """Give bits the behaviour of their field's access kind; a kind that nobody knows is read and written."""
        kind = _KINDS.get(access, Access.RW)
        self.reserved &= ~bits
        if kind.is_writable:
            self.takes |= bits
        elif kind.is_write_one_clear:
            self.clears |= bits
        elif kind is Access.WO:
            self.reads_zero |= bits

    def touched(self, written: int) -> int:
        """The bits whose value a write decides."""
        return self.takes | self.clears & written

    def after(self, before: int, written: int) -> int:
        """What a byte that held `before` holds when it was written."""
        value = before & ~self.takes | written & self.takes
        return value & ~(self.clears & written) & ~self.reads_zero & BYTE


def access_of(registers: Iterable[RegisterEntry]) -> dict[int, ByteAccess]:
    """The bytes of some registers, by offset."""
    found: dict[int, ByteAccess] = {}
    for register in registers:
        for n in range(register.width):
            byte = found.setdefault(register.offset + n, ByteAccess())
            for field in register.fields.values():
                byte.add((((1 << field.bits) - 1) << field.lsb) >> 8 * n & BYTE, field.access)
    return found
