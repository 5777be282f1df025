# SPDX-License-Identifier: MIT
"""A bridge's registers bit by bit, from writes whose width is known and from what the guest reads.

A bit is known or not: it is what the last write to it left, by its access kind, or what a read has shown since.
Before anything showed it, it is not known, except where the specification says what it is after a reset. Bits of
a register that belong to no field are reserved: read-only and 0 until a read shows otherwise (PCIe 6.0 7.4).
A bit that is declared writable and reads back unchanged, before it was ever seen to take a write, is hardwired.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydev.recording.attribution import Attribution
from pydev.recording.byte_access import BYTE, access_of
from pydev.recording.config import Change, History, Values, masked
from pydev.recording.functions import RegisterEntry
from pydev.recording.names import RegisterNames

_WRITES: Final = frozenset(("write", "trace"))
# PCIe 6.0 7.5.1.1.3, 7.5.1.3: what these hold after a reset; nothing but a write changes them.
_RESET_TO_ZERO: Final = frozenset(
    ("COMMAND", "PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS", "BRIDGE_CONTROL")
)
_NEVER_HARDWIRED: Final = {
    "COMMAND": ("bus_master",),
    "PRIMARY_BUS": ("value",),
    "SECONDARY_BUS": ("value",),
    "SUBORDINATE_BUS": ("value",),
    "BRIDGE_CONTROL": ("secondary_bus_reset",),
}
"""Fields that every bridge has."""


@dataclass(slots=True)
class _State:
    """A byte from an event on."""

    t_ns: int
    order: int
    value: int
    known: int
    width: int | None
    cause: str
    writer: Attribution | None = None
    kept: int = 0
    """Bits that the event left as they were."""
    is_read: bool = False
    """A read since has shown the byte."""


class BitShadow:
    """The bytes of one bridge's declared registers, event by event in their order."""

    def __init__(
        self,
        registers: Iterable[RegisterEntry],
        names: RegisterNames,
        hardwired: Mapping[int, int] | None = None,
    ) -> None:
        """`hardwired`: by offset, bits that are known not to take a write."""
        self.problems: list[str] = []
        self.hardwired: dict[int, int] = {}
        """By offset, the bits that were found not to take a write."""
        self._names = names
        registers = tuple(registers)
        self._access = access_of(registers)
        self._zero = dict.fromkeys(self._access, 0)
        """What is 0 after every reset."""
        self._core = dict.fromkeys(self._access, 0)
        """What is writable in every bridge, and so cannot be hardwired."""
        self._log: dict[int, list[_State]] = {}
        self._proven = dict.fromkeys(self._access, 0)
        """Bits that were seen to take a write."""
        self._order = 0
        for register in registers:
            self._declare(register)
        for at, bits in (hardwired or {}).items():
            self._access[at].takes &= ~bits
        for at, access in self._access.items():
            self._zero[at] |= access.reads_zero
            self._log[at] = [_State(0, 0, 0, self._zero[at] | access.reserved, None, "power-on")]

    def _declare(self, register: RegisterEntry) -> None:
        for n in range(register.width):
            at = register.offset + n
            self._zero[at] |= BYTE if register.name in _RESET_TO_ZERO else 0
            for name in _NEVER_HARDWIRED.get(register.name, ()):
                field = register.fields.get(name)
                if field is not None:
                    self._core[at] |= ((1 << field.bits) - 1 << field.lsb) >> 8 * n & BYTE

    def write(
        self,
        t_ns: int,
        offset: int,
        value: int,
        widths: tuple[int, ...],
        cause: str,
        writer: Attribution | None = None,
    ) -> None:
        """One write, of one of these widths: what only a greater one has touched is then not known."""
        self._order += 1
        width = widths[0] if len(widths) == 1 else None
        for n in range(widths[-1]):
            at = offset + n
            if at not in self._access:
                continue
            access, before = self._access[at], self._log[at][-1]
            written = value >> 8 * n & BYTE
            after = access.after(before.value, written)
            known, kept = before.known | access.touched(written), BYTE & ~access.touched(written)
            if n >= widths[0]:  # perhaps not written at all
                known, kept = before.known & known & ~(after ^ before.value), 0
            self._log[at].append(_State(t_ns, self._order, after & known, known, width, cause, writer, kept))

    def read(self, t_ns: int, offset: int, value: int, width: int) -> None:
        """A read has shown `width` bytes, at least."""
        self._order += 1
        wrong: list[int] = []
        for n in range(width):
            at = offset + n
            if at in self._access and not self._read_byte(t_ns, at, value >> 8 * n & BYTE):
                wrong.append(at)
        if wrong:
            name = self._names.access(wrong[0], 1)
            self.problems.append(f"a read of {name} shows {value:#x}, which no recorded write has left there")

    def _read_byte(self, t_ns: int, at: int, shown: int) -> bool:
        """Learn from one byte; False where a write is missing."""
        access, log = self._access[at], self._log[at]
        state = log[-1]
        if state.is_read and state.known == BYTE and state.value == shown:
            return True
        was_seen = any(entry.is_read for entry in log)
        self._learn(at, ~state.known & BYTE, shown)
        differs = (shown ^ state.value) & state.known
        refused = self._refused(at, differs)
        if refused:
            self.hardwired[at] = self.hardwired.get(at, 0) | refused
            access.takes &= ~refused
            state.value = state.value & ~refused | shown & refused
            state.kept |= refused
        differs &= ~refused
        self._proven[at] = self._proven[at] | self._took(at) & ~differs
        state.is_read = True
        if not was_seen:
            self._learn(at, differs & access.reserved, shown)
            differs &= ~access.reserved
        if not differs:
            return True
        log.append(_State(t_ns, self._order, shown, BYTE, None, "read", is_read=True))
        # What no write decides the device may change by itself.
        return not differs & access.takes

    def _learn(self, at: int, bits: int, shown: int) -> None:
        """Bits that were not known are as shown, since the event that last touched them."""
        for state in reversed(self._log[at]):
            if not bits:
                return
            state.value = state.value & ~bits | shown & bits
            state.known |= bits
            bits &= state.kept

    def _refused(self, at: int, differs: int) -> int:
        """Bits of the last write that read as before it, and were never seen to take one."""
        log = self._log[at]
        if log[-1].cause not in _WRITES or log[-1].is_read:
            return 0
        return differs & self._access[at].takes & ~self._core[at] & ~self._proven[at]

    def _took(self, at: int) -> int:
        """Bits that the last write is now seen to have changed."""
        log = self._log[at]
        if log[-1].cause not in _WRITES:
            return 0
        return (log[-1].value ^ log[-2].value) & log[-1].known & log[-2].known & self._access[at].takes

    def reset(self, t_ns: int, cause: str, writer: Attribution | None = None) -> None:
        """What a reset leaves is known where the specification says so, or nothing had ever changed it."""
        self._order += 1
        for at, log in self._log.items():
            first, last, zero = log[0], log[-1], self._zero[at]
            same = first.known & last.known & ~(first.value ^ last.value)
            value = first.value & ~zero
            known = same | zero | self._access[at].reserved
            log.append(_State(t_ns, self._order, value & known, known, None, cause, writer))

    def history(self, register: RegisterEntry) -> History:
        """One register's values over time."""
        span = range(register.offset, register.offset + register.width)
        events: dict[int, dict[int, _State]] = {}
        for offset in span:
            for state in self._log[offset][1:]:
                events.setdefault(state.order, {})[offset] = state
        now = {offset: self._log[offset][0] for offset in span}
        initial = before = _joined([now[offset] for offset in span])
        changes: list[Change] = []
        for order in sorted(events):
            touched = events[order]
            now |= touched
            after = _joined([now[offset] for offset in span])
            event = next(iter(touched.values()))
            changes.append(Change(event.t_ns, before, after, event.width, event.cause, event.writer))
            before = after
        return History(register, initial, _in_time(changes))


def _joined(states: list[_State]) -> Values:
    value = sum(state.value << 8 * n for n, state in enumerate(states))
    known = sum(state.known << 8 * n for n, state in enumerate(states))
    return masked(value, known, 8 * len(states))


def _in_time(changes: list[Change]) -> tuple[Change, ...]:
    """In the order of their events; a read's time, which is the trace's, is brought before the next write's."""
    ordered: list[Change] = []
    latest = 1 << 64
    for change in reversed(changes):
        latest = min(latest, change.t_ns)
        if change.t_ns == latest:
            ordered.append(change)
        else:
            ordered.append(
                Change(latest, change.before, change.after, change.width, change.cause, change.writer)
            )
    return tuple(reversed(ordered))
