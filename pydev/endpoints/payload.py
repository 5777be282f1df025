# SPDX-License-Identifier: MIT
"""What a stream writes: 64 bytes a slot, eight 64-bit little-endian words, all of them known to the record.

    0  device time in ns (the record's t_ns)      4  sequence * PHI mod 2^64
    1  generation | engine << 32 (extra)          5  ~sequence
    2  slot index in the ring                     6  words 0 to 5, xored (aux)
    3  iova of the slot (address)                 7  sequence, stored last (value)

Sequence numbers start at 1 and a refused slot uses its number up. The C engine writes the same; a test
compares both. `numpy` is imported where it is used: an endpoint is built without it.
"""

import struct
from collections.abc import Sequence
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Final

from pydev.units import Iova

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]

SLOT_BYTES: Final = 64
SLOT_WORDS: Final = 8
PAGE_BYTES: Final = 4096
SLOTS_PER_PAGE: Final = PAGE_BYTES // SLOT_BYTES
PHI: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1
_SLOT: Final = struct.Struct("<8Q")


def slot_index(sequence: int, slot_count: int) -> int:
    """Which slot of the ring a sequence number goes to."""
    return (sequence - 1) % slot_count


def slot_iova(pages: Sequence[Iova], slot: int) -> Iova:
    """The bus address of a slot."""
    return Iova(pages[slot // SLOTS_PER_PAGE] + SLOT_BYTES * (slot % SLOTS_PER_PAGE))


def slot_bytes(t_ns: int, *, generation: int, engine: int, slot: int, iova: int, sequence: int) -> bytes:
    """One slot's 64 bytes."""
    words = (t_ns, generation | engine << 32, slot, iova, sequence * PHI & _MASK, sequence ^ _MASK)
    return _SLOT.pack(*words, reduce(xor, words), sequence)


def is_whole(slot: bytes) -> bool:
    """Whether 64 bytes are a slot as it was written, not half of one nor something else."""
    words: tuple[int, ...] = _SLOT.unpack(slot)
    sequence = words[7]
    is_derived = words[4:6] == (sequence * PHI & _MASK, sequence ^ _MASK)
    return sequence != 0 and is_derived and words[6] == reduce(xor, words[:6])


def slot_words(
    t_ns: "Words", extra: "Words", address: "Words", sequence: "Words", slot_count: int
) -> "Words":
    """The slots of many records at once, shape (n, 8): arrays of n as the record's fields hold them."""
    import numpy as np

    number = np.asarray(sequence, dtype=np.uint64)
    words = np.empty((len(number), SLOT_WORDS), dtype=np.uint64)
    words[:, 0] = t_ns
    words[:, 1] = extra
    words[:, 2] = (number - np.uint64(1)) % np.uint64(slot_count)
    words[:, 3] = address
    words[:, 4] = number * np.uint64(PHI)
    words[:, 5] = ~number
    words[:, 7] = number
    words[:, 6] = np.bitwise_xor.reduce(words[:, :6], axis=1)
    return words


def slot_checksums(
    t_ns: "Words", extra: "Words", address: "Words", sequence: "Words", slot_count: int
) -> "Words":
    """Word 6 of the slots of many records at once: all that their record holds of it."""
    import numpy as np

    words = t_ns ^ extra
    words ^= (sequence - np.uint64(1)) % np.uint64(slot_count)
    words ^= address
    words ^= sequence * np.uint64(PHI)
    words ^= ~sequence
    return words


def ring_words(
    t_ns: "Words", extra: "Words", address: "Words", sequence: "Words", slot_count: int
) -> "Words":
    """What the ring holds after these writes, shape (slot_count, 8), in ring order; 0 where none was made.

    The arrays are in the order of the writes, without the refused ones: the last write to a slot counts.
    `ring_words(...).astype("<u8").tobytes()` are the bytes of the pages, one after the other.
    """
    import numpy as np

    ring = np.zeros((slot_count, SLOT_WORDS), dtype=np.uint64)
    words = slot_words(t_ns, extra, address, sequence, slot_count)
    slots = words[:, 2].astype(np.int64)
    _, last_from_end = np.unique(slots[::-1], return_index=True)
    last = len(slots) - 1 - last_from_end
    ring[slots[last]] = words[last]
    return ring
