# SPDX-License-Identifier: MIT
"""Base address registers (PCIe 6.0 7.5.1.2.1).

Sizing by writing ones works through the writable bits: a region of 2^n bytes has no writable bit below n.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydev.errors import DeclarationError
from pydev.registers import Access, Field, Register

BAR_COUNT: Final = 6
_FIRST_OFFSET: Final = 0x10
_MIN_BYTES: Final = 128  # PCIe 6.0 7.5.1.2.1: the smallest memory range a BAR may ask for
_MEMORY_64BIT: Final = 0b10


@dataclass(frozen=True, slots=True)
class Bar:
    """One memory region behind a BAR: its `index`, its size (a power of two) and the registers in it."""

    index: int
    size_bytes: int
    registers: tuple[type[Register], ...] = ()
    is_64bit: bool = False
    is_prefetchable: bool = False

    def __post_init__(self) -> None:
        if self.size_bytes < _MIN_BYTES or self.size_bytes & (self.size_bytes - 1):
            raise DeclarationError(
                f"BAR{self.index} of {self.size_bytes:#x} bytes: sizes are powers of two from {_MIN_BYTES}"
            )
        if not 0 <= self.index < BAR_COUNT - self.is_64bit:
            raise DeclarationError(f"BAR{self.index} does not exist, or has no room for its upper half")
        if self.size_bytes >= 1 << 32 and not self.is_64bit:
            raise DeclarationError(f"BAR{self.index} of {self.size_bytes:#x} bytes has to be 64-bit")

    @property
    def flags(self) -> int:
        """The low bits of the BAR: 0 for 32-bit memory, 4 for 64-bit, 8 more where prefetchable."""
        return (_MEMORY_64BIT << 1) * self.is_64bit | 8 * self.is_prefetchable


def _offset(index: int) -> int:
    return _FIRST_OFFSET + 4 * index


def absent_bar(index: int) -> type[Register]:
    """The register of a BAR that the function does not implement: it reads 0."""

    class AbsentBar(Register, offset=_offset(index), name=f"BAR{index}"):
        address = Field(0, 32, access=Access.RO)

    return AbsentBar


def _low_half(bar: Bar) -> type[Register]:
    lowest = min(bar.size_bytes.bit_length() - 1, 32)

    class BarLow(Register, offset=_offset(bar.index), name=f"BAR{bar.index}"):
        is_io = Field(0, access=Access.RO)
        memory_type = Field(1, 2, access=Access.RO, reset=_MEMORY_64BIT * bar.is_64bit)
        is_prefetchable = Field(3, access=Access.RO, reset=int(bar.is_prefetchable))
        if lowest < 32:
            address = Field(lowest, 32 - lowest)

    return BarLow


def _high_half(bar: Bar) -> type[Register]:
    lowest = max(bar.size_bytes.bit_length() - 1 - 32, 0)

    class BarHigh(Register, offset=_offset(bar.index + 1), name=f"BAR{bar.index + 1}"):
        address = Field(lowest, 32 - lowest)

    return BarHigh


def bar_registers(bars: Iterable[Bar]) -> list[type[Register]]:
    """The registers of all six BARs; DeclarationError where two regions want the same one."""
    halves: dict[int, type[Register]] = {}
    for bar in bars:
        for index in range(bar.index, bar.index + 1 + bar.is_64bit):
            if index in halves:
                raise DeclarationError(f"BAR{bar.index} and another region both use BAR{index}")
            halves[index] = _low_half(bar) if index == bar.index else _high_half(bar)
    return [halves.get(index) or absent_bar(index) for index in range(BAR_COUNT)]
