# SPDX-License-Identifier: MIT
"""The records of one recording by kind and function, and their fields one at a time.

A recording may hold tens of millions of records: what many ask for is found once, fields are read in pieces, and
the file's pages are let go behind them. Nothing here knows what a record means.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.recording.format import NO_FUNCTION, RECORD, Flag, Kind
from pydev.recording.reader import Recording, Records

Slots = npt.NDArray[np.intp]
"""Indexes into a recording's records, ascending."""

_PIECE: Final = 1 << 19
"""Records that are looked at in one go: their pages are 32 MiB of the file."""
_CACHED: Final = 1 << 13
"""Records of which several fields are read before the next: half a MiB, which a processor keeps at hand."""
_MANY: Final = [int(Kind.DMA_WRITE), int(Kind.DMA_READ)]
"""Kinds that there may be millions of records of; the others are kept in memory, together."""
_MOST_KEPT: Final = 1 << 20
"""Records that are kept: 64 MiB."""
_ENGINE_SHIFT: Final = np.uint64(32)
_NONE: Final[Slots] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Transactions:
    """The DMA of one kind and function, in the order of its slots."""

    slots: Slots
    t_ns: npt.NDArray[np.uint64]
    flags: npt.NDArray[np.uint16]
    error: npt.NDArray[np.uint16]
    value: npt.NDArray[np.uint64]
    engine: npt.NDArray[np.uint32]
    """The upper half of `extra`."""

    @property
    def is_blocked(self) -> npt.NDArray[np.bool_]:
        """Which did not reach memory: refused, or without a mapping."""
        return _is_blocked(self.flags)


class EventIndex:
    """Built once in a single pass over the file; never changes."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.records: Records = recording.records
        count = len(self.records)
        self.kind = np.empty(count, dtype=np.uint16)
        self.function = np.empty(count, dtype=np.uint16)
        self.t_ns = np.empty(count, dtype=np.uint64)
        """Every record's time."""
        few: list[Records] = []
        for piece in _pieces(count):
            records = self.records[piece]
            self.kind[piece] = records["kind"]
            self.function[piece] = records["function"]
            self.t_ns[piece] = records["t_ns"]
            few.append(records[~np.isin(self.kind[piece], _MANY)])
            recording.forget()
        self._few_slots, self._few = _kept(self.kind, few)
        self._by_kind = _split(self.kind)
        self._by_function: dict[int, dict[int, Slots]] = {}
        self._together: dict[tuple[tuple[int, ...], int | None], Slots] = {}
        self._transactions: dict[tuple[Kind, int], Transactions] = {}

    @property
    def kinds(self) -> list[int]:
        """The numbers of the kinds that there are records of."""
        return list(self._by_kind)

    def of_number(self, kind: int) -> Slots:
        """The records whose kind has this number, which may be one that nobody knows."""
        return self._by_kind.get(kind, _NONE)

    def of_kind(self, kind: Kind, function: int | None = None) -> Slots:
        """The records of a kind, of one function or of all."""
        slots = self.of_number(int(kind))
        if function is None:
            return slots
        if int(kind) not in self._by_function:
            self._by_function[int(kind)] = {
                owner: slots if len(own) == len(slots) else slots[own]
                for owner, own in _split(self.function[slots]).items()
            }
        return self._by_function[int(kind)].get(function, _NONE)

    def owners(self, kind: Kind) -> list[int]:
        """The functions, by number, that there are records of a kind of."""
        self.of_kind(kind, NO_FUNCTION)
        return list(self._by_function[int(kind)])

    def of_kinds(self, kinds: Iterable[Kind], function: int | None = None) -> Slots:
        """The records of several kinds, in the order of their slots."""
        key = (tuple(sorted(int(kind) for kind in kinds)), function)
        if key not in self._together:
            parts = [self.of_kind(Kind(kind), function) for kind in key[0]]
            parts = [part for part in parts if len(part)]
            self._together[key] = parts[0] if len(parts) == 1 else np.sort(np.concatenate([_NONE, *parts]))
        return self._together[key]

    def column(self, name: str, slots: Slots) -> npt.NDArray[Any]:
        """One field of some records, copied."""
        return self.columns((name,), slots)[0]

    def columns(self, names: Sequence[str], slots: Slots) -> list[npt.NDArray[Any]]:
        """Several fields of some records, copied in one pass over the file."""
        if len(slots) <= len(self._few_slots):
            places = np.searchsorted(self._few_slots[:-1], slots)
            if (self._few_slots[places] == slots).all():
                return [self._few[name][places] for name in names]
        sources = [self.records[name] for name in names]
        if not len(slots) or slots[-1] - slots[0] < _PIECE or not (slots[1:] > slots[:-1]).all():
            return [source[slots] for source in sources]
        values = [np.empty(len(slots), dtype=source.dtype) for source in sources]
        for piece in _pieces_of(slots, _PIECE):
            for cached in _pieces_of(slots[piece], _CACHED):
                part = slice(piece.start + cached.start, piece.start + cached.stop)
                rows = slots[part]
                for source, column in zip(sources, values, strict=True):
                    column[part] = source[rows]
            self.recording.forget()
        return values

    def transactions(self, kind: Kind, function: int) -> Transactions:
        """A function's DMA of a kind, with what most rules ask of it."""
        key = (kind, function)
        if key not in self._transactions:
            slots = self.of_kind(kind, function)
            flags, error, value, extra = self.columns(("flags", "error", "value", "extra"), slots)
            engine = (extra >> _ENGINE_SHIFT).astype(np.uint32)
            self._transactions[key] = Transactions(slots, self.t_ns[slots], flags, error, value, engine)
        return self._transactions[key]

    def is_blocked(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which of some transactions did not reach memory: refused, or without a mapping."""
        return _is_blocked(self.column("flags", slots))


def _is_blocked(flags: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    refused: npt.NDArray[np.bool_] = (flags & np.uint16(int(Flag.BLOCKED | Flag.FAULT))) != 0
    return refused


def _pieces(count: int) -> Iterator[slice]:
    for begin in range(0, count, _PIECE):
        yield slice(begin, begin + _PIECE)


def _pieces_of(slots: Slots, size: int) -> Iterator[slice]:
    """The slots that are in each piece of so many records."""
    edges = np.arange(int(slots[0]) + size, int(slots[-1]) + 1, size)
    cuts = [0, *np.searchsorted(slots, edges).tolist(), len(slots)]
    for begin, end in pairwise(cuts):
        if begin < end:
            yield slice(begin, end)


def _kept(kinds: npt.NDArray[np.uint16], few: list[Records]) -> tuple[Slots, Records]:
    """The slots of the records that are kept, and a copy of these; none where they are too many."""
    if not few or sum(map(len, few)) > _MOST_KEPT:
        return _NONE, np.empty(0, dtype=RECORD)
    return np.flatnonzero(~np.isin(kinds, _MANY)), np.concatenate(few)


def _split(numbers: npt.NDArray[np.uint16]) -> dict[int, Slots]:
    """Where each number stands, ascending."""
    counts = np.bincount(numbers)
    present = np.flatnonzero(counts)
    if not len(present):
        return {}
    if len(present) == 1:
        return {int(present[0]): np.arange(len(numbers), dtype=np.intp)}
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.cumsum(counts[present])[:-1])
    return dict(zip(present.tolist(), parts, strict=True))
