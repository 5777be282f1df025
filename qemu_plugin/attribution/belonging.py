# SPDX-License-Identifier: MIT
"""Whether a table of symbols is this vmlinux': by what the image says of its own addresses elsewhere.

A table of another build, or one decoded wrongly, must be an error and never a wrong name.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from qemu_plugin.attribution.elf import Elf, Section

_EXPORT_BYTES: Final = (
    12  # linux include/linux/export-internal.h: three PC-relative words: value, name, namespace
)
_MARKS: Final = {
    # linux arch/x86/kernel/vmlinux.lds.S and include/asm-generic/vmlinux.lds.h: where a section begins
    "_text": ".text",
    "_stext": ".text",
    "_sinittext": ".init.text",
    "__start___ex_table": "__ex_table",
    "__start___bug_table": "__bug_table",
    "__start_orc_unwind_ip": ".orc_unwind_ip",
    "__start_orc_unwind": ".orc_unwind",
    "__start___ksymtab": "__ksymtab",
    "__start_notes": ".notes",
    "_sdata": ".data",
}
_LEAST_MARKS: Final = 3
_LEAST_EXPORTS: Final = 100


def disagreement(elf: Elf, names: Sequence[str], addresses: Sequence[int]) -> str | None:
    """Why `names` at `addresses` cannot be the symbols of `elf`, None where they are.

    Every exported symbol that the table has must be where the vmlinux' export table says, and every mark of a
    section at that section. At least 100 exports, or three marks where nothing is exported, must say so.
    """
    table: dict[str, list[int]] = {}
    wanted = exports(elf)
    marks = {
        name: elf.sections[section].address for name, section in _MARKS.items() if section in elf.sections
    }
    for name, address in zip(names, addresses, strict=True):
        if name in wanted or name in marks:
            table.setdefault(name, []).append(address)
    agreeing_marks, wrong = _compare(table, marks)
    agreeing_exports, wrong_export = _compare(table, wanted)
    if reason := wrong_export or wrong:
        return reason
    if wanted and agreeing_exports < min(_LEAST_EXPORTS, len(wanted)):
        return f"it has {agreeing_exports} of the {len(wanted)} symbols that the image exports"
    if not wanted and agreeing_marks < _LEAST_MARKS:
        return f"it has {agreeing_marks} of the marks of the image's {len(marks)} sections"
    return None


def exports(elf: Elf) -> dict[str, int]:
    """Name and address of what the vmlinux exports to modules; empty without CONFIG_MODULES."""
    strings = elf.section("__ksymtab_strings")
    found: dict[str, int] = {}
    for name in ("__ksymtab", "__ksymtab_gpl"):
        section = elf.section(name)
        if section is not None and strings is not None:
            found.update(_exports(section, strings))
    return found


def _exports(section: Section, strings: Section) -> Mapping[str, int]:
    words = section.words("<i4")[: len(section.data) // _EXPORT_BYTES * 3].reshape(-1, 3).astype(np.int64)
    places = np.uint64(section.address) + np.arange(len(words), dtype=np.uint64) * np.uint64(_EXPORT_BYTES)
    values = (places + words[:, 0].view(np.uint64)).tolist()
    positions = (places + np.uint64(4) + words[:, 1].view(np.uint64) - np.uint64(strings.address)).tolist()
    text = bytes(strings.data)
    found = {}
    for value, position in zip(values, positions, strict=True):
        if position < len(text):
            end = text.find(b"\0", position)
            found[text[position:end].decode("latin-1")] = value
    return found


def _compare(table: Mapping[str, Sequence[int]], wanted: Mapping[str, int]) -> tuple[int, str | None]:
    """How many agree, and the first that does not. A name may stand at several addresses; one must be right."""
    agreeing = 0
    for name, address in wanted.items():
        if (has := table.get(name)) is None:
            continue
        if address not in has:
            return agreeing, f"it has {name} at {has[0]:#x}, the image at {address:#x}"
        agreeing += 1
    return agreeing, None
