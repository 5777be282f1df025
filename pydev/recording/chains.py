# SPDX-License-Identifier: MIT
"""Chains of records: a head whose `size` bytes lie in the CONTINUATION records of the slots just after it.

A writer claims all slots of a chain at once, so nothing of another's can lie between them: a chain that is short,
a continuation without a head, or one that carries another time or function than its head, is a damaged record.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from pydev.recording.event_index import EventIndex, Slots
from pydev.recording.format import (
    CHAINED_KINDS,
    CONTINUATION_BYTES,
    CONTINUATION_OFFSET,
    RECORD_BYTES,
    Kind,
)

_MOST_NAMED: Final = 8


class Chains:
    """Every chain of a recording, found and checked at once; `problems` says what is wrong with which."""

    def __init__(self, index: EventIndex) -> None:
        self._index = index
        self._continuations = index.of_kind(Kind.CONTINUATION)
        heads = index.of_kinds(CHAINED_KINDS)
        firsts, counts = self._spans(heads)
        # Of a whole chain the slots just after its head are continuations, from the first to the last.
        is_whole = np.searchsorted(self._continuations, heads + 1 + counts) - firsts == counts
        self.problems = [f"the chain of records from slot {slot} is cut short" for slot in heads[~is_whole]]
        if int(counts.sum()) != len(self._continuations):
            self.problems.append("chained records and their continuations do not add up")
        self.problems += self._foreign(heads[is_whole], firsts[is_whole], counts[is_whole])
        del self.problems[_MOST_NAMED:]
        self._damaged = frozenset(heads[~is_whole].tolist())

    def _spans(self, heads: Slots) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which continuation is a head's first, and how many it has to have."""
        sizes = self._index.column("size", heads).astype(np.int64)
        return np.searchsorted(self._continuations, heads + 1), -(-sizes // CONTINUATION_BYTES)

    def _foreign(
        self, heads: Slots, firsts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
    ) -> list[str]:
        """Continuations that another event's head has left there."""
        total = int(counts.sum())
        places = np.repeat(firsts - (np.cumsum(counts) - counts), counts) + np.arange(total)
        owners, parts = np.repeat(heads, counts), self._continuations[places]
        times, functions = self._index.t_ns, self._index.function
        wrong = (times[owners] != times[parts]) | (functions[owners] != functions[parts])
        return [f"slot {slot} continues another record than the one before it" for slot in parts[wrong]]

    def bytes_of(self, heads: Slots) -> list[bytes | None]:
        """The bytes of some chains; None for one that is cut short."""
        firsts, counts = self._spans(heads)
        sizes = self._index.column("size", heads).astype(np.int64)
        found: list[bytes | None] = []
        rows = (heads.tolist(), firsts.tolist(), counts.tolist(), sizes.tolist())
        for head, first, count, size in zip(*rows, strict=True):
            if head in self._damaged:
                found.append(None)
                continue
            parts = self._index.records[self._continuations[first : first + count]]
            payload = parts.view(np.uint8).reshape(-1, RECORD_BYTES)[:, CONTINUATION_OFFSET:]
            found.append(payload.tobytes()[:size])
        return found
