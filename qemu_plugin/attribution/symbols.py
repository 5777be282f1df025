# SPDX-License-Identifier: MIT
"""A kernel's functions by name and by address, its instructions and its ORC tables; `loading` gets them.

Addresses are those the kernel was linked for: with `nokaslr` they are the running kernel's, else a multiple
of 2 MiB is to be added (`kaslr`).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from qemu_plugin.attribution.jump_scan import Jumps
from qemu_plugin.attribution.orc import Orc

_ALIAS: Final = "__pi_"  # linux arch/x86/tools: the same code, for what runs before relocation


@dataclass(frozen=True, slots=True)
class Code:
    """A range of instructions, as the image has them: the running kernel has patched some."""

    begin: int
    data: npt.NDArray[np.uint8]

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.begin + len(self.data)


@dataclass(frozen=True, slots=True)
class KernelSymbols:
    """The functions of one kernel, by ascending address."""

    release: str
    source: str
    """Where the names come from: `kallsyms`, `.symtab` or `System.map`."""
    addresses: npt.NDArray[np.uint64]
    types: bytes
    """One letter for each symbol, as `nm` has them."""
    names: bytes
    """All names, each between two NULs."""
    name_offsets: npt.NDArray[np.uint32]
    code: tuple[Code, ...]
    """Where there are instructions, the initial ones included; the main range first."""
    orc: Orc | None
    """None where the kernel is built to be unwound by frame pointers, or not at all."""
    jumps: Jumps | None = None
    """None where there are no tables to tell a jump out of a function by."""
    alternatives: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    """Instructions that the kernel may replace for the machine's processor, ascending."""
    has_frame_pointers: bool = False
    """Whether functions begin by saving the frame pointer, and can so be unwound without tables."""
    problem: str | None = None
    """What is missing, if anything."""

    def address_range(self, name: str) -> tuple[int, int] | None:
        """First address of the function and the first after it; None where none or several have this name.

        The end is where the next symbol begins, so padding is counted in.
        """
        key = b"\0" + name.encode() + b"\0"
        position = self.names.find(key)
        if position < 0 or self.names.find(key, position + 1) >= 0:
            return None
        index = int(np.searchsorted(self.name_offsets, position + 1))
        begin = int(self.addresses[index])
        after = int(np.searchsorted(self.addresses, np.uint64(begin), side="right"))
        end = self._text_end(begin)
        if after < len(self.addresses):
            end = min(end, int(self.addresses[after]))
        return begin, end

    def name(self, address: int) -> tuple[str, int] | None:
        """The function that `address` is in, and how far; None outside the kernel's text.

        Of several names for one address a global one is taken, with as few underscores before it as there are.
        """
        if not self.is_text(address):
            return None
        end = int(np.searchsorted(self.addresses, np.uint64(address), side="right"))
        if not end:
            return None
        begin = int(np.searchsorted(self.addresses, self.addresses[end - 1], side="left"))
        best = min(range(begin, end), key=self._preference)
        return self._name(best), address - int(self.addresses[best])

    def function(self, address: int) -> int | None:
        """Where the function begins that `address` is in; for a part that was moved away, the function's own."""
        if not self.is_text(address):
            return None
        index = int(np.searchsorted(self.addresses, np.uint64(address), side="right")) - 1
        if index < 0:
            return None
        begin = int(self.addresses[index])
        return begin if self.jumps is None else self.jumps.owner(begin)

    def is_text(self, address: int) -> bool:
        """Whether `address` is one of the kernel's instructions, the initial ones included."""
        return any(code.begin <= address < code.end for code in self.code)

    def instructions(self, begin: int, end: int) -> bytes:
        """The image's bytes from `begin` to `end`; fewer where the range of instructions is left."""
        for code in self.code:
            if code.begin <= begin < code.end:
                return code.data[begin - code.begin : end - code.begin].tobytes()
        return b""

    def _text_end(self, address: int) -> int:
        return next((code.end for code in self.code if code.begin <= address < code.end), address)

    def _name(self, index: int) -> str:
        begin = int(self.name_offsets[index])
        return self.names[begin : self.names.index(b"\0", begin)].decode("latin-1")

    def _preference(self, index: int) -> tuple[bool, bool, int, int]:
        name = self._name(index)
        underscores = len(name) - len(name.lstrip("_"))
        return name.startswith(_ALIAS), chr(self.types[index]) not in "TW", underscores, index
