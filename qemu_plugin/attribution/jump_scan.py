# SPDX-License-Identifier: MIT
"""Every jump from one function to another in a kernel's image, and every function whose address is kept somewhere.

Nothing is disassembled: each four bytes of text are tried as a displacement. Bytes that happen to look like a
jump or a pointer add a way that is none, so that `tail_calls` says less; none that is there is left out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from qemu_plugin.attribution.orc import Base, Orc, Type

if TYPE_CHECKING:  # it costs time to import, which nobody needs who has the result
    from qemu_plugin.attribution.elf import Elf, Section

Addresses = npt.NDArray[np.uint64]

EDGE: Final = np.dtype([("target", "<u8"), ("source", "<u8"), ("jump_end", "<u8")])
PART: Final = np.dtype([("begin", "<u8"), ("owner", "<u8")])
_CHUNK_BYTES: Final = 1 << 20
_SIGN: Final = 0xFFFF_FFFF_0000_0000  # the kernel's addresses, as 32-bit words are extended
_HIGH: Final = 0xFFFF_FFFF
_LEAST_LISTED: Final = 1000
_NEAR: Final = 5
_LEA: Final = 0x8D
_RIP_RELATIVE: Final = 0x05  # ModRM without its register: disp32(%rip)
_PERCPU: Final = ".data..percpu"  # linked at 0 until 6.14
_NO_POINTERS: Final = frozenset({
    # tables of addresses that nothing is called by; .ibt_endbr_seal and kallsyms name every function
    ".orc_unwind_ip", ".orc_unwind", ".orc_header", "__ksymtab", "__ksymtab_gpl", "__ksymtab_strings",
    "__kcrctab", "__kcrctab_gpl", "__kflagstab", "__ex_table", "__bug_table", ".altinstructions", ".retpoline_sites",
    ".return_sites", ".call_sites", ".cfi_sites", ".ibt_endbr_seal", ".smp_locks", ".BTF", ".BTF_ids", ".notes",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Jumps:
    """Every jump from one function to the beginning of another, and what may be called by a pointer."""

    edges: npt.NDArray[np.void]
    """EDGE items by target: functions by their addresses, and the address after the jump."""
    pointed_at: Addresses
    """Functions whose address is somewhere in data or in an instruction that is no call or jump, ascending."""
    parts: npt.NDArray[np.void]
    """PART items by address: what the compiler has moved out of a function."""

    def owner(self, begin: int) -> int:
        """The function that the one which begins there is a part of; itself, if it is a whole one."""
        index = int(np.searchsorted(self.parts["begin"], np.uint64(begin)))
        if index < len(self.parts) and int(self.parts["begin"][index]) == begin:
            return int(self.parts["owner"][index])
        return begin


def find(
    elf: "Elf",
    orc: Orc,
    functions: Addresses,
    parts: npt.NDArray[np.void],
    no_edges: Addresses,
    ignored: tuple[int, int] | None,
) -> Jumps:
    """The jumps of a kernel whose `functions` begin at these addresses, ascending.

    `parts` are PART items, ascending. Jumps to `no_edges` lead nowhere (thunks). `ignored` is a range of
    addresses whose words are no pointers (kallsyms).
    """
    scan = _Scan(orc, functions, parts)
    for _, section in elf.code():
        scan.add_code(section)
    for name, section in elf.sections.items():
        is_loaded = section.address != 0 or name == _PERCPU
        if is_loaded and not section.is_code and name not in _NO_POINTERS:
            scan.add_data(section, ignored)
    return scan.jumps(no_edges)


class _Scan:
    def __init__(self, orc: Orc, functions: Addresses, parts: npt.NDArray[np.void]) -> None:
        self._orc, self._functions, self._parts = orc, functions, parts
        self._owners = functions.copy()
        self._owners[np.searchsorted(functions, parts["begin"])] = parts["owner"]
        self._low = int(functions[0])
        self._begins = np.zeros(int(functions[-1]) - self._low + 1, dtype=bool)
        self._begins[(functions - np.uint64(self._low)).astype(np.int64)] = True
        self._edges: list[npt.NDArray[np.void]] = []
        self._pointed_at: list[Addresses] = []

    def jumps(self, no_edges: Addresses) -> Jumps:
        edges = np.concatenate(self._edges)
        edges = np.unique(edges[~np.isin(edges["target"], no_edges)])
        return Jumps(edges, np.unique(np.concatenate(self._pointed_at)), self._parts)

    def add_code(self, section: "Section") -> None:
        code = np.frombuffer(section.data, dtype=np.uint8)
        for begin in range(2, len(code) - 3, _CHUNK_BYTES):
            self._add_words(section, code, begin, min(begin + _CHUNK_BYTES, len(code) - 3))
        self._add_short_jumps(section, code)

    def _add_words(self, section: "Section", code: npt.NDArray[np.uint8], begin: int, end: int) -> None:
        """Each four bytes are looked at as a displacement, and as an address."""
        parts = [
            code[begin + byte : end + byte].astype(np.uint32) << np.uint32(8 * byte) for byte in range(4)
        ]
        words = parts[0] | parts[1] | parts[2] | parts[3]
        places = np.arange(begin, end, dtype=np.int64)
        self._note(np.uint64(_SIGN) + words.astype(np.uint64))
        targets = places + np.int64(section.address - self._low + 4) + words.view(np.int32)
        hits = np.flatnonzero(self._is_begin(targets))
        places, targets = places[hits], targets[hits]
        last, before = code[places - 1], code[places - 2]
        is_jump = (last == 0xE9) | ((before == 0x0F) & (last & 0xF0 == 0x80))
        is_lea = (before == _LEA) & (last & 0xC7 == _RIP_RELATIVE)
        self._note(targets[is_lea].astype(np.uint64) + np.uint64(self._low))
        lengths = np.where(last == 0xE9, _NEAR, _NEAR + 1)[is_jump]
        self._add_edges(section, places[is_jump] + 4, lengths, targets[is_jump])

    def _add_short_jumps(self, section: "Section", code: npt.NDArray[np.uint8]) -> None:
        places = np.flatnonzero((code[:-1] == 0xEB) | (code[:-1] & 0xF0 == 0x70))
        ends = places + 2
        targets = ends + np.int64(section.address - self._low) + code[places + 1].view(np.int8)
        hits = self._is_begin(targets)
        self._add_edges(section, ends[hits], np.full(np.count_nonzero(hits), 2), targets[hits])

    def _add_edges(
        self,
        section: "Section",
        ends: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
    ) -> None:
        """Those where only the return address is on the stack, and that lead to another function."""
        jumps = (ends - lengths).astype(np.uint64) + np.uint64(section.address)
        entries = self._orc.entries[np.searchsorted(self._orc.addresses, jumps, side="right") - 1]
        is_left = (
            (entries["sp_base"] == Base.SP) & (entries["sp_offset"] == 8) & (entries["type"] == Type.CALL)
        )
        edges = np.empty(len(jumps), dtype=EDGE)
        edges["target"] = self._owner(targets.astype(np.uint64) + np.uint64(self._low))
        edges["source"] = self._owner(jumps)
        edges["jump_end"] = ends.astype(np.uint64) + np.uint64(section.address)
        self._edges.append(edges[is_left & (edges["target"] != edges["source"])])

    def add_data(self, section: "Section", ignored: tuple[int, int] | None) -> None:
        """Addresses, and words relative to their own place, wherever they are aligned."""
        words = section.words("<u4")
        places = np.uint64(section.address) + np.arange(len(words), dtype=np.uint64) * np.uint64(4)
        relative = places + words.view(np.int32).astype(np.int64).view(np.uint64)
        if ignored is not None:
            relative = relative[(places < np.uint64(ignored[0])) | (places >= np.uint64(ignored[1]))]
        self._note(relative)
        is_high = (words[1:] == _HIGH) & ~self._is_listed(section, len(words))[:-1]
        self._note(np.uint64(_SIGN) + words[:-1][is_high].astype(np.uint64))

    def _is_listed(self, section: "Section", count: int) -> npt.NDArray[np.bool_]:
        """Which of a section's words belong to the sorted list of where functions can be traced.

        linux include/asm-generic/vmlinux.lds.h MCOUNT_REC: it names every function, and nothing is called by it.
        """
        addresses = section.words("<u8").view(np.uint64)
        low, high = np.uint64(self._low), np.uint64(self._low + len(self._begins))
        is_text = (addresses >= low) & (addresses < high)
        rises = is_text[:-1] & is_text[1:] & (addresses[:-1] < addresses[1:])
        edges = np.diff(np.concatenate(([0], rises.view(np.int8), [0])))
        listed = np.zeros(len(addresses), dtype=bool)
        for begin, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            if end - begin >= _LEAST_LISTED:
                listed[begin : end + 1] = True
        found = np.zeros(max(count, 1), dtype=bool)
        found[: 2 * len(listed)] = np.repeat(listed, 2)
        return found

    def _is_begin(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        inside = (offsets >= 0) & (offsets < len(self._begins))
        inside[inside] = self._begins[offsets[inside]]
        return inside

    def _note(self, addresses: Addresses) -> None:
        found = addresses[self._is_begin((addresses - np.uint64(self._low)).view(np.int64))]
        self._pointed_at.append(np.unique(self._owner(found)))

    def _owner(self, addresses: Addresses) -> Addresses:
        return np.asarray(self._owners[np.searchsorted(self._functions, addresses, side="right") - 1])
