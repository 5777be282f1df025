# SPDX-License-Identifier: MIT
"""The recording, indexed: events by kind and function, messages, phases, register values and BDFs over time.

Everything that rules ask for is answered here, from the file alone. Times are CLOCK_MONOTONIC nanoseconds as
recorded; `since_start_ns` makes them relative to the recording's start.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.recording import config
from pydev.recording.config import History, TraceAccess
from pydev.recording.format import CONFIG_REGION, NO_FUNCTION, Flag, Kind, Mark, ResetKind
from pydev.recording.functions import FunctionEntry, RegisterEntry, parse_functions, upstream_path
from pydev.recording.joining import TraceJoin, join_endpoint
from pydev.recording.messages import AgentMessage, Text, channel_problems, parse_agent_line, texts
from pydev.recording.phases import Blackout, Evidence, Phase, find_phases
from pydev.recording.reader import Recording, Records, read
from pydev.units import bdf_text

Slots = npt.NDArray[np.intp]
"""Indexes into `Timeline.records`, ascending."""

_TRACE_RESOLUTION_NS: Final = 1000
"""QEMU prints microseconds."""
UNCERTAIN: Final = -1
"""A BDF that the record leaves open."""
UNNUMBERED: Final = -2
"""No BDF: the port above has secondary bus number 0."""
_RESET_REPORT_NS: Final = 2_000_000_000
"""A machine reset's QMP event comes no later than this after the endpoints' DEVICE_RESET."""
_RESET_SEQUENCE_NS: Final = 5_000_000
"""QEMU disables interrupts and COMMAND no earlier than this before DEVICE_RESET."""
_NONE: Final[Slots] = np.empty(0, dtype=np.intp)
_ENDS: Final = (Mark.QEMU_EXITED, Mark.SERVER_LOST, Mark.ABORTED)
_KNOWN_KINDS: Final = np.array([int(kind) for kind in Kind])
_SECONDARY_BUS: Final = 0x19
_DUMP_DWORDS: Final = 8
"""Reads of so many adjoining dwords in a row are nothing but a dump by dwords."""


def load_timeline(path: str | Path) -> "Timeline":
    """The timeline of the recording at `path`; RecordingError where it is none or beyond reading."""
    return Timeline(read(path))


def _dumped(offsets: npt.NDArray[np.uint64], is_read: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which accesses of one function, in order, belong to a dump: reads of adjoining dwords, one by one."""
    whole = is_read & (offsets % np.uint64(4) == 0)
    goes_on = np.zeros(len(offsets), dtype=np.bool_)
    goes_on[1:] = whole[1:] & whole[:-1] & (offsets[1:] == offsets[:-1] + np.uint64(4))
    begins = np.flatnonzero(~goes_on)
    lengths = np.diff(np.append(begins, len(offsets)))
    long: npt.NDArray[np.bool_] = np.repeat(lengths >= _DUMP_DWORDS, lengths)
    return long


def _requester(bus: int | None, devfn: int) -> int:
    if bus is None:
        return UNCERTAIN
    return bus << 8 | devfn if bus else UNNUMBERED


class Timeline:
    """One recording, indexed. Built once; never changes."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.header: Mapping[str, Any] = recording.header
        self.trailer: Mapping[str, Any] = recording.trailer or {}
        self.records: Records = recording.records
        self.functions: tuple[FunctionEntry, ...] = parse_functions(recording.header, recording.path)
        self._kind = np.ascontiguousarray(self.records["kind"])
        self._function = np.ascontiguousarray(self.records["function"])
        self.t_ns = np.ascontiguousarray(self.records["t_ns"])
        """Every record's time."""
        order = np.argsort(self._kind, kind="stable")
        kinds, starts = np.unique(self._kind[order], return_index=True)
        self._by_kind: dict[int, Slots] = dict(zip(kinds.tolist(), np.split(order, starts[1:]), strict=False))
        self._bdfs: dict[int, tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = {}
        self._histories: dict[tuple[int, str], History | None] = {}
        self.texts, self._text_problems = texts(self.records)
        self.messages: tuple[AgentMessage, ...] = tuple(
            parse_agent_line(text) for text in self.texts if text.kind == Kind.AGENT
        )
        self.console: tuple[Text, ...] = tuple(text for text in self.texts if text.kind == Kind.CONSOLE)
        self.phases, self.blackouts, self._phase_problems = find_phases(self._evidence())

    # ---------------------------------------------------------------- events

    def of_kind(self, kind: Kind, function: int | None = None) -> Slots:
        """The records of a kind, of one function or of all."""
        slots = self._by_kind.get(int(kind), _NONE)
        if function is None:
            return slots
        own: Slots = slots[self._function[slots] == function]
        return own

    def column(self, name: str, slots: Slots) -> npt.NDArray[np.uint64]:
        """One field of some records, copied."""
        values: npt.NDArray[np.uint64] = self.records[name][slots]
        return values

    def config_writes(self, function: int) -> Slots:
        """What the client wrote to an endpoint's config space."""
        slots = self.of_kind(Kind.REGION_WRITE, function)
        own: Slots = slots[self.records["region"][slots] == CONFIG_REGION]
        return own

    def marks(self, mark: Mark) -> list[int]:
        """When the bench set a mark."""
        slots = self.of_kind(Kind.MARK)
        return sorted(self.t_ns[slots[self.records["value"][slots] == mark]].tolist())

    @property
    def started_ns(self) -> int:
        """The header's `started_ns`, or the first event's time."""
        value = self.header.get("started_ns")
        return value if isinstance(value, int) else self.first_ns

    @cached_property
    def first_ns(self) -> int:
        """The earliest event."""
        return int(self.t_ns.min()) if len(self.t_ns) else 0

    @cached_property
    def last_ns(self) -> int:
        """The latest event."""
        return int(self.t_ns.max()) if len(self.t_ns) else 0

    @cached_property
    def guest_end_ns(self) -> int:
        """Where the guest's own doings end: the machine or the bench went away, or the recording ends."""
        ends = [t for mark in _ENDS for t in self.marks(mark)]
        frozen = self.marks(Mark.FROZEN_ACKNOWLEDGED)
        if frozen:
            clients = self.of_kind(Kind.CLIENT)
            gone: list[int] = self.t_ns[clients[self.records["value"][clients] == 0]].tolist()
            ends += [t for t in gone + self._machine_resets() if t > frozen[-1]]
        return min([*ends, self.last_ns])

    def _machine_resets(self) -> list[int]:
        """When the machine's resets began: QMP tells of them after the endpoints were reset."""
        slots = self.of_kind(Kind.RESET)
        slots = slots[self.records["value"][slots] == ResetKind.DEVICE]
        devices = np.sort(self.t_ns[slots])
        begins = []
        for mark in self.marks(Mark.MACHINE_RESET):
            before = devices[(devices <= mark) & (devices + _RESET_REPORT_NS >= mark)].tolist()
            begins.append(min([mark, *(t - _RESET_SEQUENCE_NS for t in before)]))
        return begins

    def since_start_ns(self, t_ns: int) -> int:
        """A moment relative to the recording's start."""
        return t_ns - self.started_ns

    # -------------------------------------------------------------- messages

    def reports(self, name: str) -> tuple[AgentMessage, ...]:
        """The guest's successful reports of one name, in time order."""
        return tuple(
            message
            for message in self.messages
            if not message.to_guest
            and message.members.get("report") == name
            and message.members.get("ok") is not False
        )

    def command_of(self, reply: AgentMessage) -> AgentMessage | None:
        """The host's line that a reply answers: the latest with that sequence number before it."""
        wanted = reply.number("re")
        found = None
        for message in self.messages:
            if message.t_ns > reply.t_ns:
                break
            if message.to_guest and wanted is not None and message.number("seq") == wanted:
                found = message
        return found

    # ---------------------------------------------------------------- phases

    def phase_at(self, t_ns: int) -> str | None:
        """The name of the phase that a moment is in; None before the first."""
        name = None
        for phase in self.phases:
            if phase.t_ns > t_ns:
                break
            name = phase.name
        return name

    def phase(self, name: str, update: int = 0) -> Phase | None:
        """One phase's beginning."""
        return next((p for p in self.phases if p.name == name and p.update == update), None)

    def blackout_of(self, t_ns: int) -> Blackout | None:
        """The update whose blackout a moment is in."""
        return next((b for b in self.blackouts if b.begin.t_ns <= t_ns <= b.end_ns), None)

    def _evidence(self) -> Evidence:
        reads, writes = self.of_kind(Kind.TRACE_READ), self.of_kind(Kind.TRACE_WRITE)
        served = [
            slots[self.records["region"][slots] == CONFIG_REGION]
            for slots in (self.of_kind(Kind.REGION_READ), self.of_kind(Kind.REGION_WRITE))
        ]
        own = writes[self._function[writes] != NO_FUNCTION]
        absent = self.records["error"][reads] != 0
        sweep = reads[(self.records["address"][reads] == 0) & (absent | (self.records["region"][reads] == 0))]
        return Evidence(
            messages=self.messages,
            console=self.console,
            acknowledgements_ns=self.marks(Mark.FROZEN_ACKNOWLEDGED),
            accesses_ns=self._sorted_times([reads, writes] if len(writes) else served),
            writes_ns=self._sorted_times([own, served[1]]),
            vendor_sweep_ns=self._sorted_times([sweep]),
            trace_uncertainty_ns=self.trace_uncertainty_ns,
            first_ns=self.first_ns,
            last_ns=self.guest_end_ns,
        )

    def _sorted_times(self, slots: Sequence[Slots]) -> npt.NDArray[np.uint64]:
        running = self.marks(Mark.MACHINE_RUNNING)
        times = np.sort(self.t_ns[np.concatenate(slots)])
        # What QEMU does to an endpoint while realizing it is not the guest's boot.
        return times[np.searchsorted(times, running[0]) :] if running else times

    # --------------------------------------------------------------- config

    def history(self, function: int, register: str) -> History | None:
        """A register's values over time; None where the header declares no such register."""
        key = (function, register)
        if key not in self._histories:
            entry = self.functions[function].registers.get(register)
            log = None if entry is None else self._byte_log(function)
            self._histories[key] = None if entry is None or log is None else log.history(entry)
        return self._histories[key]

    def bdf_at(self, function: int, t_ns: int) -> int | None:
        """A function's bus/device/function at a moment; None while the bus above has no certain number."""
        bdf = int(self.bdfs_at(function, np.array([t_ns], dtype=np.uint64))[0])
        return None if bdf < 0 else bdf

    def bdfs_at(self, function: int, times_ns: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """A function's bus/device/function at each of some moments, or UNCERTAIN, or UNNUMBERED."""
        if function not in self._bdfs:
            self._bdfs[function] = self._bdf_segments(function)
        starts, bdfs = self._bdfs[function]
        found: npt.NDArray[np.int64] = bdfs[np.searchsorted(starts, times_ns, side="right")]
        return found

    def _bdf_segments(self, function: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """When the number changed, and what it was before the first change and after each."""
        entry = self.functions[function]
        if entry.parent is None:
            return np.empty(0, dtype=np.uint64), np.array([(entry.bus or 0) << 8 | entry.devfn])
        history = self.secondary_bus(entry.parent)
        buses = [history.initial, *(change.after for change in history.changes)]
        numbers = [_requester(config.known(bus), entry.devfn) for bus in buses]
        starts = np.array([change.t_ns for change in history.changes], dtype=np.uint64)
        return starts, np.array(numbers, dtype=np.int64)

    def function_at(self, bdf: int, t_ns: int) -> FunctionEntry | None:
        """Which function answers to a bus/device/function at a moment."""
        return next((f for f in self.functions if self.bdf_at(f.index, t_ns) == bdf), None)

    def secondary_bus(self, bridge: int) -> History:
        """A port's secondary bus number over time, declared in the header or not."""
        entry = self.functions[bridge].registers.get("SECONDARY_BUS")
        if entry is not None and (history := self.history(bridge, "SECONDARY_BUS")) is not None:
            return history
        register = RegisterEntry("SECONDARY_BUS", _SECONDARY_BUS, 1, {})
        return self._byte_log(bridge).history(register)

    def _byte_log(self, function: int) -> config.ByteLog:
        if self.functions[function].is_endpoint:
            return self._server_shadows[function].log
        return self._trace_shadows[function].log

    @cached_property
    def _server_shadows(self) -> dict[int, config.ServerShadow]:
        shadows = {}
        for entry in self.functions:
            if entry.is_endpoint:
                shadows[entry.index] = self._server_shadow(entry)
        return shadows

    def _server_shadow(self, entry: FunctionEntry) -> config.ServerShadow:
        shadow = config.ServerShadow(entry.config)
        slots = np.union1d(self.config_writes(entry.index), self.of_kind(Kind.CONFIG_UPDATE, entry.index))
        names = ("t_ns", "kind", "address", "size", "extra", "aux", "error")
        rows = zip(*(self.column(name, slots).tolist() for name in names), strict=True)
        for t_ns, kind, address, size, before, after, error in rows:
            if not error and 0 < size <= 8:
                shadow.event(t_ns, address, size, before, after, by_guest=kind == Kind.REGION_WRITE)
        return shadow

    @cached_property
    def _trace_shadows(self) -> dict[int, config.TraceShadow]:
        """Bridges, from the root downwards: a bus reset of one resets those below."""
        machine = [(t_ns, "machine reset") for t_ns in self.marks(Mark.MACHINE_RESET)]
        shadows: dict[int, config.TraceShadow] = {}
        bridges = [entry for entry in self.functions if not entry.is_endpoint]
        for entry in sorted(bridges, key=lambda b: len(upstream_path(self.functions, b.index))):
            above = upstream_path(self.functions, entry.index)
            resets = machine + [(t, "bus reset") for port in above for t in shadows[port.index].bus_resets]
            registers = [
                entry.registers[name] for name in config.FOLLOWED_REGISTERS if name in entry.registers
            ]
            followed = {r.offset + n for r in registers for n in range(r.width)}
            accesses = self._trace_accesses(entry.index, followed)
            shadows[entry.index] = config.trace_shadow(accesses, resets, followed)
        return shadows

    def _trace_accesses(self, function: int, followed: Iterable[int]) -> list[TraceAccess]:
        slots = np.union1d(self.of_kind(Kind.TRACE_READ, function), self.of_kind(Kind.TRACE_WRITE, function))
        slots = slots[self.records["error"][slots] == 0]
        offsets = self.column("address", slots)
        is_dump = _dumped(offsets, self._kind[slots] == Kind.TRACE_READ)
        dwords = {offset & ~3 for offset in (*config.FOLLOWED, *followed)}
        near = np.isin(offsets & ~np.uint64(3), np.array(sorted(dwords), dtype=np.uint64))
        names = ("t_ns", "kind", "address", "value")
        columns = [self.column(name, slots[near]).tolist() for name in names]
        rows = zip(*columns, is_dump[near].tolist(), strict=True)
        return [
            TraceAccess(t, kind == Kind.TRACE_WRITE, offset, value, 4 if whole else None)
            for t, kind, offset, value, whole in rows
        ]

    # --------------------------------------------------------- completeness

    @cached_property
    def joins(self) -> dict[int, TraceJoin]:
        """For each endpoint, the trace's config writes joined to the server's."""
        running = self.marks(Mark.MACHINE_RUNNING)
        return {
            entry.index: join_endpoint(self, entry, running[0] if running else None)
            for entry in self.functions
            if entry.is_endpoint
        }

    @cached_property
    def trace_uncertainty_ns(self) -> int:
        """How far a trace line's time may be wrong: clock drift, QEMU's resolution, observed lead."""
        clock = self.trailer.get("clock") or {}
        offsets = clock.get("realtime_minus_monotonic_ns") or [0, 0]
        drift = abs(offsets[-1] - offsets[0]) if all(isinstance(v, int) for v in offsets) else 0
        leads = [lead for join in self.joins.values() for lead in join.leads_ns]
        if not leads:
            return drift + _TRACE_RESOLUTION_NS
        # A line precedes the server's own record: a lag is clock error, the usual lead is systematic.
        return drift + _TRACE_RESOLUTION_NS + max(0, -min(leads)) + abs(int(np.median(leads)))

    def structural_problems(self) -> list[str]:
        """Why the record cannot be whole, apart from what the bench says about itself."""
        problems = [*self.recording.problems, *self._text_problems, *self._phase_problems]
        problems += channel_problems(self.messages)
        unknown = int(np.count_nonzero(~np.isin(self._kind, _KNOWN_KINDS)))
        if unknown:
            problems.append(f"{unknown} events are of kinds that this version does not know")
        problems += [
            f"{self.functions[i].id}: {p}" for i, s in self._server_shadows.items() for p in s.problems
        ]
        problems += [
            f"{self.functions[i].id}: {p}" for i, s in self._trace_shadows.items() for p in s.problems
        ]
        return problems + self._requester_problems()

    def _requester_problems(self) -> list[str]:
        """Where the BDF in a trace line is not the one derived from bus numbers at that moment."""
        slots = np.union1d(self.of_kind(Kind.TRACE_READ), self.of_kind(Kind.TRACE_WRITE))
        slots = slots[self.records["error"][slots] == 0]
        owner = self._function[slots].astype(np.int64)
        bdf = self.records["region"][slots].astype(np.int64)
        problems = []
        for entry in self.functions:
            derived = self.bdfs_at(entry.index, self.t_ns[slots])
            own = owner == entry.index
            elsewhere = own & (derived >= 0) & (derived != bdf)
            foreign = (owner == NO_FUNCTION) & (derived == bdf)
            for wrong, what in ((elsewhere, "another function"), (foreign, "no function")):
                if wrong.any():
                    text = bdf_text(int((derived if wrong is elsewhere else bdf)[np.argmax(wrong)]))
                    problems.append(
                        f"{entry.id}: {int(wrong.sum())} trace lines disagree with its bus number "
                        f"({text}, {what})"
                    )
        return problems

    def is_blocked(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which of some transactions did not reach memory: refused, or without a mapping."""
        refused: npt.NDArray[np.bool_] = (self.records["flags"][slots] & int(Flag.BLOCKED | Flag.FAULT)) != 0
        return refused
