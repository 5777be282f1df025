# SPDX-License-Identifier: MIT
import pytest

from pydev.testkit import Memory


def test_what_was_written_is_read() -> None:
    memory = Memory()
    memory.map(0x1000, 0x100)

    assert memory.write(0x1010, b"abc")
    assert memory.read(0x100F, 5) == b"\0abc\0"


@pytest.mark.parametrize(("iova", "size"), [(0xFFF, 2), (0x10FF, 2), (0x2000, 1), (0x1000, 0x101)])
def test_an_access_that_leaves_its_range_hits_nothing(iova: int, size: int) -> None:
    memory = Memory()
    memory.map(0x1000, 0x100)

    assert memory.read(iova, size) is None
    assert not memory.write(iova, b"x" * size)
    assert memory.read(0x1000, 0x100) == bytes(0x100)


def test_overlapping_ranges_are_refused() -> None:
    memory = Memory()
    memory.map(0x1000, 0x100)

    with pytest.raises(ValueError, match=r"0x10ff\+0x1 overlaps what is mapped at 0x1000\+0x100"):
        memory.map(0x10FF, 1)


def test_unmapped_memory_is_gone() -> None:
    memory = Memory()
    memory.unmap(memory.map(0x1000, 0x100))

    assert memory.read(0x1000, 1) is None
