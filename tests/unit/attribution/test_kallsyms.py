# SPDX-License-Identifier: MIT
"""Every layout of kallsyms' tables from 6.1 on, as scripts/kallsyms.c of that time wrote them."""

import struct
from collections.abc import Callable, Sequence

import pytest

from qemu_plugin.attribution import kallsyms
from qemu_plugin.attribution.elf import Section
from qemu_plugin.attribution.testkit import Tables, tables

RODATA = 0xFFFF_FFFF_8200_0000
TEXT = 0xFFFF_FFFF_8100_0000
COUNT = 3000
NOISE = bytes(range(1, 250)) * 40 + b"\0" + b"0\0" * 20 + struct.pack("<64I", *range(0, 64 * 1000, 1000))
"""Read-only data with a little of everything that the tables are found by."""

NAMES = ["fixed_percpu_data", *(f"function_{number:04}" for number in range(COUNT - 2)), "x" * 300]
TYPES = "A" + "t" * (COUNT - 2) + "T"
ADDRESSES = [0x40, *(TEXT + 16 * number for number in range(COUNT - 1))]


def aligned(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)


def joined(parts: Sequence[bytes], alignment: int) -> bytes:
    return b"".join(aligned(part, alignment) for part in parts)


def common(table: Tables) -> list[bytes]:
    return [struct.pack("<I", COUNT), table.names, table.markers]


def percpu(addresses: Sequence[int]) -> bytes:
    return struct.pack(f"<{COUNT}i", *(a if a < 1 << 31 else TEXT - 1 - a for a in addresses))


SEQUENCES = bytes(3 * COUNT)  # kallsyms_seqs_of_names, from 6.2
BASE = struct.pack("<Q", TEXT)


def of_6_1(table: Tables, place: int) -> bytes:
    tail = [*common(table), table.tokens, table.index]
    return joined([percpu(ADDRESSES), BASE, *tail], 8)


def of_6_2(table: Tables, place: int) -> bytes:
    tail = [*common(table), SEQUENCES, table.tokens, table.index]
    return joined([percpu(ADDRESSES), BASE, *tail], 8)


def of_6_4(table: Tables, place: int) -> bytes:
    return joined([*common(table), table.tokens, table.index, percpu(ADDRESSES), BASE, SEQUENCES], 8)


def of_6_15(table: Tables, place: int) -> bytes:
    offsets = struct.pack(f"<{COUNT}I", 0, *(a - TEXT for a in ADDRESSES[1:]))
    return joined([*common(table), table.tokens, table.index, offsets, BASE, SEQUENCES], 8)


def of_7_0(table: Tables, place: int, alignment: int = 4) -> bytes:
    before = joined([*common(table), table.tokens, table.index], alignment)
    begin = place + len(before)
    offsets = [(a if index else TEXT) - begin - 4 * index for index, a in enumerate(ADDRESSES)]
    return before + struct.pack(f"<{COUNT}i", *offsets) + SEQUENCES


def section(layout: Callable[[Tables, int], bytes]) -> Section:
    table = tables([letter + name for letter, name in zip(TYPES, NAMES, strict=True)])
    noise = aligned(NOISE, 8)
    data = noise + layout(table, RODATA + len(noise)) + NOISE
    return Section(RODATA, memoryview(data), is_code=False)


LAYOUTS = {"6.1": of_6_1, "6.2": of_6_2, "6.4": of_6_4, "6.15": of_6_15, "7.0": of_7_0}


@pytest.mark.parametrize("version", LAYOUTS)
def test_names_types_and_addresses_are_read_from_each_kernels_layout(version: str) -> None:
    rodata = section(LAYOUTS[version])
    found = kallsyms.names(rodata)
    assert found is not None
    assert list(found.names) == NAMES
    assert found.types == TYPES
    readings = [addresses.tolist()[1:] for _, addresses, _ in kallsyms.addresses(rodata, found)]
    assert ADDRESSES[1:] in readings


def test_per_cpu_addresses_are_absolute_where_the_kernel_had_them_so() -> None:
    rodata = section(of_6_4)
    found = kallsyms.names(rodata)
    assert found is not None
    readings = {encoding: addresses.tolist() for encoding, addresses, _ in kallsyms.addresses(rodata, found)}
    assert readings["absolute per-CPU"] == ADDRESSES


@pytest.mark.parametrize("version", LAYOUTS)
@pytest.mark.parametrize(("part", "position"), [("names", 0), ("markers", 24), ("index", 300)])
def test_tables_that_contradict_each_other_are_none(version: str, part: str, position: int) -> None:
    table = tables([letter + name for letter, name in zip(TYPES, NAMES, strict=True)])
    damaged = bytearray(getattr(table, part))
    damaged[position] ^= 0x01
    data = bytes(section(LAYOUTS[version]).data).replace(getattr(table, part), bytes(damaged))
    assert kallsyms.names(Section(RODATA, memoryview(data), is_code=False)) is None


def test_data_without_tables_has_none() -> None:
    for data in (b"", NOISE, NOISE[3:]):
        assert kallsyms.names(Section(RODATA, memoryview(data), is_code=False)) is None


def test_tables_at_the_very_end_of_a_section_are_read_or_left_and_never_beyond() -> None:
    data = bytes(section(of_7_0).data)
    for cut in (len(NOISE), len(NOISE) + len(SEQUENCES) + 8, len(NOISE) + len(SEQUENCES) + 4 * COUNT + 8):
        rodata = Section(RODATA, memoryview(data[:-cut]), is_code=False)
        found = kallsyms.names(rodata)
        if found is not None:
            for _, addresses, end in kallsyms.addresses(rodata, found):
                assert len(addresses) == COUNT
                assert end <= len(rodata.data)
