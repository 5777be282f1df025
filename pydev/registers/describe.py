# SPDX-License-Identifier: MIT
"""Register maps as JSON, for a recording's header, and the table that decodes accesses with it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from pydev.registers.register import Register


class JsonField(TypedDict):
    """One field: `lsb` and `bits` as declared, `access` an `Access` value."""

    name: str
    lsb: int
    bits: int
    access: str


class JsonRegister(TypedDict):
    """One register: `offset` and `width` in bytes. `count` and `stride` (bytes) are there for arrays only."""

    name: str
    offset: int
    width: int
    fields: list[JsonField]
    count: NotRequired[int]
    stride: NotRequired[int]


def describe_register(register: type[Register], offset: int) -> JsonRegister:
    """A register at an absolute offset, as JSON."""
    fields: list[JsonField] = [
        {"name": name, "lsb": field.lsb, "bits": field.bits, "access": field.access.value}
        for name, field in register.fields.items()
    ]
    described: JsonRegister = {
        "name": register.name, "offset": offset, "width": register.width, "fields": fields,
    }  # fmt: skip
    if register.count > 1:
        described["count"] = register.count
        described["stride"] = register.stride
    return described


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an access that fell on one register.

    `value` is in the register's position, `mask` the bits that the access covered. `name` has the index of an
    array's element: `PAGE_TABLE[3]`.
    """

    register: JsonRegister
    name: str
    offset: int
    value: int
    mask: int

    def fields(self) -> Iterator[tuple[str, int]]:
        """Name and value of each field that the access covered whole."""
        for field in self.register["fields"]:
            bits = ((1 << field["bits"]) - 1) << field["lsb"]
            if self.mask & bits == bits:
                yield field["name"], (self.value & bits) >> field["lsb"]


@dataclass(frozen=True, slots=True)
class Change:
    """A field's value before and after; `field` is "" where the changed bits belong to no field."""

    register: str
    field: str
    before: int
    after: int


class DecodeTable:
    """Finds names for accesses to one region, from the JSON of a recording's header alone."""

    def __init__(self, registers: Iterable[JsonRegister]) -> None:
        self._at: dict[int, tuple[JsonRegister, int, int]] = {}
        self._by_name: dict[str, JsonRegister] = {}
        for register in registers:
            self._by_name[register["name"]] = register
            stride = register.get("stride", register["width"])
            for index in range(register.get("count", 1)):
                start = register["offset"] + index * stride
                for byte in range(start, start + register["width"]):
                    self._at[byte] = (register, index, start)

    def register(self, name: str) -> JsonRegister | None:
        """The register of this name."""
        return self._by_name.get(name)

    def offset_of(self, name: str) -> int | None:
        """Where the register of this name begins."""
        found = self._by_name.get(name)
        return None if found is None else found["offset"]

    def split(self, offset: int, size: int, value: int = 0) -> list[Part]:
        """The registers under an access, by offset; bytes without a register are left out."""
        parts: dict[int, Part] = {}
        for byte in range(offset, offset + size):
            if (owner := self._at.get(byte)) is None:
                continue
            register, index, start = owner
            if start in parts:
                continue
            low, high = max(start, offset), min(start + register["width"], offset + size)
            mask = ((1 << 8 * (high - low)) - 1) << 8 * (low - start)
            bits = (value << 8 * (offset - start)) if offset >= start else (value >> 8 * (start - offset))
            name = f"{register['name']}[{index}]" if "count" in register else register["name"]
            parts[start] = Part(register, name, start, bits & mask, mask)
        return list(parts.values())

    def changes(self, offset: int, size: int, before: int, after: int) -> list[Change]:
        """The fields that differ between two values of the same bytes."""
        found: list[Change] = []
        for old, new in zip(self.split(offset, size, before), self.split(offset, size, after), strict=True):
            rest = old.value ^ new.value
            for field in old.register["fields"]:
                bits = ((1 << field["bits"]) - 1) << field["lsb"]
                if rest & bits:
                    values = ((part.value & bits) >> field["lsb"] for part in (old, new))
                    found.append(Change(old.name, field["name"], *values))
                rest &= ~bits
            if rest:
                found.append(Change(old.name, "", old.value & rest, new.value & rest))
        return found
