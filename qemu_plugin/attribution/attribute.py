# SPDX-License-Identifier: MIT
"""Says of every write that the plugin saw who made it, and puts that on the record."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from guest_images.kernel_image import KernelImage
from pydev.recording.format import NO_FUNCTION, RECORD, Kind
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.frames import Frame
from qemu_plugin.attribution.loading import load_symbols
from qemu_plugin.attribution.running import FIRMWARE, UNKNOWN, Period, periods
from qemu_plugin.attribution.symbols import KernelSymbols
from qemu_plugin.attribution.unwind import Unwinder
from qemu_plugin.attribution.witnessed import Witnessed, frozen_at, witnessed
from qemu_plugin.native.recording import RecordingWriter

_NamedFrame = tuple[str, int, None]


@dataclass(slots=True)
class Summary:
    """How much of a recording could be attributed; goes into its trailer."""

    writes: int = 0
    attributed: int = 0
    """By a kernel whose functions are named."""
    firmware: int = 0
    unknown: int = 0
    cut_short: int = 0
    """Attributed, by a stack that does not reach its bottom."""
    problems: list[str] = field(default_factory=list)

    def count(self, stack: "NamedStack") -> None:
        """One write more."""
        self.writes += 1
        if stack.kernel == FIRMWARE:
            self.firmware += 1
        elif stack.kernel == UNKNOWN:
            self.unknown += 1
        else:
            self.attributed += 1
            self.cut_short += stack.note is not None

    def to_json(self) -> dict[str, Any]:
        """The trailer's `attribution`."""
        return {
            "writes": self.writes,
            "attributed": self.attributed,
            "firmware": self.firmware,
            "unknown": self.unknown,
            "cut_short": self.cut_short,
            "problems": self.problems,
        }


@dataclass(frozen=True, slots=True)
class NamedStack:
    """What a STACK record says: many writes may have the same."""

    kernel: str
    frames: tuple[_NamedFrame, ...] = ()
    recovered: tuple[int, ...] = ()
    note: str | None = None

    def text(self, number: int) -> bytes:
        """The record's JSON."""
        members = {"id": number, "kernel": self.kernel, "frames": self.frames, "note": self.note}
        if self.recovered:
            members["recovered"] = self.recovered
        return json.dumps(members, separators=(",", ":")).encode()


def attribute(recording: RecordingWriter, kernels: Sequence[KernelImage]) -> Summary:
    """Append a STACK record for each stack that `recording` has, and an ATTRIBUTION for each write and jump.

    `kernels` are the images that were booted: the first, then the next ones. What cannot be attributed is
    said in the result, and no exception: a recording is judged without it too.
    """
    records = recording.view(0, recording.head)
    seen = list(witnessed(records))
    summary = Summary()
    if not seen:
        return summary
    images = [_symbols(kernel, summary.problems) for kernel in _distinct(kernels)]
    stacks: dict[NamedStack, int] = {}
    rows = []
    for one, stack in _named(periods(seen, images, frozen_at(records)), summary.problems):
        number = stacks.get(stack)
        if number is None:
            number = stacks[stack] = len(stacks)
            recording.append_text(Kind.STACK, stack.text(number), t_ns=one.t_ns)
        if not one.is_jump:
            summary.count(stack)
        rows.append((0, one.t_ns, Kind.ATTRIBUTION, NO_FUNCTION, 0, 0, 0, 0, 0, one.slot, number, 0))
    recording.append_batch(np.array(rows, dtype=RECORD))
    return summary


def _distinct(kernels: Sequence[KernelImage]) -> list[KernelImage]:
    """The images in their order, without one that is the same as the one before."""
    return [
        kernel
        for index, kernel in enumerate(kernels)
        if not index or kernel.image != kernels[index - 1].image
    ]


def _symbols(kernel: KernelImage, problems: list[str]) -> KernelSymbols | None:
    try:
        symbols = load_symbols(kernel.image, kernel.system_map)
    except AttributionError as error:
        problems.append(str(error))
        return None
    if symbols.problem is not None:
        problems.append(symbols.problem)
    return symbols


def _named(found: Sequence[Period], problems: list[str]) -> Iterator[tuple[Witnessed, NamedStack]]:
    """Each write and jump with its stack; what keeps a whole period from being named is a problem."""
    is_before_any = True
    names: dict[int, _Names] = {}
    for period in found:
        if period.unwinder is not None:
            names.setdefault(period.number, _Names(period.unwinder))
        elif any(one.is_kernel for one in period.seen):
            problems.append(f"kernel {period.number} of the run, counted from 0, fits no image that is known")
        for one in period.seen:
            kernel = period.kernel(one, is_before_any=is_before_any)
            is_before_any = is_before_any and not one.is_kernel
            if kernel == FIRMWARE:
                yield one, NamedStack(FIRMWARE)
            elif kernel == UNKNOWN:
                yield (
                    one,
                    NamedStack(UNKNOWN, note=f"an instruction at {one.raw.pc:#x}, in no image that is known"),
                )
            else:
                yield one, names[period.number].stack(kernel, one)


class _Names:
    """Names the stacks of one kernel."""

    def __init__(self, unwinder: Unwinder) -> None:
        self._unwinder = unwinder
        self._known: dict[tuple[int, bool], _NamedFrame] = {}

    def stack(self, kernel: str, one: Witnessed) -> NamedStack:
        stack = self._unwinder.unwind(one.raw)
        return NamedStack(
            kernel,
            tuple([self._frame(frame) for frame in stack.frames]),
            tuple([index for index, frame in enumerate(stack.frames) if frame.is_recovered]),
            stack.note,
        )

    def _frame(self, frame: Frame) -> _NamedFrame:
        key = frame.address, frame.is_exact
        named = self._known.get(key)
        if named is None:
            inside = frame.inside
            symbol, offset = self._unwinder.symbols.name(inside) or (f"{inside:#x}", 0)
            named = self._known[key] = symbol, offset + frame.address - inside, None
        return named
