# SPDX-License-Identifier: MIT
"""ORC tables: for each address of the kernel's text, where the caller's registers are.

Follows linux arch/x86/include/asm/orc_types.h and Documentation/arch/x86/orc-unwinder.rst. The numbers of
registers and types have changed over time; here they are made one (`Base`, `Type`).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from qemu_plugin.attribution.errors import AttributionError

if TYPE_CHECKING:  # it costs time to import, which nobody needs who has the result
    from qemu_plugin.attribution.elf import Elf


class Base(IntEnum):
    """What an offset counts from; the numbers are those since 7.1 (orc_types.h ORC_REG_*)."""

    UNDEFINED = 0
    AX = 1
    DX = 2
    SP = 3
    BP = 4
    DI = 5
    R10 = 6
    R13 = 7
    PREV_SP = 8
    SP_INDIRECT = 9
    BP_INDIRECT = 10
    UNKNOWN = 15


class Type(IntEnum):
    """What kind of frame it is; the numbers are those since 6.4 (orc_types.h ORC_TYPE_*)."""

    UNDEFINED = 0
    END_OF_STACK = 1
    CALL = 2
    REGS = 3
    REGS_PARTIAL = 4
    UNKNOWN = 7


ENTRY: Final = np.dtype(
    [
        ("sp_offset", "<i2"),
        ("bp_offset", "<i2"),
        ("sp_base", "u1"),
        ("bp_base", "u1"),
        ("type", "u1"),
        ("signal", "u1"),
    ]
)
_RAW: Final = np.dtype(
    [("sp_offset", "<i2"), ("bp_offset", "<i2"), ("bits", "<u2")]
)  # struct orc_entry, packed

_BASES_7: Final = (*(Base(number) for number in range(11)), *[Base.UNKNOWN] * 5)
_BASES_6: Final = (
    Base.UNDEFINED, Base.PREV_SP, Base.DX, Base.DI, Base.BP, Base.SP, Base.R10, Base.R13, Base.BP_INDIRECT,
    Base.SP_INDIRECT, Base.AX, *[Base.UNKNOWN] * 5,
)  # fmt: skip
"""Until 7.0; where there is an AX, it changed no other number."""
_TYPES_6_4: Final = (
    Type.UNDEFINED,
    Type.END_OF_STACK,
    Type.CALL,
    Type.REGS,
    Type.REGS_PARTIAL,
    *[Type.UNKNOWN] * 3,
)
_TYPES_6_1: Final = (Type.CALL, Type.REGS, Type.REGS_PARTIAL, Type.UNKNOWN)  # UNWIND_HINT_TYPE_*

_LAYOUTS: Final = {
    # .orc_header, from 6.5: the SHA-1 of these definitions in orc_types.h (linux scripts/orc_hash.sh)
    "fe5d32bf581bd63b2ca9a5c65ba5a625eab3fe24": _BASES_6,
    "edfa4d15552fdd2e1d56679728416379f2fe4534": _BASES_6,  # with ORC_REG_AX
    "137c36ad7627c4dd55932176bb0ecdbd5041fc82": _BASES_7,
}
_FUNCTIONS_TESTED: Final = 0.9
"""The share of functions that have to begin with nothing on the stack but their return address."""


@dataclass(frozen=True, slots=True)
class Orc:
    """Entries by ascending address: each holds from its address to the next one's."""

    addresses: npt.NDArray[np.uint64]
    entries: npt.NDArray[np.void]
    """ENTRY items."""

    def find(self, address: int) -> tuple[int, int, int, int, int, int] | None:
        """The entry that `address` is in, as ENTRY's fields; None before the first."""
        index = int(np.searchsorted(self.addresses, np.uint64(address), side="right"))
        if not index:
            return None
        sp_offset, bp_offset, sp_base, bp_base, kind, signal = self.entries[index - 1].item()
        return sp_offset, bp_offset, sp_base, bp_base, kind, signal


def parse(elf: "Elf", functions: npt.NDArray[np.uint64]) -> Orc | None:
    """The tables of `elf`, None where it has none (frame pointers, or no unwinder at all).

    `functions` are addresses where functions begin: nine in ten have to have the frame that a call leaves.
    AttributionError for a layout that is not known or that this does not bear out.
    """
    places, raw = elf.section(".orc_unwind_ip"), elf.section(".orc_unwind")
    if places is None or raw is None or not places.data:
        return None
    offsets = places.words("<i4").astype(np.int64)
    table = np.frombuffer(raw.data[: len(raw.data) // _RAW.itemsize * _RAW.itemsize], dtype=_RAW)
    if len(offsets) != len(table):
        raise AttributionError(f"{len(offsets)} ORC addresses and {len(table)} ORC entries")
    own = np.uint64(places.address) + np.arange(len(offsets), dtype=np.uint64) * np.uint64(4)
    addresses = own + offsets.view(np.uint64)
    if bool((addresses[1:] < addresses[:-1]).any()):  # modules' tables are sorted when they are loaded
        order = np.argsort(addresses, kind="stable")
        addresses, table = addresses[order], table[order]
    orc = Orc(addresses, _entries(elf, table))
    _check(orc, functions)
    return orc


def _entries(elf: "Elf", table: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    bits = table["bits"].astype(np.uint16)
    header = elf.section(".orc_header")
    if header is None:
        bases, kinds, signals = _BASES_6, *_old_types(bits)
    else:
        digest = bytes(header.data).hex()
        if digest not in _LAYOUTS:
            raise AttributionError(f"an ORC layout of a version that is not known ({digest})")
        bases = _LAYOUTS[digest]
        kinds, signals = np.array(_TYPES_6_4, dtype=np.uint8)[bits >> 8 & 7], bits >> 11 & 1
    entries = np.empty(len(table), dtype=ENTRY)
    entries["sp_offset"], entries["bp_offset"] = table["sp_offset"], table["bp_offset"]
    numbers = np.array(bases, dtype=np.uint8)
    entries["sp_base"], entries["bp_base"] = numbers[bits & 15], numbers[bits >> 4 & 15]
    entries["type"], entries["signal"] = kinds, signals
    return entries


def _old_types(bits: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Until 6.4: two bits of type, then `end`; from 6.3 (and in stable releases of 6.1) `signal` between them.

    Without that bit an address is exact where it was found in saved registers.
    """
    kinds = np.array(_TYPES_6_1, dtype=np.uint8)[bits >> 8 & 3]
    has_signal = bool((bits >> 11 & 1).any())
    ends = bits >> (11 if has_signal else 10) & 1
    signals = (
        bits >> 10 & 1 if has_signal else np.isin(kinds, (Type.REGS, Type.REGS_PARTIAL)).astype(np.uint16)
    )
    kinds[(bits & 15) == Base.UNDEFINED] = Type.UNDEFINED
    kinds[((bits & 15) == Base.UNDEFINED) & (ends == 1)] = Type.END_OF_STACK
    return kinds, signals


def _check(orc: Orc, functions: npt.NDArray[np.uint64]) -> None:
    """Where a function begins, the caller's stack pointer is 8 above its own."""
    inside = functions[functions >= orc.addresses[0]]
    if not len(inside):
        raise AttributionError("no function lies in the ORC tables")
    entries = orc.entries[np.searchsorted(orc.addresses, inside, side="right") - 1]
    fits = (entries["sp_base"] == Base.SP) & (entries["sp_offset"] == 8) & (entries["type"] == Type.CALL)
    share = float(np.count_nonzero(fits)) / len(inside)
    if share < _FUNCTIONS_TESTED:
        raise AttributionError(f"only {share:.0%} of the functions begin as the ORC tables should say")
