# SPDX-License-Identifier: MIT
"""Which addresses of a kernel's text a call returns to, and whom it calls, told from the image's instructions.

The running kernel has patched some of them; what it makes of a call is still a call, though it may end sooner
(Intel SDM volume 2 "CALL"; linux arch/x86/kernel/alternative.c).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qemu_plugin.attribution.symbols import KernelSymbols

_ALL: Final = (1 << 64) - 1
_NEAR_BYTES: Final = 5  # e8 and a 32-bit displacement
_INDIRECT_BYTES_MAX: Final = 8
_THUNK: Final = "__x86_indirect_"  # call __x86_indirect_thunk_REG, patched to a 2 or 3 byte call *REG
_THROUGH_POINTER: Final = (
    _THUNK,
    "__SCT__",
)  # linux include/linux/static_call.h: a trampoline to the callee of the day


@dataclass(frozen=True, slots=True)
class Call:
    """A call that ends at an address."""

    callee: int | None
    """The function, None where it cannot be known."""
    is_indirect: bool
    """Whether it goes through a pointer, so that any function may be meant whose address is kept somewhere."""


_UNKNOWN: Final = Call(None, is_indirect=False)
_INDIRECT: Final = Call(None, is_indirect=True)


class Calls:
    """The calls in one kernel's text, by where they end; all addresses as linked."""

    def __init__(self, symbols: KernelSymbols) -> None:
        self._symbols = symbols
        self._known: dict[int, Call | None] = {}

    def before(self, address: int) -> Call | None:
        """The call that ends at `address`, in the image or as the running kernel has patched it; None: none."""
        if address not in self._known:
            self._known[address] = self._find(address)
        return self._known[address]

    def _find(self, address: int) -> Call | None:
        code = self._symbols.instructions(address - _INDIRECT_BYTES_MAX, address)
        if len(code) < _INDIRECT_BYTES_MAX:
            return None
        near = self._near(address - _NEAR_BYTES)
        is_indirect = any(_indirect_bytes(code[-count:]) == count for count in range(2, _INDIRECT_BYTES_MAX))
        if near is not None:
            return _UNKNOWN if is_indirect else near
        # call *pv_ops+N(%rip) and *pv_ops+N are 6 and 7 bytes, patched to a near call and a nop
        tail = code[-_NEAR_BYTES:]
        if is_indirect or tail.startswith((b"\xff\x15", b"\xff\x14\x25")):
            return _INDIRECT
        if any(self._near(address - count) == _INDIRECT for count in (2, 3)):
            return _INDIRECT
        return None

    def _near(self, begin: int) -> Call | None:
        """The near call that begins there."""
        code = self._symbols.instructions(begin, begin + _NEAR_BYTES)
        if len(code) < _NEAR_BYTES or code[0] != 0xE8:
            return None
        target = (begin + _NEAR_BYTES + int.from_bytes(code[1:], "little", signed=True)) & _ALL
        named = self._symbols.name(target)
        if named is None:
            return None
        if named[0].startswith(_THROUGH_POINTER):
            return _INDIRECT
        return _UNKNOWN if named[1] or self._is_alternative(begin) else Call(target, is_indirect=False)

    def _is_alternative(self, address: int) -> bool:
        """Whether the instruction may have been replaced by one for the machine's processor."""
        found = self._symbols.alternatives
        index = int(np.searchsorted(found, np.uint64(address)))
        return index < len(found) and int(found[index]) == address


def _indirect_bytes(code: bytes) -> int:
    """The length of the `call *operand` (ff /2) that `code` begins with; 0 where it does not."""
    if len(code) < 2 or code[0] != 0xFF or code[1] >> 3 & 7 != 2:
        return 0
    mode, rm = code[1] >> 6, code[1] & 7
    if mode == 3:
        return 2
    sib = 1 if rm == 4 else 0
    if mode == 0:
        is_absolute = rm == 5 or (rm == 4 and len(code) > 2 and code[2] & 7 == 5)
        return 2 + sib + (4 if is_absolute else 0)
    return 2 + sib + (1 if mode == 1 else 4)
