# SPDX-License-Identifier: MIT
"""What every function's registers held: each from the witness that knows most about it.

Endpoints from the server's record. Bridges from the TCG plugin's writes, which have widths and authors, with the
trace's reads in between them; without a plugin from the trace alone.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from pydev.recording.accounts import Agreement, Events
from pydev.recording.attribution import Attribution
from pydev.recording.bits import BitShadow
from pydev.recording.byte_access import access_of
from pydev.recording.config import History, ServerShadow
from pydev.recording.format import Kind
from pydev.recording.functions import FieldEntry, FunctionEntry, RegisterEntry, upstream_path
from pydev.recording.names import register_names
from pydev.recording.plugin import PluginWrite
from pydev.recording.traced import FOLLOWED, FOLLOWED_REGISTERS, TraceAccess, TraceShadow, trace_shadow

_DUMP_DWORDS: Final = 8
"""Reads of so many adjoining dwords in a row are nothing but a dump by dwords."""
_SECONDARY_BUS: Final = RegisterEntry("SECONDARY_BUS", 0x19, 1, {"value": FieldEntry("value", 0, 8)})
"""PCIe 6.0 7.5.1.3: what names depend on, declared in a header or not."""
_MOST_PASSES: Final = 4

Reset = tuple[int, str, Attribution | None]
"""When, of what kind, and by whom."""
Step = Callable[[BitShadow], None]
"""One event, to be done to a shadow."""


class Shadow(Protocol):
    """One function's registers over time."""

    problems: list[str]

    def history(self, register: RegisterEntry) -> History:
        """One register's values."""


class Shadows:
    """Every function's shadow, from the root downwards: a bus reset of a bridge resets those below."""

    def __init__(
        self,
        timeline: Events,
        agreement: Agreement,
        machine_resets_ns: Iterable[int],
        bus_resets: dict[int, list[tuple[int, Attribution | None]]],
    ) -> None:
        self._timeline = timeline
        self._agreement = agreement
        self._machine: list[Reset] = [(t_ns, "machine reset", None) for t_ns in machine_resets_ns]
        self._bus_resets = dict(bus_resets)
        self._shadows: dict[int, Shadow] = {}
        functions = timeline.functions
        for entry in sorted(functions, key=lambda f: len(upstream_path(functions, f.index))):
            self._shadows[entry.index] = self._shadow(entry)

    def history(self, function: int, register: RegisterEntry) -> History:
        """A register's values; the header declares it, or it is a bridge's SECONDARY_BUS."""
        return self._shadows[function].history(register)

    def secondary_bus(self, bridge: int) -> History:
        """A bridge's secondary bus number, declared in the header or not."""
        registers = self._timeline.functions[bridge].registers
        return self._shadows[bridge].history(registers.get(_SECONDARY_BUS.name, _SECONDARY_BUS))

    def problems(self) -> list[str]:
        """What contradicts the writes that are recorded."""
        functions = self._timeline.functions
        found = sorted(self._shadows.items())
        return [f"{functions[index].id}: {problem}" for index, shadow in found for problem in shadow.problems]

    def _shadow(self, entry: FunctionEntry) -> Shadow:
        if entry.is_endpoint:
            return self._of_server(entry)
        above = upstream_path(self._timeline.functions, entry.index)
        resets = [
            *self._machine,
            *((t, "bus reset", by) for port in above for t, by in self._bus_resets.get(port.index, ())),
        ]
        return self._of_plugin(entry, resets) if self._timeline.has_plugin else self._of_trace(entry, resets)

    # ------------------------------------------------------------- endpoints

    def _of_server(self, entry: FunctionEntry) -> ServerShadow:
        timeline = self._timeline
        shadow = ServerShadow(entry.config, register_names(entry))
        authors = self._agreement[entry.index].authors()
        parts = (timeline.config_writes(entry.index), timeline.of_kind(Kind.CONFIG_UPDATE, entry.index))
        slots = np.sort(np.concatenate(parts))
        names = ("t_ns", "kind", "address", "size", "extra", "aux", "error")
        rows = zip(slots.tolist(), *(timeline.column(name, slots).tolist() for name in names), strict=True)
        for slot, t_ns, kind, address, size, before, after, error in rows:
            if not error and 0 < size <= 8:
                by_guest = kind == Kind.REGION_WRITE
                shadow.event(t_ns, address, size, before, after, by_guest=by_guest, writer=authors.get(slot))
        return shadow

    # --------------------------------------------------------------- bridges

    def _of_plugin(self, entry: FunctionEntry, resets: Sequence[Reset]) -> BitShadow:
        steps = self._steps(entry.index, resets)
        registers = [*entry.registers.values()]
        if _SECONDARY_BUS.name not in entry.registers:
            registers.append(_SECONDARY_BUS)
        hardwired: dict[int, int] = {}
        for _ in range(_MOST_PASSES):
            shadow = BitShadow(registers, register_names(entry), hardwired)
            for step in steps:
                step(shadow)
            if not shadow.hardwired:
                break
            # What is learnt late holds from the beginning.
            hardwired |= {at: hardwired.get(at, 0) | bits for at, bits in shadow.hardwired.items()}
        return shadow

    def _steps(self, function: int, resets: Sequence[Reset]) -> list[Step]:
        """What happens to a bridge, in order: the trace's, in which the plugin's records stand for its writes."""
        of_line = {w.trace: w.plugin for w in self._agreement[function].writes if w.trace is not None}
        found: list[tuple[int, Step]] = [(t, partial(_reset, t, cause, by)) for t, cause, by in resets]
        latest = 0
        for slot, access in _trace_accesses(self._timeline, function, resets):
            latest = max(latest, access.t_ns)
            found.append((latest, _step(access, of_line.get(slot))))
        untraced = (w.plugin for w in self._agreement[function].writes if w.trace is None)
        found += [(write.t_ns, partial(_write, write)) for write in untraced if write is not None]
        return [step for _, step in sorted(found, key=lambda entry: entry[0])]

    def _of_trace(self, entry: FunctionEntry, resets: Sequence[Reset]) -> TraceShadow:
        # COMMAND and BRIDGE_CONTROL are followed for one bit each, from a power-on value that is known.
        registers = [r for r in entry.registers.values() if FOLLOWED.isdisjoint(_span(r))]
        kinds = access_of(register for register in registers if register.name not in FOLLOWED_REGISTERS)
        followed = {at for register in registers for at in _span(register)}
        shadow = trace_shadow(
            (access for _, access in _trace_accesses(self._timeline, entry.index, resets)),
            [(t, cause) for t, cause, _ in resets],
            followed,
            kinds,
            register_names(entry),
        )
        self._bus_resets[entry.index] = [(t, None) for t in shadow.bus_resets]
        return shadow


def _span(register: RegisterEntry) -> range:
    return range(register.offset, register.offset + register.width)


def _step(access: TraceAccess, plugin: PluginWrite | None) -> Step:
    if not access.is_write:
        return partial(_read, access)
    return partial(_traced_write, access) if plugin is None else partial(_write, plugin)


def _write(write: PluginWrite, shadow: BitShadow) -> None:
    if write.is_sound:
        widths = (write.width,)
        shadow.write(write.t_ns, write.offset, write.value, widths, "write", write.attribution)


def _traced_write(access: TraceAccess, shadow: BitShadow) -> None:
    shadow.write(access.t_ns, access.offset, access.value, access.widths(), "trace")


def _read(access: TraceAccess, shadow: BitShadow) -> None:
    shadow.read(access.t_ns, access.offset, access.value, access.widths()[0])


def _reset(t_ns: int, cause: str, by: Attribution | None, shadow: BitShadow) -> None:
    shadow.reset(t_ns, cause, by)


def _trace_accesses(
    timeline: Events, function: int, resets: Sequence[Reset]
) -> list[tuple[int, TraceAccess]]:
    """The trace's lines of a bridge that can tell something, in the trace's order, each with its record."""
    slots = timeline.of_kinds((Kind.TRACE_READ, Kind.TRACE_WRITE), function)
    slots = slots[timeline.column("error", slots) == 0]
    is_read = timeline.column("kind", slots) == Kind.TRACE_READ
    offsets, values = timeline.column("address", slots), timeline.column("value", slots)
    is_dump = _dumped(offsets, is_read)
    moments = np.array(sorted(t_ns for t_ns, *_ in resets), dtype=np.uint64)
    events = np.cumsum(~is_read) + np.searchsorted(moments, timeline.t_ns[slots], side="right")
    telling = ~_repeated(offsets, values, is_read, is_dump, events)
    slots = slots[telling]
    columns = (
        slots,
        is_read[telling],
        is_dump[telling],
        timeline.t_ns[slots],
        offsets[telling],
        values[telling],
    )
    return [
        (slot, TraceAccess(t_ns, not reads, offset, value, 4 if whole else None))
        for slot, reads, whole, t_ns, offset, value in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _repeated(
    offsets: npt.NDArray[np.uint64],
    values: npt.NDArray[np.uint64],
    is_read: npt.NDArray[np.bool_],
    is_dump: npt.NDArray[np.bool_],
    events: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Which reads show again what the last access to their dword has shown, and nothing happened in between.

    `events` counts the function's writes and resets so far. A guest that polls makes millions of such reads. One
    just before a write is kept: it tells of that one's width.
    """
    order = np.argsort(offsets // np.uint64(4), kind="stable")
    same = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for column in (offsets, values, is_read, is_dump, events):
        same &= column[order[1:]] == column[order[:-1]]
    repeated = np.zeros(len(offsets), dtype=np.bool_)
    repeated[order[1:]] = same & is_read[order[1:]]
    repeated[:-1] &= is_read[1:]
    return repeated


def _dumped(offsets: npt.NDArray[np.uint64], is_read: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which accesses of one function, in order, belong to a dump: reads of adjoining dwords, one by one."""
    whole = is_read & (offsets % np.uint64(4) == 0)
    goes_on = np.zeros(len(offsets), dtype=np.bool_)
    goes_on[1:] = whole[1:] & whole[:-1] & (offsets[1:] == offsets[:-1] + np.uint64(4))
    begins = np.flatnonzero(~goes_on)
    lengths = np.diff(np.append(begins, len(offsets)))
    long: npt.NDArray[np.bool_] = np.repeat(lengths >= _DUMP_DWORDS, lengths)
    return long
