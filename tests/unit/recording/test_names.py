# SPDX-License-Identifier: MIT
import pytest

from pydev.recording.functions import RegisterEntry
from pydev.recording.names import RegisterNames

NAMES = RegisterNames(
    {
        name: RegisterEntry(name, offset, width, {})
        for name, offset, width in (
            ("COMMAND", 4, 2), ("STATUS", 6, 2), ("BAR0", 0x10, 4), ("BAR64", 0x10, 8),
        )
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("offset", "width", "words"),
    [
        (4, 2, "COMMAND (@0x4)"),
        (4, 4, "COMMAND to STATUS (@0x4)"),
        (4, None, "COMMAND (@0x4)"),
        (5, 1, "COMMAND (@0x5)"),
        (0x10, 4, "BAR0 (@0x10)"),  # the smaller of two
        (0x14, 4, "BAR64 (@0x14)"),
        (0x40, 2, "@0x40"),
    ],
)
def test_an_access_has_the_names_of_the_registers_under_it(
    offset: int, width: int | None, words: str
) -> None:
    assert NAMES.access(offset, width) == words
