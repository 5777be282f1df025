# SPDX-License-Identifier: MIT
"""Who made a config write: the call stack that the TCG plugin saw, symbolised and named for people."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from pydev.recording.event_index import EventIndex
from pydev.recording.format import Kind
from pydev.recording.messages import Text

_ACCESSORS: Final = frozenset({
    # The ways into config space, not the reasons for it. linux arch/x86/pci/{direct,mmconfig_64,common,early}.c
    "pci_conf1_write", "pci_conf2_write", "pci_mmcfg_write", "raw_pci_write", "pci_write",
    "write_pci_config", "write_pci_config_byte", "write_pci_config_16",
    # linux drivers/pci/{access,ecam,pci}.c
    "pci_generic_config_write", "pci_generic_config_write32", "pci_clear_and_set_config_dword",
    "pcie_capability_clear_and_set_word_unlocked", "pcie_capability_clear_and_set_word_locked",
    "pcie_capability_clear_and_set_dword", "pcie_capability_clear_and_set_word",
})  # fmt: skip
_ACCESSOR_FAMILIES: Final = (
    # the same, one function for each width or register (`pci_write_config` itself is sysfs, and a reason)
    "pci_bus_write_config_", "pci_write_config_", "pci_user_write_config_", "pcie_capability_write_",
    "pcie_capability_set_", "pcie_capability_clear_word", "pcie_capability_clear_dword",
)  # fmt: skip
_WORKERS: Final = {"__pci_set_master": ("pci_set_master", "pci_clear_master")}
"""Functions that say less than those that they work for (linux drivers/pci/pci.c); also `__x`, for `x`."""
_ACCESSOR_WIDTH: Final = re.compile(
    r"(?:pci_(?:bus_|user_)?write_config|pci_clear_and_set_config|pcie_capability_(?:write|clear_and_set))"
    r"_(byte|word|dword)(?:_(?:un)?locked)?"
)
_WIDTHS: Final = {"byte": 1, "word": 2, "dword": 4}


@dataclass(frozen=True, slots=True)
class Attribution:
    """One config write's author."""

    kernel: str
    """`outgoing`, `incoming`, `firmware` or `unknown`."""
    frames: tuple[str, ...]
    """Symbols, innermost first; `name [module]` in a module. Empty where nothing could be symbolised."""
    cpu: int
    pc: int
    """Guest virtual address of the instruction."""
    note: str | None = None
    """Why the stack ends before its bottom."""

    @property
    def function(self) -> str | None:
        """The function to name, as in the source: the innermost that is no mere accessor of config space."""
        return next(map(source_name, without_accessors(self.frames)), None)

    def is_under(self, function: str) -> bool:
        """Whether a function is on the stack; what a compiler or a module adds to its name does not count."""
        return any(source_name(frame) == function for frame in self.frames)


def accessor_width(frames: Sequence[str]) -> tuple[str, int] | None:
    """The accessor on a stack whose name says how many bytes it writes, and how many; None without one.

    linux drivers/pci/access.c has one function for each width, of which the innermost is the one that writes.
    """
    for name in takewhile(_is_accessor, map(source_name, frames)):
        found = _ACCESSOR_WIDTH.fullmatch(name)
        if found is not None:
            return name, _WIDTHS[found[1]]
    return None


def _is_accessor(name: str) -> bool:
    return name in _ACCESSORS or name.startswith(_ACCESSOR_FAMILIES)


def without_accessors(frames: Sequence[str]) -> tuple[str, ...]:
    """A stack from the function that is to be named outwards; whole where there is nothing but accessors."""
    sources = [source_name(frame) for frame in frames]
    for position, name in enumerate(sources):
        if _is_accessor(name):
            continue
        caller = sources[position + 1] if position + 1 < len(sources) else ""
        works_for = _WORKERS.get(name, (name.removeprefix("__"),) if name.startswith("__") else ())
        return tuple(frames[position + (caller in works_for) :])
    return tuple(frames)


def source_name(frame: str) -> str:
    """A function's name in the source: without what a compiler (`.isra.0`, `.cold`) or a module adds to it."""
    return frame.partition(" ")[0].partition(".")[0]


def declaration(header: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Whether a recording's header says that the run had the TCG plugin; and where it had none, why."""
    declared = header.get("attribution")
    if not isinstance(declared, dict):
        return False, "the recording does not speak of one"
    if declared.get("plugin") is True:
        return True, None
    return False, str(declared.get("reason") or "the recording does not say why")


@dataclass(frozen=True, slots=True)
class Stack:
    """A STACK record: what many writes may have in common."""

    kernel: str
    frames: tuple[str, ...]
    note: str | None


class Attributions:
    """Which stack each PLUGIN_WRITE and PLUGIN_JUMP has, by its slot in the file."""

    def __init__(self, index: EventIndex, texts: Iterable[Text]) -> None:
        self.problems: list[str] = []
        self._stacks = self._parse_stacks(text for text in texts if text.kind is Kind.STACK)
        self._stack_of = self._parse_references(index)

    def __len__(self) -> int:
        return len(self._stack_of)

    def of(self, slot: int, cpu: int, pc: int) -> Attribution | None:
        """The author of the write in a slot; None where nobody has said."""
        stack = self._stack_of.get(slot)
        return None if stack is None else Attribution(stack.kernel, stack.frames, cpu, pc, stack.note)

    def _parse_stacks(self, texts: Iterable[Text]) -> dict[int, Stack]:
        stacks: dict[int, Stack] = {}
        for text in texts:
            number, stack = parse_stack(text.raw)
            if number is None or stack is None:
                self.problems.append("a STACK record cannot be read")
            elif number in stacks:
                self.problems.append(f"there are two STACK records of id {number}")
            else:
                stacks[number] = stack
        return stacks

    def _parse_references(self, index: EventIndex) -> dict[int, Stack]:
        found: dict[int, Stack] = {}
        slots = index.of_kind(Kind.ATTRIBUTION)
        named = set((index.column("seq", index.of_kinds((Kind.PLUGIN_WRITE, Kind.PLUGIN_JUMP))) - 1).tolist())
        for slot, number in zip(
            index.column("value", slots).tolist(), index.column("extra", slots).tolist(), strict=True
        ):
            stack = self._stacks.get(number)
            if slot not in named or stack is None:
                what = "no write of the plugin's" if slot not in named else "no STACK record"
                self.problems.append(f"an attribution of slot {slot} to stack {number} refers to {what}")
            elif slot in found:
                self.problems.append(f"the write in slot {slot} is attributed twice")
            else:
                found[slot] = stack
        return found


def parse_stack(raw: bytes) -> tuple[int | None, Stack | None]:
    """The id and the stack of one STACK record's bytes; None where they are damaged."""
    try:
        members: Any = json.loads(raw)
        number, kernel, note = members["id"], members["kernel"], members.get("note")
        frames = tuple(_frame(*frame) for frame in members["frames"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, None
    if not isinstance(number, int) or not isinstance(kernel, str) or not isinstance(note, str | None):
        return None, None
    return number, Stack(kernel, frames, note)


def _frame(symbol: Any, offset: Any, module: Any) -> str:
    if not isinstance(symbol, str) or not isinstance(offset, int) or not isinstance(module, str | None):
        raise TypeError(f"no frame: {symbol!r}, {offset!r}, {module!r}")
    return symbol if module is None else f"{symbol} [{module}]"
