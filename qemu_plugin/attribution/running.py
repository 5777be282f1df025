# SPDX-License-Identifier: MIT
"""Which kernel ran when, and where in the address space it lay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qemu_plugin.attribution import kaslr
from qemu_plugin.attribution.symbols import KernelSymbols
from qemu_plugin.attribution.unwind import Unwinder
from qemu_plugin.attribution.witnessed import Witnessed

FIRMWARE, UNKNOWN, OUTGOING, INCOMING = "firmware", "unknown", "outgoing", "incoming"
"""`kernel` of a STACK record (pydev/recording/format.py)."""
_JUMP: Final = "machine_kexec"  # linux arch/x86/kernel/machine_kexec_64.c
_BOOT: Final = frozenset({"kernel_init_freeable", "start_kernel"})  # linux init/main.c
_FIRMWARE_END: Final = 1 << 32
"""Firmware runs below; so does user space, but not before there has been a kernel."""


@dataclass(frozen=True, slots=True)
class Period:
    """The time of one kernel, up to its jump into the next; 0 is the one that the machine booted."""

    number: int
    seen: tuple[Witnessed, ...]
    unwinder: Unwinder | None
    """None where no known image fits what was seen."""
    leaving_ns: int | None
    """When its agent was last ready for the jump; None where it never was."""

    def kernel(self, one: Witnessed, *, is_before_any: bool) -> str:
        """The word for who made a write; `is_before_any`: no kernel has been seen yet.

        A kernel in the middle of a chain comes in first and goes out later.
        """
        if not one.is_kernel:
            return FIRMWARE if is_before_any and one.raw.pc < _FIRMWARE_END else UNKNOWN
        if self.unwinder is None or not fits(self.unwinder, one):
            return UNKNOWN
        is_leaving = self.leaving_ns is not None and one.t_ns >= self.leaving_ns
        return OUTGOING if self.number == 0 or is_leaving else INCOMING


def fits(unwinder: Unwinder, one: Witnessed) -> bool:
    """Whether a kernel, where it lies, has an instruction there that does what was seen."""
    address = one.raw.pc - unwinder.slide
    if one.is_jump:
        return unwinder.symbols.name(address) == (_JUMP, 0)
    return kaslr.is_writer(unwinder.symbols, address, one.way)


def periods(
    seen: Sequence[Witnessed], images: Sequence[KernelSymbols | None], frozen: Sequence[int]
) -> list[Period]:
    """The kernels that ran, in their order; `images[0]` first, then the others, the last of them again and again.

    An image that is not the expected one is tried where that does not fit; None is one without symbols.
    """
    found: list[Period] = []
    begin = 0
    for end in [*(index + 1 for index, one in enumerate(seen) if one.is_jump), len(seen)]:
        if seen[begin:end]:
            found.append(_period(len(found), seen[begin:end], images, frozen))
        begin = end
    if found and (split := _unseen_jump(found[-1])) is not None:
        last = found.pop()
        for part in (last.seen[:split], last.seen[split:]):
            found.append(_period(len(found), part, images, frozen))
    return found


def _period(
    number: int, seen: Sequence[Witnessed], images: Sequence[KernelSymbols | None], frozen: Sequence[int]
) -> Period:
    expected = images[min(number, len(images) - 1)]
    unwinder = None
    for symbols in (expected, *(image for image in images if image is not expected)):
        slide = kaslr.find(symbols, seen) if symbols is not None else None
        if symbols is not None and slide is not None:
            unwinder = Unwinder(symbols, slide)
            break
    within = [t_ns for t_ns in frozen if seen[0].t_ns <= t_ns <= seen[-1].t_ns]
    return Period(number, tuple(seen), unwinder, within[-1] if within else None)


def _unseen_jump(period: Period) -> int | None:
    """Where the last period turns out to be two: its kernel was ready to jump, and then one booted.

    The plugin sees the jump in a kernel that has `machine_kexec` under this name.
    """
    if period.leaving_ns is None or period.unwinder is None:
        return None
    for index, one in enumerate(period.seen):
        if one.t_ns >= period.leaving_ns and (
            not fits(period.unwinder, one) or _BOOT & period.unwinder.functions(one.raw)
        ):
            return index if index else None
    return None
