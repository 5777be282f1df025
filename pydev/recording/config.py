# SPDX-License-Identifier: MIT
"""What a register held, and when: values, changes, histories; and an endpoint's, from the server's own record.

A value is a set of possibilities: one member where the record decides, several where it leaves something open.
Bridges' registers are followed in `bits`, with the TCG plugin's writes, and in `traced`, without.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from pydev.recording.attribution import Attribution
from pydev.recording.functions import FieldEntry, RegisterEntry
from pydev.recording.names import RegisterNames

Values = frozenset[int]

UNKNOWN: Final[Values] = frozenset()
"""Nothing is known; never produced by a write."""
_MOST_POSSIBILITIES: Final = 64
_ANY: Final[Values] = frozenset(range(256))


@dataclass(frozen=True, slots=True)
class Change:
    """One event that touched a register, whether or not its value moved."""

    t_ns: int
    before: Values
    after: Values
    width: int | None
    """Bytes of the access; None where the trace does not tell, or where no access was the cause."""
    cause: str
    """"write", "device" (by itself, a reset included), "trace", "bus reset", "machine reset"; or "read": a
    read shows a value that no recorded write explains, so when and by whom it came is not known."""
    writer: Attribution | None = None
    """Who wrote it, or the bridge's control bit that reset it, where the TCG plugin has seen that."""


@dataclass(frozen=True, slots=True)
class History:
    """A register's value over time."""

    register: RegisterEntry
    initial: Values
    changes: tuple[Change, ...]

    def at(self, t_ns: int) -> Values:
        """What it held at a moment, an event of that very moment included."""
        count = bisect_right(self.changes, t_ns, key=lambda change: change.t_ns)
        return self.changes[count - 1].after if count else self.initial

    def between(self, begin_ns: int, end_ns: int) -> tuple[Change, ...]:
        """The changes after `begin_ns` and not after `end_ns`."""
        first = bisect_right(self.changes, begin_ns, key=lambda change: change.t_ns)
        last = bisect_right(self.changes, end_ns, key=lambda change: change.t_ns)
        return self.changes[first:last]


class Open(frozenset[int]):
    """More possibilities than are listed: empty as a set, but the bits that are known can be asked for."""

    value: int
    known: int
    """Mask of the bits that `value` holds for certain."""

    def __new__(cls, value: int, known: int) -> "Open":
        """Nothing is listed."""
        made = super().__new__(cls)
        made.value, made.known = value, known
        return made


def masked(value: int, known: int, bits: int) -> Values:
    """Every number of so many bits that has the known bits of a value; Open where these are too many."""
    unknown = [1 << n for n in range(bits) if not known >> n & 1]
    if 1 << len(unknown) > _MOST_POSSIBILITIES:
        return Open(value & known, known)
    found = {value & known}
    for bit in unknown:
        found |= {number | bit for number in found}
    return frozenset(found)


def field_values(values: Values, entry: FieldEntry | None) -> Values:
    """What a field of the register may hold; the whole register without a field."""
    if entry is None:
        return values
    if isinstance(values, Open):
        return masked(entry.extract(values.value), entry.extract(values.known), entry.bits)
    return frozenset(entry.extract(value) for value in values)


def known(values: Values) -> int | None:
    """The value, where there is exactly one possibility."""
    return next(iter(values)) if len(values) == 1 else None


@dataclass(slots=True)
class _Entry:
    """A byte's state from an event on."""

    t_ns: int
    order: int
    values: Values
    width: int | None
    cause: str
    writer: Attribution | None = None
    was_read: bool = False
    """A read after the event has shown the byte."""


class ByteLog:
    """The states of the bytes of one config space, in the order of their events."""

    def __init__(self, image: bytes | None, unknown: frozenset[int] = frozenset()) -> None:
        """`unknown` are bytes whose power-on value nobody declares: a read before any write tells it."""
        self._image = image
        self._unknown = unknown
        self._seen: dict[int, Values] = {}
        self._log: dict[int, list[_Entry]] = {}
        self._order = 0

    def initial(self, offset: int) -> Values:
        """The byte at power-on; those of bridges that are followed here are 0 (QEMU hw/pci/pci_bridge.c)."""
        if offset in self._unknown:
            return self._seen.get(offset, _ANY)
        if self._image is None:
            return frozenset((0,))
        return frozenset((self._image[offset],)) if offset < len(self._image) else UNKNOWN

    def now(self, offset: int) -> Values:
        """The byte after the latest event."""
        log = self._log.get(offset)
        return log[-1].values if log else self.initial(offset)

    def put(
        self,
        t_ns: int,
        offset: int,
        states: Sequence[Values],
        width: int | None,
        cause: str,
        writer: Attribution | None = None,
    ) -> None:
        """One event that left `states` in the bytes from `offset` on."""
        self._order += 1
        for position, values in enumerate(states):
            self._log.setdefault(offset + position, []).append(
                _Entry(t_ns, self._order, values, width, cause, writer)
            )

    def narrow(self, offset: int, value: int) -> bool:
        """A read has shown the byte: settle what its last event left open; False where contradicted."""
        log = self._log.get(offset)
        if not log:
            is_possible = value in self.initial(offset)
            if is_possible and offset in self._unknown:
                self._seen[offset] = frozenset((value,))
            return is_possible
        if value not in log[-1].values:
            return False
        log[-1].values = frozenset((value,))
        log[-1].was_read = True
        return True

    def did_not_take(self, offset: int, value: int) -> bool:
        """Whether `value`, read back, is the last write less some bits, as of read-only ones; then it is."""
        log = self._log.get(offset, [])
        if not log or log[-1].cause != "trace" or log[-1].was_read:
            return False
        before = log[-2].values if len(log) > 1 else self.initial(offset)
        # Each bit is that of the write or the one before: where these agree, there is no choice.
        if not any(not (value ^ old) & ~(new ^ old) & 0xFF for old in before for new in log[-1].values):
            return False
        log[-1].values = frozenset((value,))
        log[-1].was_read = True
        return True

    def reset(self, t_ns: int, cause: str) -> None:
        """Every byte returns to its power-on value."""
        self._order += 1
        for offset, log in self._log.items():
            log.append(_Entry(t_ns, self._order, self.initial(offset), None, cause))

    def history(self, register: RegisterEntry) -> History:
        """The bytes of one register, joined."""
        span = range(register.offset, register.offset + register.width)
        events: dict[int, dict[int, _Entry]] = {}
        for offset in span:
            for entry in self._log.get(offset, ()):
                events.setdefault(entry.order, {})[offset] = entry
        state = {offset: self.initial(offset) for offset in span}
        initial = before = _join([state[offset] for offset in span])
        changes = []
        for order in sorted(events):
            touched = events[order]
            state |= {offset: entry.values for offset, entry in touched.items()}
            after = _join([state[offset] for offset in span])
            entry = next(iter(touched.values()))
            changes.append(Change(entry.t_ns, before, after, entry.width, entry.cause, entry.writer))
            before = after
        return History(register, initial, tuple(changes))


def _join(states: Sequence[Values]) -> Values:
    count = 1
    for values in states:
        count *= len(values)
    if not 0 < count <= _MOST_POSSIBILITIES:
        return UNKNOWN
    return frozenset(sum(byte << 8 * n for n, byte in enumerate(choice)) for choice in product(*states))


def split(value: int, size: int) -> list[Values]:
    """An integer's bytes, each certain."""
    return [frozenset((value >> 8 * n & 0xFF,)) for n in range(size)]


class ServerShadow:
    """An endpoint's config space, from REGION_WRITE and CONFIG_UPDATE."""

    def __init__(self, image: bytes | None, names: RegisterNames | None = None) -> None:
        self.log = ByteLog(image)
        self.problems: list[str] = []
        self._names = names or RegisterNames({})

    def event(
        self,
        t_ns: int,
        offset: int,
        size: int,
        before: int,
        after: int,
        *,
        by_guest: bool,
        writer: Attribution | None = None,
    ) -> None:
        """One event; `before` must be what the events so far leave, else one of them is missing."""
        derived = known(_join([self.log.now(offset + n) for n in range(size)]))
        if derived is not None and derived != before:
            self.problems.append(
                f"config write missing: {self._names.access(offset, size)} held {before:#x} where the record "
                f"derives {derived:#x}"
            )
        width = size if by_guest else None
        cause = "write" if by_guest else "device"
        self.log.put(t_ns, offset, split(after, size), width, cause, writer)

    def history(self, register: RegisterEntry) -> History:
        """One register's values over time."""
        return self.log.history(register)


def least_width(value: int) -> int:
    """The fewest bytes an access with this value can have had: 1, 2 or 4."""
    return 1 if value <= 0xFF else 2 if value <= 0xFFFF else 4


def possible_widths(offset: int, value: int) -> tuple[int, ...]:
    """The widths that alignment and magnitude leave, smallest first (config accesses are aligned)."""
    widths = (1, *((2,) if offset % 2 == 0 else ()), *((4,) if offset % 4 == 0 else ()))
    return tuple(width for width in widths if width >= least_width(value)) or (least_width(value),)
