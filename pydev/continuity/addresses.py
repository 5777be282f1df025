# SPDX-License-Identifier: MIT
"""Which addresses a function answers to: an endpoint by its BARs, a bridge for all below by its windows.

Values come from register histories, so that they are of a moment; what no record decides is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.stretches import ALWAYS, Stretch, stretches
from pydev.recording.config import Change, Values, field_values, known
from pydev.recording.functions import FunctionEntry

_BAR_COUNT: Final = 6
_IS_IO: Final = 1
_IS_64BIT: Final = 0b10  # PCIe 6.0 7.5.1.2.1, bits 2:1
_IO_FLAGS: Final = 0b11
_MEMORY_FLAGS: Final = 0b1111


@dataclass(frozen=True, slots=True)
class BarInUse:
    """A BAR with an address in it."""

    registers: tuple[str, ...]
    """One, or two where it is 64 bits wide."""
    address: int
    is_io: bool


def bars_in_use(evidence: Evidence, function: FunctionEntry, t_ns: int) -> tuple[BarInUse, ...] | None:
    """The BARs of an endpoint that hold an address at a moment; None where the record does not decide."""
    values: dict[int, int] = {}
    for index in range(_BAR_COUNT):
        history = evidence.timeline.history(function.index, f"BAR{index}")
        if history is None:
            continue
        value = known(history.at(t_ns))
        if value is None:
            return None
        values[index] = value
    return tuple(_decode(values))


def _decode(values: Mapping[int, int]) -> list[BarInUse]:
    found: list[BarInUse] = []
    upper = -1
    for index, value in sorted(values.items()):
        if index == upper:
            continue
        registers: tuple[str, ...] = (f"BAR{index}",)
        is_io = bool(value & _IS_IO)
        address = value & ~(_IO_FLAGS if is_io else _MEMORY_FLAGS)
        if not is_io and value >> 1 & 3 == _IS_64BIT:
            upper = index + 1
            registers += (f"BAR{upper}",)
            address |= values.get(upper, 0) << 32
        if address:
            found.append(BarInUse(registers, address, is_io))
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """A field that holds some bits of a window's lower or upper end."""

    register: str
    field: str
    shift: int


@dataclass(frozen=True, slots=True)
class WindowKind:
    """One of a bridge's windows (PCIe 6.0 7.5.1.3.6, 7.5.1.3.8 to 7.5.1.3.11)."""

    name: str
    decode: str
    """Which bit of COMMAND opens it."""
    base: tuple[Part, ...]
    limit: tuple[Part, ...]
    granule_bits: int
    """Its ends are multiples of this power of two."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every field of both ends."""
        return (*self.base, *self.limit)


MEMORY: Final = WindowKind(
    "memory window",
    "memory_space",
    (Part("MEMORY_BASE", "base", 20),),
    (Part("MEMORY_LIMIT", "limit", 20),),
    20,
)
PREFETCHABLE: Final = WindowKind(
    "prefetchable window",
    "memory_space",
    (Part("PREF_MEMORY_BASE", "base", 20), Part("PREF_BASE_UPPER32", "base", 32)),
    (Part("PREF_MEMORY_LIMIT", "limit", 20), Part("PREF_LIMIT_UPPER32", "limit", 32)),
    20,
)
IO: Final = WindowKind(
    "I/O window",
    "io_space",
    (Part("IO_BASE", "base", 12), Part("IO_BASE_UPPER16", "base", 16)),
    (Part("IO_LIMIT", "limit", 12), Part("IO_LIMIT_UPPER16", "limit", 16)),
    12,
)
MEMORY_WINDOWS: Final = (MEMORY, PREFETCHABLE)


@dataclass(frozen=True, slots=True)
class Window:
    """The addresses that a bridge passes down, both ends included; closed where the first is past the last."""

    first: int
    last: int

    @property
    def is_open(self) -> bool:
        """Whether anything is inside."""
        return self.first <= self.last

    def holds(self, address: int) -> bool:
        """Whether an address is passed down."""
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first:#x}-{self.last:#x}" if self.is_open else "closed"


def window(evidence: Evidence, bridge: FunctionEntry, kind: WindowKind, t_ns: int) -> Window | None:
    """A bridge's window at a moment, whether or not COMMAND opens it; None where the record does not decide."""
    ends = []
    for parts in (kind.base, kind.limit):
        value = 0
        for part in parts:
            history = evidence.timeline.history(bridge.index, part.register)
            entry = None if history is None else history.register.fields.get(part.field)
            bits = None if history is None or entry is None else known(field_values(history.at(t_ns), entry))
            if bits is None:
                return None
            value |= bits << part.shift
        ends.append(value)
    return Window(ends[0], ends[1] | (1 << kind.granule_bits) - 1)


@dataclass(frozen=True, slots=True)
class WindowStretch:
    """A span in which none of the registers of a window was touched; half-open, in ns."""

    begin_ns: int
    end_ns: int
    certain: Window | None
    """What it passed down; None where the record leaves it open."""
    widest: Window | None
    """All that it may have passed down; None where nothing is known of it."""
    is_decoded: frozenset[int]
    """What COMMAND's bit may have been."""
    opened_by: tuple[str, str, Change] | None
    """The register, the field and the change that began it; None at power-on."""


def window_stretches(evidence: Evidence, bridge: FunctionEntry, kind: WindowKind) -> list[WindowStretch]:
    """A bridge's window over the whole recording; nothing where its registers are not declared."""
    names = [("COMMAND", kind.decode), *((part.register, part.field) for part in kind.parts)]
    histories: dict[tuple[str, str], tuple[Stretch, ...]] = {}
    for name in names:
        history = evidence.timeline.history(bridge.index, name[0])
        entry = None if history is None else history.register.fields.get(name[1])
        if history is None or entry is None:
            return []
        histories[name] = stretches(history, entry)
    begins = sorted({part.begin_ns for parts in histories.values() for part in parts})
    found = []
    at = dict.fromkeys(histories, 0)
    for begin_ns, end_ns in zip(begins, [*begins[1:], ALWAYS], strict=True):
        opened_by = None
        held: dict[tuple[str, str], Values] = {}
        for name, parts in histories.items():
            while parts[at[name]].end_ns <= begin_ns:
                at[name] += 1
            part = parts[at[name]]
            held[name] = part.values
            if part.begin_ns == begin_ns and part.opened_by is not None:
                opened_by = (*name, part.opened_by)
        first, last = (_ends(held, parts) for parts in (kind.base, kind.limit))
        fill = (1 << kind.granule_bits) - 1
        is_known = bool(first and last)
        certain = Window(first[0], last[0] | fill) if is_known and len(first) == len(last) == 1 else None
        widest = Window(first[0], last[-1] | fill) if is_known else None
        found.append(
            WindowStretch(begin_ns, end_ns, certain, widest, held["COMMAND", kind.decode], opened_by)
        )
    return found


def _ends(held: Mapping[tuple[str, str], Values], parts: tuple[Part, ...]) -> list[int]:
    """What one end may have been, ascending; nothing where one of its parts is not known at all."""
    values = [0]
    for part in parts:
        bits = held[part.register, part.field]
        values = [value | more << part.shift for value in values for more in bits]
    return sorted(values)
