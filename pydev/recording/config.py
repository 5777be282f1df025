# SPDX-License-Identifier: MIT
"""What a register held, and when: from the server's own record for endpoints, from QEMU's trace for bridges.

A value is a set of possibilities: one member where the record decides, several where the trace (which has no
width) leaves it open. Later reads of the guest narrow earlier ambiguity; a read that contradicts what is
derived is a missing write, reported as a problem for the bytes that hold what is written to them, and as a
change that no write explains for those of capabilities.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from pydev.recording.functions import FieldEntry, RegisterEntry

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


def field_values(values: Values, entry: FieldEntry | None) -> Values:
    """What a field of the register may hold; the whole register without a field."""
    return values if entry is None else frozenset(entry.extract(value) for value in values)


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

    def put(self, t_ns: int, offset: int, states: Sequence[Values], width: int | None, cause: str) -> None:
        """One event that left `states` in the bytes from `offset` on."""
        self._order += 1
        for position, values in enumerate(states):
            self._log.setdefault(offset + position, []).append(
                _Entry(t_ns, self._order, values, width, cause)
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
            changes.append(Change(entry.t_ns, before, after, entry.width, entry.cause))
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

    def __init__(self, image: bytes | None) -> None:
        self.log = ByteLog(image)
        self.problems: list[str] = []

    def event(self, t_ns: int, offset: int, size: int, before: int, after: int, *, by_guest: bool) -> None:
        """One event; `before` must be what the events so far leave, else one of them is missing."""
        derived = known(_join([self.log.now(offset + n) for n in range(size)]))
        if derived is not None and derived != before:
            self.problems.append(
                f"config write missing: @{offset:#x} held {before:#x} where the record derives {derived:#x}"
            )
        width = size if by_guest else None
        self.log.put(t_ns, offset, split(after, size), width, "write" if by_guest else "device")


# PCI-to-PCI Bridge 1.2, 3.2: the bytes that rules judge and that hold what is written to them.
COMMAND_LOW: Final = 0x04
BUS_NUMBERS: Final = range(0x18, 0x1B)
BRIDGE_CONTROL_LOW: Final = 0x3E
FOLLOWED: Final = frozenset((COMMAND_LOW, *BUS_NUMBERS, BRIDGE_CONTROL_LOW))
_BUS_MASTER: Final = 1 << 2
_BUS_RESET: Final = 1 << 6


FOLLOWED_REGISTERS: Final = ("ACS_CONTROL", "DEVCTL", "DEVCTL2", "LNKCTL", "LNKCTL2", "PMCSR")
"""Capability registers of bridges that rules judge as well. Their power-on values and their read-only bits are
not known beforehand."""


@dataclass(frozen=True, slots=True)
class TraceAccess:
    """A trace line of a bridge: no width, unless what is around it tells."""

    t_ns: int
    is_write: bool
    offset: int
    value: int
    width: int | None = None
    """4 for a line of a dump: a run of reads of adjoining dwords (a smaller width would leave holes)."""

    def widths(self) -> tuple[int, ...]:
        """The widths it can have had, smallest first."""
        return possible_widths(self.offset, self.value) if self.width is None else (self.width,)


def least_width(value: int) -> int:
    """The fewest bytes an access with this value can have had: 1, 2 or 4."""
    return 1 if value <= 0xFF else 2 if value <= 0xFFFF else 4


def possible_widths(offset: int, value: int) -> tuple[int, ...]:
    """The widths that alignment and magnitude leave, smallest first (config accesses are aligned)."""
    widths = (1, *((2,) if offset % 2 == 0 else ()), *((4,) if offset % 4 == 0 else ()))
    return tuple(width for width in widths if width >= least_width(value)) or (least_width(value),)


class TraceShadow:
    """A bridge's followed bytes, from the trace alone.

    A write's width is inferred from the read of the same offset just before it (the kernel's
    read-modify-write): what that read's value rules out is ruled out; else every width stays possible.
    `registers` are bytes of capabilities (FOLLOWED_REGISTERS).
    """

    def __init__(self, registers: Iterable[int] = ()) -> None:
        self._registers = frozenset(registers) - FOLLOWED
        self.log = ByteLog(None, self._registers)
        self.problems: list[str] = []
        self.bus_resets: list[int] = []
        """When a secondary bus reset began: what is below returns to power-on."""
        self._read_widths: tuple[int, tuple[int, ...]] | None = None

    def access(self, access: TraceAccess) -> None:
        """One trace line, in the trace's order."""
        if access.is_write:
            self._write(access)
        else:
            self._read(access)

    def _read(self, access: TraceAccess) -> None:
        widths = access.widths()
        self._read_widths = (access.offset, widths)
        for position in range(widths[0]):
            offset = access.offset + position
            byte = access.value >> 8 * position & 0xFF
            if offset in self._registers:
                if not self.log.narrow(offset, byte) and not self.log.did_not_take(offset, byte):
                    self.log.put(access.t_ns, offset, [frozenset((byte,))], None, "read")
                continue
            if offset not in FOLLOWED or self._agrees(offset, byte):
                continue
            derived = "/".join(f"{value:#x}" for value in sorted(self.log.now(offset)))
            self.problems.append(f"a read of @{offset:#x} shows {byte:#x} where the trace derives {derived}")
            self.log.put(access.t_ns, offset, [frozenset((byte,))], None, "read")

    def _agrees(self, offset: int, byte: int) -> bool:
        if self.log.narrow(offset, byte):
            return True
        # COMMAND's other bits are partly read-only in a bridge: only Bus Master Enable is followed.
        # BRIDGE_CONTROL likewise is followed for its reset bit only.
        mask = {COMMAND_LOW: _BUS_MASTER, BRIDGE_CONTROL_LOW: _BUS_RESET}.get(offset, 0xFF)
        return byte & mask in {value & mask for value in self.log.now(offset)}

    def _write(self, access: TraceAccess) -> None:
        widths = access.widths()
        if self._read_widths is not None and self._read_widths[0] == access.offset:
            widths = tuple(w for w in widths if w in self._read_widths[1]) or widths
        self._read_widths = None
        reset_before = any(value & _BUS_RESET for value in self.log.now(BRIDGE_CONTROL_LOW))
        states = []
        for position in range(widths[-1]):
            new: Values = frozenset((access.value >> 8 * position & 0xFF,))
            # Beyond the least width the byte may have been written or not.
            states.append(new if position < widths[0] else new | self.log.now(access.offset + position))
        self.log.put(access.t_ns, access.offset, states, None, "trace")
        reset_after = any(value & _BUS_RESET for value in self.log.now(BRIDGE_CONTROL_LOW))
        if reset_after and not reset_before:
            self.bus_resets.append(access.t_ns)


def trace_shadow(
    accesses: Iterable[TraceAccess], resets: Iterable[tuple[int, str]], registers: Iterable[int] = ()
) -> TraceShadow:
    """The shadow of one bridge from its trace lines and the resets that reach it, merged by time."""
    shadow = TraceShadow(registers)
    pending = sorted(resets)
    for access in accesses:
        while pending and pending[0][0] <= access.t_ns:
            shadow.log.reset(*pending.pop(0))
        shadow.access(access)
    for t_ns, cause in pending:
        shadow.log.reset(t_ns, cause)
    return shadow
