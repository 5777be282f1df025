# SPDX-License-Identifier: MIT
"""Accesses wider than a register, as naturally aligned ones that a model knows."""

from collections.abc import Callable, Iterator

PIECE_BYTES_MAX = 4


def pieces(offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and size of naturally aligned accesses of 4, 2 and 1 bytes that make up the whole."""
    end = offset + size
    while offset < end:
        piece = PIECE_BYTES_MAX
        while offset % piece or offset + piece > end:
            piece //= 2
        yield offset, piece
        offset += piece


def read_wide(read: Callable[[int, int, int], int], region: int, offset: int, size: int) -> bytes:
    """The bytes that the pieces' reads give."""
    return b"".join(
        (read(region, at, piece) & ((1 << 8 * piece) - 1)).to_bytes(piece, "little")
        for at, piece in pieces(offset, size)
    )


def write_wide(write: Callable[[int, int, int, int], None], region: int, offset: int, data: bytes) -> None:
    """Write the pieces in ascending order."""
    for at, piece in pieces(offset, len(data)):
        start = at - offset
        write(region, at, piece, int.from_bytes(data[start : start + piece], "little"))
