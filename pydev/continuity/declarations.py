# SPDX-License-Identifier: MIT
"""The registers that rules and policies speak of by name, as `pydev.pci` declares them: where, and which bits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

import pydev.pci
from pydev.continuity.selection import RegisterSelector
from pydev.pci.bar import BAR_COUNT, Bar, bar_registers
from pydev.pci.capability import Capability
from pydev.pci.type0 import TYPE0_REGISTERS
from pydev.pci.type1 import TYPE1_REGISTERS
from pydev.registers import Field, Register

_ANY_BAR_BYTES: Final = 0x1000


@dataclass(frozen=True, slots=True)
class Declared:
    """A register in one place; where endpoints and ports declare it apart, with the fields of both."""

    name: str
    place: str
    """`header`, `type 0 header`, `PM capability`, `AER extended capability`."""
    offset: int
    """Bytes from the place's first one."""
    width: int
    """Bytes."""
    fields: Mapping[str, Field]

    def describe(self, field: str | None = None) -> str:
        """Where it is, and which bits: `header 0x04, bit 2 of 2 bytes`."""
        size = f"{self.width} byte{'s' if self.width > 1 else ''}"
        found = None if field is None else self.fields.get(field)
        bits = size if found is None else f"{_bits(found)} of {size}"
        return f"{self.place} {self.offset:#04x}, {bits}"


def _bits(field: Field) -> str:
    top = field.lsb + field.bits - 1
    return f"bit {field.lsb}" if field.bits == 1 else f"bits {top}:{field.lsb}"


@cache
def declared() -> Mapping[str, tuple[Declared, ...]]:
    """Every register by name, in each place that has one."""
    found: dict[tuple[str, str, int], Declared] = {}
    for place, register in _all():
        key = (register.name, place, register.offset or 0)
        fields = {**(found[key].fields if key in found else {}), **register.fields}
        found[key] = Declared(register.name, place, register.offset or 0, register.width, fields)
    names = sorted({name for name, _, _ in found})
    return {name: tuple(entry for key, entry in found.items() if key[0] == name) for name in names}


def _all() -> Iterator[tuple[str, type[Register]]]:
    """Every declaration, with its place."""
    in_type1 = {(register.name, register.offset) for register in TYPE1_REGISTERS}
    in_both = in_type1 & {(register.name, register.offset) for register in TYPE0_REGISTERS}
    bars = bar_registers(Bar(index, _ANY_BAR_BYTES) for index in range(BAR_COUNT))
    for registers, kind in (((*TYPE0_REGISTERS, *bars), "type 0 "), (TYPE1_REGISTERS, "type 1 ")):
        for register in registers:
            is_common = (register.name, register.offset) in in_both
            yield f"{'' if is_common else kind}header", register
    for capability in _capabilities():
        for register in capability.registers:
            yield f"{capability.name} {'extended ' * capability.is_extended}capability", register


def _capabilities() -> list[type[Capability]]:
    for module in iter_modules(pydev.pci.__path__):
        import_module(f"{pydev.pci.__name__}.{module.name}")
    found: list[type[Capability]] = []
    waiting: list[type[Capability]] = [Capability]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += [child for child in children if "registers" in vars(child)]
        waiting += children
    return sorted(
        found, key=lambda capability: (capability.is_extended, capability.name, capability.__name__)
    )


def is_declared(selector: RegisterSelector) -> bool:
    """Whether a selector names something that exists: some register, with such a field."""
    return any(
        selector.covers(name, None) or any(selector.covers(name, field) for field in entry.fields)
        for name, entries in declared().items()
        for entry in entries
    )


def matching(name: str) -> tuple[Declared, ...]:
    """Every place of the registers that a name, which may hold `*` and `?`, stands for."""
    return tuple(e for known, entries in declared().items() if fnmatchcase(known, name) for e in entries)
