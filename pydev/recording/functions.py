# SPDX-License-Identifier: MIT
"""The recording header's function table: who is who, and what their registers are called."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydev.errors import RecordingError

_CONFIG_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class FieldEntry:
    """Bits of a register."""

    name: str
    lsb: int
    bits: int
    access: str = "rw"
    """An `Access` value; "rw" where the header does not say."""

    def extract(self, value: int) -> int:
        """The field's value in a register's value."""
        return value >> self.lsb & (1 << self.bits) - 1


@dataclass(frozen=True, slots=True)
class RegisterEntry:
    """A register of config space, by name."""

    name: str
    offset: int
    width: int
    """Bytes."""
    fields: Mapping[str, FieldEntry]


@dataclass(frozen=True, slots=True)
class FunctionEntry:
    """One function of the topology: an endpoint or a bridge."""

    index: int
    id: str
    role: str
    model: str | None
    parent: int | None
    """Index of the port above; None on bus 0."""
    devfn: int
    bus: int | None
    """Of a function on a root bus."""
    preserve: bool
    has_stream: bool
    registers: Mapping[str, RegisterEntry] = field(repr=False)
    config: bytes | None = field(repr=False)
    """Power-on image, 4096 bytes; None for bridges."""

    @property
    def is_endpoint(self) -> bool:
        """Whether the server plays it (and so records what it does)."""
        return self.role == "endpoint"


def parse_functions(header: Mapping[str, Any], path: Path) -> tuple[FunctionEntry, ...]:
    """The header's `functions`, in index order; RecordingError where they make no tree."""
    entries = header.get("functions", [])
    try:
        functions = tuple(_function(entry) for entry in entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f"{path}: the header's functions cannot be read: {error!r}") from error
    _check_tree(functions, path)
    return functions


def upstream_path(functions: Sequence[FunctionEntry], index: int) -> tuple[FunctionEntry, ...]:
    """The ports above a function, nearest first, up to the root port."""
    path: list[FunctionEntry] = []
    parent = functions[index].parent
    while parent is not None:
        path.append(functions[parent])
        parent = functions[parent].parent
    return tuple(path)


def _function(entry: Mapping[str, Any]) -> FunctionEntry:
    config = entry.get("config")
    parent, bus = entry.get("parent"), entry.get("bus")
    return FunctionEntry(
        index=int(entry["index"]),
        id=str(entry["id"]),
        role=str(entry["role"]),
        model=entry.get("model"),
        parent=None if parent is None else int(parent),
        devfn=int(entry["devfn"]),
        bus=None if bus is None else int(bus),
        preserve=bool(entry.get("preserve", False)),
        has_stream=bool(entry.get("stream")),
        registers={r.name: r for described in entry.get("registers") or () for r in registers_of(described)},
        config=None if config is None else bytes.fromhex(config),
    )


def registers_of(entry: Mapping[str, Any]) -> Iterator[RegisterEntry]:
    """The register of one entry of the header's table; of an array each element, as `ENTRY[2]`."""
    fields = {
        str(f["name"]): FieldEntry(str(f["name"]), int(f["lsb"]), int(f["bits"]), str(f.get("access", "rw")))
        for f in entry.get("fields") or ()
    }
    name, offset, width = str(entry["name"]), int(entry["offset"]), int(entry["width"])
    if "count" not in entry:
        yield RegisterEntry(name, offset, width, fields)
        return
    for index in range(min(int(entry["count"]), _CONFIG_BYTES)):
        yield RegisterEntry(f"{name}[{index}]", offset + index * int(entry["stride"]), width, fields)


def _check_tree(functions: Sequence[FunctionEntry], path: Path) -> None:
    for position, function in enumerate(functions):
        if function.index != position:
            raise RecordingError(f"{path}: function {function.id} has index {function.index}, not {position}")
        seen = {position}
        parent = function.parent
        while parent is not None:
            if not 0 <= parent < len(functions) or parent in seen:
                raise RecordingError(f"{path}: function {function.id} has no way up to a root port")
            seen.add(parent)
            parent = functions[parent].parent
