# SPDX-License-Identifier: MIT
"""Gets a kernel's symbols and tables out of its image."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from qemu_plugin.attribution import belonging, jump_scan, kallsyms, orc, system_map
from qemu_plugin.attribution.elf import Elf
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.image import vmlinux
from qemu_plugin.attribution.jump_scan import PART, Jumps
from qemu_plugin.attribution.orc import Orc
from qemu_plugin.attribution.symbols import Code, KernelSymbols

Addresses = npt.NDArray[np.uint64]

_BANNER: Final = b"Linux version "  # linux init/version-timestamp.c linux_banner
_SETS_FRAME: Final = b"\x48\x89\xe5"  # mov %rsp,%rbp
_SOON_BYTES: Final = 64
_COLD: Final = ".cold"  # a part of a function that the compiler has moved away
_PADDING: Final = "__pfx_"  # linux scripts/kallsyms.c: before a function, not code that runs
_NO_CALLEES: Final = (
    "__x86_return_thunk",
    "__x86_indirect_",
    "__SCT__",
)  # a jump there leads on through a pointer
# linux arch/x86/include/asm/alternative.h struct alt_instr: 14 bytes from 6.3, 12 before; its first word says where
_ALTERNATIVE_BYTES: Final = (14, 12)


@dataclass(frozen=True, slots=True)
class _Table:
    source: str
    names: Sequence[str]
    addresses: Addresses
    types: str
    extent: tuple[int, int] | None = None
    """Where it lies itself."""


def read(image: Path, map_beside: Path | None) -> KernelSymbols:
    """The symbols of the kernel in `image`; AttributionError where there are no names that can be trusted.

    The image's own tables come first, as they cannot be another kernel's: kallsyms, then .symtab; then the
    System.map `map_beside`, if it agrees with the image. Tables for unwinding that cannot be used are a
    `problem` of the result.
    """
    data = vmlinux(image)
    elf = Elf.parse(data, str(image))
    sections = sorted((section for _, section in elf.code()), key=lambda section: -len(section.data))
    if not sections:
        raise AttributionError(f"{image}: its vmlinux has no instructions")
    code = tuple(Code(section.address, np.frombuffer(section.data, dtype=np.uint8)) for section in sections)
    whole = _table(elf, image, map_beside)
    table = _in_code(whole, code)
    functions = _functions(table, code[0])
    tables, problem = None, None
    has_frame_pointers = False
    try:
        tables = orc.parse(elf, functions)
        has_frame_pointers = tables is None and _has_frame_pointers(functions, code[0])
        if tables is None and not has_frame_pointers:
            problem = (
                f"{image} has neither ORC tables nor frame pointers: only the innermost function is known"
            )
    except AttributionError as error:
        problem = f"{image}: {error}"
    encoded = [name.encode("latin-1") for name in table.names]
    lengths = np.array([len(name) + 1 for name in encoded], dtype=np.uint32)
    return KernelSymbols(
        release=_release(data),
        source=table.source,
        addresses=table.addresses,
        types=table.types.encode(),
        names=b"\0" + b"\0".join(encoded) + b"\0",
        name_offsets=(np.cumsum(lengths) - lengths + 1).astype(np.uint32),
        code=code,
        orc=tables,
        jumps=None if tables is None else _jumps(elf, tables, table, whole.extent),
        alternatives=_alternatives(elf, code),
        has_frame_pointers=has_frame_pointers,
        problem=problem,
    )


def _table(elf: Elf, image: Path, map_beside: Path | None) -> _Table:
    """The first table that agrees with the image; AttributionError says why each was refused."""
    refused: list[str] = []
    rodata = elf.section(".rodata")
    if rodata is not None and (found := kallsyms.names(rodata)) is not None:
        for encoding, addresses, end in kallsyms.addresses(rodata, found):
            if (reason := belonging.disagreement(elf, found.names, addresses.tolist())) is None:
                extent = rodata.address + found.begin, rodata.address + max(found.end, end)
                return _Table("kallsyms", found.names, addresses, found.types, extent)
            refused.append(f"kallsyms read as {encoding}: {reason}")
    if symtab := list(elf.symbols()):
        names, values, types = zip(*symtab, strict=True)
        if (reason := belonging.disagreement(elf, names, values)) is None:
            return _Table(".symtab", names, np.array(values, dtype=np.uint64), "".join(types))
        refused.append(f".symtab: {reason}")
    if map_beside is not None:
        listed, places, letters = system_map.read(map_beside)
        if (reason := belonging.disagreement(elf, listed, places)) is None:
            return _Table("System.map", listed, np.array(places, dtype=np.uint64), letters)
        refused.append(f"{map_beside} is of another kernel: {reason}")
    why = "; ".join(refused) or "no kallsyms, no symbol table, no System.map"
    raise AttributionError(f"{image}: no names for its functions ({why})")


def _in_code(table: _Table, code: Sequence[Code]) -> _Table:
    """Those of the table's symbols that are in instructions, by address."""
    inside = np.zeros(len(table.addresses), dtype=bool)
    for part in code:
        inside |= (table.addresses >= part.begin) & (table.addresses < part.end)
    chosen = np.flatnonzero(inside)
    chosen = chosen[np.argsort(table.addresses[chosen], kind="stable")]
    indexes = chosen.tolist()
    names = [table.names[index] for index in indexes]
    return _Table(
        table.source, names, table.addresses[chosen], "".join([table.types[index] for index in indexes])
    )


def _functions(table: _Table, text: Code) -> Addresses:
    """Where calls arrive in the main text."""
    wanted = [
        letter in "tTwW" and not name.startswith(_PADDING) and _COLD not in name
        for name, letter in zip(table.names, table.types, strict=True)
    ]
    found = table.addresses[np.array(wanted, dtype=bool)]
    return np.asarray(found[(found >= text.begin) & (found < text.end)])


def _jumps(elf: Elf, tables: Orc, table: _Table, extent: tuple[int, int] | None) -> Jumps:
    addresses = table.addresses.tolist()
    counts = Counter(table.names)
    places = dict(zip(table.names, addresses, strict=True))
    parts = {
        address: places[owner]
        for name, address in zip(table.names, addresses, strict=True)
        if _COLD in name and counts[owner := name.partition(_COLD)[0]] == 1
    }
    thunks = [
        address for name, address in zip(table.names, addresses, strict=True) if name.startswith(_NO_CALLEES)
    ]
    return jump_scan.find(
        elf,
        tables,
        np.unique(table.addresses),
        np.array(sorted(parts.items()), dtype=PART),
        np.array(thunks, dtype=np.uint64),
        extent,
    )


def _alternatives(elf: Elf, code: Sequence[Code]) -> Addresses:
    section = elf.section(".altinstructions")
    for size in _ALTERNATIVE_BYTES:
        if section is None or not section.data or len(section.data) % size:
            continue
        rows = np.frombuffer(section.data, dtype=np.uint8).reshape(-1, size)
        places = np.uint64(section.address) + np.arange(len(rows), dtype=np.uint64) * np.uint64(size)
        offsets = np.ascontiguousarray(rows[:, :4]).view("<i4")[:, 0].astype(np.int64)
        found = places + offsets.view(np.uint64)
        if all(any(part.begin <= address < part.end for part in code) for address in found.tolist()):
            return np.unique(found)
    return np.empty(0, dtype=np.uint64)


def _has_frame_pointers(functions: Addresses, text: Code) -> bool:
    """Whether most functions set up a frame soon; compilers put it off. Others do so in 3 of 100 cases."""
    begins = (functions - np.uint64(text.begin)).tolist()
    codes = (text.data[begin : begin + _SOON_BYTES].tobytes() for begin in begins)
    return sum(_SETS_FRAME in code for code in codes) > len(begins) / 2


def _release(data: bytes) -> str:
    begin = data.find(_BANNER)
    words = data[begin + len(_BANNER) : begin + 256].split(maxsplit=1) if begin >= 0 else []
    return words[0].decode("latin-1") if words else "unknown"
