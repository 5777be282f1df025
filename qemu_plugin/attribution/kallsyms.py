# SPDX-License-Identifier: MIT
"""A kernel's own symbol table, as scripts/kallsyms.c compresses it into .rodata; found by what it contains.

Nothing in the image says where the tables are, and their order has changed:

    until 6.3   offsets relative_base num_syms names markers [seqs_of_names, from 6.2] token_table token_index
    from 6.4    num_syms names markers token_table token_index offsets relative_base seqs_of_names
    from 7.0    the same without relative_base: each offset is relative to its own place

Until 6.14 addresses below 2 GiB, the per-CPU ones, were kept as they are and the others as negative offsets
(CONFIG_KALLSYMS_ABSOLUTE_PERCPU); from 6.15 to 6.19 all are unsigned offsets from relative_base.

So the token table is found by its own index, the names by their markers, and the addresses by trying each
encoding: `belonging.check` has to accept the result. Layout of one name: linux kernel/kallsyms.c
kallsyms_expand_symbol.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qemu_plugin.attribution.elf import Section

Addresses = npt.NDArray[np.uint64]

_TOKENS: Final = 256
_DIGITS: Final = b"".join(b"%d\0" % digit for digit in range(10))
"""In the token table: a character that stands for itself sits at its own code, and all digits do."""
_MARKED: Final = 256  # one marker for so many names
_LEAST_NAMES: Final = 8 * _MARKED
_LONGEST_NAME: Final = 512  # KSYM_NAME_LEN, linux include/linux/kallsyms.h, and as many bytes compressed
_ALIGNMENTS: Final = (8, 4)  # of each table: .balign 8 until 6.x, 4 in 7.x (output_label)


@dataclass(frozen=True, slots=True)
class Names:
    """The table but for its addresses; positions are offsets into the section."""

    names: tuple[str, ...]
    types: str
    """One letter for each name, as `nm` has them."""
    begin: int
    """Where num_syms lies."""
    end: int
    """After token_index."""


def names(rodata: Section) -> Names | None:
    """The names in the section's tables, None where there are none (CONFIG_KALLSYMS=n) or none that fit."""
    data = bytes(rodata.data)
    for tokens, table, end in _token_tables(data):
        for begin, count, first in _name_tables(data, table):
            expanded = _expand(data, first, count, tokens)
            return Names(
                tuple(text[1:] for text in expanded), "".join(text[0] for text in expanded), begin, end
            )
    return None


def addresses(rodata: Section, found: Names) -> Iterator[tuple[str, Addresses, int]]:
    """(encoding, address of every name, position after them), for each encoding that has them ascend."""
    data, count = rodata.data, len(found.names)
    for alignment in _ALIGNMENTS:
        after = _aligned(found.end, alignment)
        end = after + 4 * count
        until_6_3 = found.begin - 8
        readings = [
            ("place-relative", _place_relative(rodata, after, count)),
            *_based(data, after, _aligned(end, 8), count),
            *_based(data, until_6_3 - _aligned(4 * count, alignment), until_6_3, count),
        ]
        for encoding, reading in readings:
            if reading is not None and bool((reading[1:] >= reading[:-1]).all()):
                yield encoding, reading, end


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _token_tables(data: bytes) -> Iterator[tuple[list[bytes], int, int]]:
    """(tokens, position of token_table, end of token_index) for each pair that proves itself."""
    position = data.find(_DIGITS)
    while position >= 0:
        begin = position
        for _ in range(ord("0")):  # tokens 0 to 47 come before the digits
            begin = data.rfind(b"\0", 0, begin - 1) + 1 if begin > 0 else 0
        for start in _starts(data, begin):
            tokens, end = _tokens(data, start)
            index = np.cumsum([0, *(len(token) + 1 for token in tokens)], dtype=np.uint64)[:_TOKENS]
            wanted = index.astype("<u2").tobytes()
            at = data.find(wanted, end, end + 8 + len(wanted))
            if at >= 0:
                yield tokens, start, at + len(wanted)
                break
        position = data.find(_DIGITS, position + 1)


def _starts(data: bytes, begin: int) -> Iterator[int]:
    """Where token 0 may start: at `begin`, or after it, as markers before it may end in bytes other than 0."""
    limit = data.find(b"\0", begin)
    yield from range(begin, limit if limit >= 0 else begin)


def _tokens(data: bytes, start: int) -> tuple[list[bytes], int]:
    tokens = data[start : start + _TOKENS * 64].split(b"\0", _TOKENS)[:_TOKENS]
    return tokens, start + sum(len(token) + 1 for token in tokens)


def _name_tables(data: bytes, table: int) -> Iterator[tuple[int, int, int]]:
    """(position of num_syms, number of names, position of names) for each set that its markers prove."""
    for markers, longest in _marker_runs(data[:table]):
        for length in (longest, longest - 1, longest - 2):  # what follows may happen to go on ascending
            last = struct.unpack_from("<I", data, markers + 4 * (length - 1))[0]
            if last >= markers:
                continue
            high = markers - last
            low = max(0, high - _MARKED * _LONGEST_NAME)
            low += -low % 4
            counts = np.frombuffer(data, dtype="<u4", count=(high - low) // 4, offset=low)
            fits = (counts > (length - 1) * _MARKED) & (counts <= length * _MARKED)
            for begin in (low + 4 * np.flatnonzero(fits)[::-1]).tolist():
                count = struct.unpack_from("<I", data, begin)[0]
                for first in (begin + 4, begin + 8):
                    if _is_marked(data, first, count, markers, length):
                        yield begin, count, first


def _marker_runs(data: bytes) -> Iterator[tuple[int, int]]:
    """(position, length) of each run of words that begins with 0 and ascends as markers do, longest first."""
    words = np.frombuffer(data, dtype="<u4", count=len(data) // 4)
    steps = np.diff(words.astype(np.int64))
    is_step = (steps >= 2 * _MARKED) & (steps <= _MARKED * _LONGEST_NAME)
    edges = np.diff(np.concatenate(([0], is_step.view(np.int8), [0])))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = ends - begins + 1
    for item in np.argsort(-lengths, kind="stable").tolist():
        if lengths[item] * _MARKED < _LEAST_NAMES:
            return
        if words[begins[item]] == 0:
            yield int(begins[item]) * 4, int(lengths[item])


def _is_marked(data: bytes, first: int, count: int, markers: int, length: int) -> bool:
    """Whether `count` names from `first` put every marker where it is, and end where the markers begin."""
    marks = struct.unpack_from(f"<{length}I", data, markers)
    position = first
    for number in range(count):
        if number % _MARKED == 0 and position - first != marks[number // _MARKED]:
            return False
        if position + 1 >= markers:
            return False
        size = data[position]
        if size & 0x80:
            size = (size & 0x7F | data[position + 1] << 7) + 1
        if not size:
            return False
        position += size + 1
    return 0 <= markers - position < 8 and not any(data[position:markers])


def _expand(data: bytes, first: int, count: int, tokens: list[bytes]) -> list[str]:
    found = []
    position = first
    for _ in range(count):
        size = data[position]
        position += 1
        if size & 0x80:
            size = size & 0x7F | data[position] << 7
            position += 1
        found.append(b"".join([tokens[code] for code in data[position : position + size]]).decode("latin-1"))
        position += size
    return found


def _place_relative(rodata: Section, position: int, count: int) -> Addresses | None:
    offsets = _offsets(rodata.data, position, count)
    if offsets is None:
        return None
    places = np.uint64(rodata.address + position) + np.arange(count, dtype=np.uint64) * np.uint64(4)
    return places + offsets.astype(np.int64).view(np.uint64)


def _based(data: memoryview, position: int, base_position: int, count: int) -> list[tuple[str, Addresses]]:
    offsets = _offsets(data, position, count)
    if offsets is None or base_position < 0 or base_position + 8 > len(data):
        return []
    base = np.uint64(struct.unpack_from("<Q", data, base_position)[0])
    wide = offsets.astype(np.int64)
    percpu = np.where(wide >= 0, wide.view(np.uint64), base + (-1 - wide).view(np.uint64))
    return [("absolute per-CPU", percpu), ("base-relative", base + offsets.view("<u4").astype(np.uint64))]


def _offsets(data: memoryview, position: int, count: int) -> npt.NDArray[np.int32] | None:
    if position < 0 or position + 4 * count > len(data):
        return None
    return np.frombuffer(data, dtype="<i4", count=count, offset=position)
