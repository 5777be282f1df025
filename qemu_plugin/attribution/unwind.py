# SPDX-License-Identifier: MIT
"""From a raw stack to the addresses of its functions, innermost first; by ORC tables or by frame pointers.

Follows linux arch/x86/kernel/unwind_orc.c unwind_next_frame and unwind_frame.c, with one thing more: no frame
is believed that is not an address in the kernel's text just after a call.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qemu_plugin.attribution.calls import Calls
from qemu_plugin.attribution.frames import Frame, Stack
from qemu_plugin.attribution.orc import Base, Type
from qemu_plugin.attribution.symbols import KernelSymbols
from qemu_plugin.attribution.tail_calls import TailCalls

if TYPE_CHECKING:
    from collections.abc import Callable

FRAMES_MAX: Final = 128
_WORD: Final = 8
# linux arch/x86/include/asm/ptrace.h struct pt_regs
_REGS_BP: Final = 0x20
_REGS_IP: Final = 0x80
_REGS_CS: Final = 0x88
_REGS_SP: Final = 0x98
_REGS_OF: Final = {Base.AX: 0x50, Base.DX: 0x60, Base.DI: 0x70, Base.R10: 0x38, Base.R13: 0x10}
_ALL: Final = (1 << 64) - 1
_RING: Final = 3  # of a code segment: 3 is user mode


@dataclass(frozen=True, slots=True)
class RawStack:
    """What the plugin saw: the instruction's address, two registers, and memory from `rsp` upwards."""

    pc: int
    rsp: int
    rbp: int
    memory: bytes

    def word(self, address: int) -> int | None:
        """The 64 bits at a guest virtual address; None outside of what was saved."""
        position = address - self.rsp
        if position < 0 or position + _WORD > len(self.memory):
            return None
        return int.from_bytes(self.memory[position : position + _WORD], "little")


class EndError(Exception):
    """No further frame can be had; its text is the note."""


class Unwinder:
    """Unwinds stacks of one running kernel, which lies `slide` bytes above where it was linked."""

    def __init__(self, symbols: KernelSymbols, slide: int) -> None:
        self.symbols = symbols
        self.slide = slide
        self._calls = Calls(symbols)
        self._tail_calls = TailCalls(symbols, self._calls)
        self._step: Callable[[_Walk], Frame | None] | None = None
        if symbols.orc is not None:
            self._step = _Walk.by_orc
        elif symbols.has_frame_pointers:
            self._step = _Walk.by_frame_pointer
        self._is_text: dict[int, bool] = {}
        self._entries: dict[int, tuple[int, int, int, int, int, int] | None] = {}

    def unwind(self, raw: RawStack) -> Stack:
        """The stack of `raw`; a frame that cannot be believed ends it, with a note."""
        walk = _Walk(self, raw)
        frames = [Frame(raw.pc - self.slide, is_exact=True)]
        step = self._step
        if step is None:
            return Stack(tuple(frames), self.symbols.problem or "no ORC tables and no frame pointers")
        try:
            while len(frames) < FRAMES_MAX:
                frame = step(walk)
                if frame is None:
                    return Stack(tuple(frames), None)
                frames += [*self._tail_calls.between(frames[-1], frame), frame]
        except EndError as error:
            return Stack(tuple(frames), str(error))
        return Stack(tuple(frames), f"more than {FRAMES_MAX} frames")

    @property
    def can_unwind(self) -> bool:
        """Whether there is anything to unwind by."""
        return self._step is not None

    def functions(self, raw: RawStack) -> frozenset[str]:
        """The names of all functions of a stack."""
        named = (self.symbols.name(frame.inside) for frame in self.unwind(raw).frames)
        return frozenset(name[0] for name in named if name is not None)

    def entry(self, address: int) -> tuple[int, int, int, int, int, int] | None:
        """The ORC entry for an address as linked."""
        if address not in self._entries:
            assert self.symbols.orc is not None
            self._entries[address] = self.symbols.orc.find(address)
        return self._entries[address]

    def is_text(self, address: int) -> bool:
        """Whether `address`, as linked, is in the kernel's instructions."""
        if address not in self._is_text:
            self._is_text[address] = self.symbols.is_text(address)
        return self._is_text[address]

    def is_return_address(self, address: int) -> bool:
        """Whether a call ends just before `address`, as linked."""
        return self._calls.before(address) is not None


class _Walk:
    """The unwinder's state: registers of the frame that is being looked at, and where it keeps others."""

    def __init__(self, unwinder: Unwinder, raw: RawStack) -> None:
        self.unwinder, self.raw = unwinder, raw
        self.ip = raw.pc - unwinder.slide
        self.sp, self.bp = raw.rsp, raw.rbp
        self.is_exact = True
        self.regs: int | None = None
        """Where a whole struct pt_regs of this frame lies."""

    def by_orc(self) -> Frame | None:
        """One frame down; None at the bottom."""
        entry = self.unwinder.entry(self.ip if self.is_exact else self.ip - 1)
        if entry is None:
            raise EndError(f"no ORC entry for {self.ip:#x}")
        sp_offset, bp_offset, sp_base, bp_base, kind, signal = entry
        if kind == Type.END_OF_STACK:
            return None
        if kind == Type.UNDEFINED:
            raise EndError(f"the ORC tables say nothing of {self.ip:#x}")
        before = self.sp
        cfa = self._base(sp_base, sp_offset)
        regs = self.regs
        if kind == Type.CALL:
            self.ip, self.sp, self.regs = self._text(self._word(cfa - _WORD)), cfa, None
        elif kind in (Type.REGS, Type.REGS_PARTIAL):
            frame = cfa if kind == Type.REGS else cfa - _REGS_IP  # an iret frame is the end of a pt_regs
            if self._word(frame + _REGS_CS) & _RING:
                return None
            self.ip = self._text(self._word(frame + _REGS_IP))
            self.sp = self._word(frame + _REGS_SP)
            self.regs = frame if kind == Type.REGS else None
        else:
            raise EndError(f"an ORC entry of an unknown type at {self.ip:#x}")
        self._restore_bp(bp_base, bp_offset, cfa, self.regs if self.regs is not None else regs)
        return self._next(before, is_exact=bool(signal))

    def _base(self, base: int, offset: int) -> int:
        match base:
            case Base.SP:
                return self.sp + offset
            case Base.BP:
                return self.bp + offset
            case Base.SP_INDIRECT:
                return self._word(self.sp) + offset
            case Base.BP_INDIRECT:
                return self._word(self.bp + offset)
        place = _REGS_OF.get(Base(base))
        if place is None or self.regs is None:
            raise EndError(f"the stack pointer is in a register that was not saved, at {self.ip:#x}")
        return self._word(self.regs + place)

    def _restore_bp(self, base: int, offset: int, cfa: int, regs: int | None) -> None:
        if base == Base.PREV_SP:
            self.bp = self._word(cfa + offset)
        elif base == Base.BP:
            self.bp = self._word(self.bp + offset)
        elif base != Base.UNDEFINED:
            raise EndError(f"an ORC entry with the frame pointer in an unknown place at {self.ip:#x}")
        elif regs is not None:
            self.bp = self._word(regs + _REGS_BP)

    def by_frame_pointer(self) -> Frame | None:
        """One frame down; None at the bottom, where the frame pointer is 0.

        The caller's frame pointer and the return address lie where `bp` points. Entry code sets its lowest bit
        and lets it point to a struct pt_regs (linux arch/x86/include/asm/frame.h ENCODE_FRAME_POINTER).
        """
        before = self.sp
        if not self.bp:
            return None
        if not self.bp & 1:
            self.ip, self.sp = self._text(self._word(self.bp + _WORD)), self.bp + 2 * _WORD
            self.bp = self._word(self.bp)
            return self._next(before, is_exact=False)
        regs = self.bp & ~1
        code_segment = self._word(regs + _REGS_CS)
        if code_segment & _RING or not code_segment:  # a kernel thread's registers are all 0 (copy_thread)
            return None
        self.ip, self.sp = self._text(self._word(regs + _REGS_IP)), self._word(regs + _REGS_SP)
        self.bp = self._word(regs + _REGS_BP)
        return self._next(before, is_exact=True)

    def _word(self, address: int) -> int:
        value = self.raw.word(address & _ALL)
        if value is None:
            raise EndError(
                f"goes on at {address & _ALL:#x}, outside the {len(self.raw.memory)} bytes saved from {self.raw.rsp:#x}"
            )
        return value

    def _text(self, address: int) -> int:
        linked = address - self.unwinder.slide
        if not self.unwinder.is_text(linked):
            raise EndError(f"returns to {address:#x}, outside the kernel's text")
        return linked

    def _next(self, before: int, *, is_exact: bool) -> Frame:
        if self.sp <= before:
            raise EndError(f"the stack would go on at {self.sp:#x}, below {before:#x}")
        if not is_exact and not self.unwinder.is_return_address(self.ip):
            raise EndError(f"returns to {self.ip + self.unwinder.slide:#x}, where no call ends")
        self.is_exact = is_exact
        return Frame(self.ip, is_exact)
