# SPDX-License-Identifier: MIT
"""A bridge's registers from QEMU's trace alone, where there is no TCG plugin: no widths, no authors.

A value is then a set of possibilities. Later reads of the guest narrow what a write of unknown width has left open;
a read that contradicts what is derived is a missing write, reported as a problem for the bytes that hold what is
written to them, and as a change that no write explains for all others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydev.recording.byte_access import ByteAccess
from pydev.recording.config import ByteLog, History, Values, possible_widths
from pydev.recording.functions import RegisterEntry
from pydev.recording.names import RegisterNames

# PCI-to-PCI Bridge 1.2, 3.2: the bytes that rules judge and that hold what is written to them.
COMMAND_LOW: Final = 0x04
BUS_NUMBERS: Final = range(0x18, 0x1B)
BRIDGE_CONTROL_LOW: Final = 0x3E
FOLLOWED: Final = frozenset((COMMAND_LOW, *BUS_NUMBERS, BRIDGE_CONTROL_LOW))
_BUS_MASTER: Final = 1 << 2
_BUS_RESET: Final = 1 << 6


FOLLOWED_REGISTERS: Final = ("ACS_CONTROL", "DEVCTL", "DEVCTL2", "LNKCTL", "LNKCTL2", "PMCSR")
"""Registers of bridges' capabilities that are followed as if every bit took what is written: which of their bits
are read-only a later read tells."""


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


class TraceShadow:
    """A bridge's followed bytes, from the trace alone.

    A write's width is inferred from the read of the same offset just before it (the kernel's
    read-modify-write): what that read's value rules out is ruled out; else every width stays possible.
    `registers` are the bytes of declared registers, whose power-on values nobody declares; `access` says of some
    of them which bits take a write.
    """

    def __init__(
        self,
        registers: Iterable[int] = (),
        access: Mapping[int, ByteAccess] | None = None,
        names: RegisterNames | None = None,
    ) -> None:
        self._registers = frozenset(registers) - FOLLOWED
        self._access = {at: kind for at, kind in (access or {}).items() if at in self._registers}
        self._names = names or RegisterNames({})
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
            name = self._names.access(offset, 1)
            self.problems.append(f"a read of {name} shows {byte:#x} where the trace derives {derived}")
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
            new = self._written(access.offset + position, access.value >> 8 * position & 0xFF)
            # Beyond the least width the byte may have been written or not.
            states.append(new if position < widths[0] else new | self.log.now(access.offset + position))
        self.log.put(access.t_ns, access.offset, states, None, "trace")
        reset_after = any(value & _BUS_RESET for value in self.log.now(BRIDGE_CONTROL_LOW))
        if reset_after and not reset_before:
            self.bus_resets.append(access.t_ns)

    def _written(self, offset: int, byte: int) -> Values:
        """What a byte may hold when this was written to it."""
        kind = self._access.get(offset)
        if kind is None:
            return frozenset((byte,))
        # Reserved bits are taken as written: a read tells.
        mask = kind.reserved
        return frozenset(kind.after(old, byte) & ~mask | byte & mask for old in self.log.now(offset))

    def history(self, register: RegisterEntry) -> History:
        """One register's values over time."""
        return self.log.history(register)


def trace_shadow(
    accesses: Iterable[TraceAccess],
    resets: Iterable[tuple[int, str]],
    registers: Iterable[int] = (),
    access: Mapping[int, ByteAccess] | None = None,
    names: RegisterNames | None = None,
) -> TraceShadow:
    """The shadow of one bridge from its trace lines and the resets that reach it, merged by time."""
    shadow = TraceShadow(registers, access, names)
    pending = sorted(resets)
    for line in accesses:
        while pending and pending[0][0] <= line.t_ns:
            shadow.log.reset(*pending.pop(0))
        shadow.access(line)
    for t_ns, cause in pending:
        shadow.log.reset(t_ns, cause)
    return shadow
