# SPDX-License-Identifier: MIT
"""ORC tables of every version since 6.1, made one."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest

from qemu_plugin.attribution.elf import Elf, Section
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.orc import Base, Type, parse

PLACE = 0xFFFF_FFFF_8300_0000
TEXT = 0xFFFF_FFFF_8100_0000

HASH_6_5 = "fe5d32bf581bd63b2ca9a5c65ba5a625eab3fe24"  # Debian's 6.12 to 7.0
HASH_7_1 = "137c36ad7627c4dd55932176bb0ecdbd5041fc82"  # 7.1 to 7.3

# What each version's bits say for the same six entries: a call's frame by SP, one by BP with BP saved, an
# interrupt's registers, an iret frame, the end of the stack, and nothing known.
FRAMES = [(8, 0), (16, -16), (0, 0), (-8, 0), (0, 0), (0, 0)]
OF_6_1 = [5, 4 | 1 << 4, 5 | 1 << 8, 5 | 2 << 8, 1 << 10, 0]
OF_6_3 = [5, 4 | 1 << 4, 5 | 1 << 8 | 1 << 10, 5 | 2 << 8 | 1 << 10, 1 << 11, 0]
OF_6_5 = [5 | 2 << 8, 4 | 1 << 4 | 2 << 8, 5 | 3 << 8 | 1 << 11, 5 | 4 << 8 | 1 << 11, 1 << 8, 0]
OF_7_1 = [3 | 2 << 8, 4 | 8 << 4 | 2 << 8, 3 | 3 << 8 | 1 << 11, 3 | 4 << 8 | 1 << 11, 1 << 8, 0]
MEANING = [
    (8, 0, Base.SP, Base.UNDEFINED, Type.CALL, 0),
    (16, -16, Base.BP, Base.PREV_SP, Type.CALL, 0),
    (0, 0, Base.SP, Base.UNDEFINED, Type.REGS, 1),
    (-8, 0, Base.SP, Base.UNDEFINED, Type.REGS_PARTIAL, 1),
    (0, 0, Base.UNDEFINED, Base.UNDEFINED, Type.END_OF_STACK, 0),
    (0, 0, Base.UNDEFINED, Base.UNDEFINED, Type.UNDEFINED, 0),
]
LAYOUTS = {"6.1": (OF_6_1, None), "6.3": (OF_6_3, None), "6.5": (OF_6_5, HASH_6_5), "7.1": (OF_7_1, HASH_7_1)}


def elf(bits: Sequence[int], digest: str | None, order: Sequence[int] | None = None) -> Elf:
    """A kernel whose entry number n is for the text from 256 * n on."""
    numbers = range(len(bits)) if order is None else order
    places = b"".join(
        struct.pack("<i", TEXT + 256 * number - PLACE - 4 * index) for index, number in enumerate(numbers)
    )
    entries = b"".join(struct.pack("<hhH", *FRAMES[number % len(FRAMES)], bits[number]) for number in numbers)
    parts = {".orc_unwind_ip": places, ".orc_unwind": entries}
    if digest is not None:
        parts[".orc_header"] = bytes.fromhex(digest)
    return Elf({name: Section(PLACE, memoryview(data), is_code=False) for name, data in parts.items()}, {})


def functions(*offsets: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return np.array([TEXT + offset for offset in offsets], dtype=np.uint64)


@pytest.mark.parametrize("version", LAYOUTS)
def test_each_versions_bits_mean_the_same_frames(version: str) -> None:
    bits, digest = LAYOUTS[version]
    orc = parse(elf(bits, digest), functions(0, 4))
    assert orc is not None
    assert [orc.find(TEXT + 256 * number + 7) for number in range(6)] == MEANING


def test_an_entry_holds_from_its_address_to_the_next_ones() -> None:
    orc = parse(elf(OF_7_1, HASH_7_1), functions(0))
    assert orc is not None
    assert orc.find(TEXT + 255) == MEANING[0]
    assert orc.find(TEXT + 256) == MEANING[1]
    assert orc.find(TEXT - 1) is None


def test_a_table_that_is_not_sorted_is_sorted() -> None:
    orc = parse(elf(OF_7_1, HASH_7_1, order=[3, 0, 5, 1, 4, 2]), functions(0))
    assert orc is not None
    assert [orc.find(TEXT + 256 * number) for number in range(6)] == MEANING


def test_a_layout_that_nobody_has_described_is_refused() -> None:
    with pytest.raises(AttributionError, match="an ORC layout of a version that is not known \\(00000000"):
        parse(elf(OF_7_1, "00" * 20), functions(0))


@pytest.mark.parametrize(("bits", "digest"), [(OF_7_1, HASH_6_5), (OF_6_5, HASH_7_1), (OF_6_5, None)])
def test_tables_that_are_not_of_their_version_are_refused(bits: Sequence[int], digest: str | None) -> None:
    with pytest.raises(AttributionError, match="only 0% of the functions begin as the ORC tables should say"):
        parse(elf(bits, digest), functions(0, 4, 8))


def test_tables_of_different_lengths_are_refused() -> None:
    kernel = elf(OF_7_1, HASH_7_1)
    kernel.sections[".orc_unwind"] = Section(PLACE, kernel.sections[".orc_unwind"].data[:-6], is_code=False)
    with pytest.raises(AttributionError, match="6 ORC addresses and 5 ORC entries"):
        parse(kernel, functions(0))


def test_a_kernel_without_tables_has_none() -> None:
    assert parse(Elf({}, {}), functions(0)) is None
