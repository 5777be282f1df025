# SPDX-License-Identifier: MIT
"""The recording, indexed: events by kind and function, messages, phases, register values and BDFs over time.

Everything that rules ask for is answered here, from the file alone. Times are CLOCK_MONOTONIC nanoseconds as
recorded; `since_start_ns` makes them relative to the recording's start.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from pydev.recording import config
from pydev.recording.accounts import Agreement, agreement
from pydev.recording.attribution import Attributions
from pydev.recording.chains import Chains
from pydev.recording.config import History
from pydev.recording.event_index import EventIndex, Transactions
from pydev.recording.event_index import Slots as Slots
from pydev.recording.format import CONFIG_REGION, NO_FUNCTION, Kind, Mark, ResetKind
from pydev.recording.functions import FunctionEntry, parse_functions
from pydev.recording.messages import AgentMessage, Text, channel_problems, parse_agent_line, texts
from pydev.recording.phases import STAMP_NS, Blackout, Evidence, Phase, find_phases
from pydev.recording.plugin import PluginWrite, read_plugin_log
from pydev.recording.reader import Recording, Records, read
from pydev.recording.shadows import Shadows
from pydev.units import bdf_text

_Found = TypeVar("_Found")

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
_ENDS: Final = (Mark.QEMU_EXITED, Mark.SERVER_LOST, Mark.ABORTED)
_KNOWN_KINDS: Final = frozenset(int(kind) for kind in Kind)


def load_timeline(path: str | Path) -> "Timeline":
    """The timeline of the recording at `path`; RecordingError where it is none or beyond reading."""
    return Timeline(read(path))


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
        self._index = EventIndex(recording)
        self._kind, self._function = self._index.kind, self._index.function
        self._remembered: dict[Hashable, Any] = {}
        self.t_ns = self._index.t_ns
        """Every record's time."""
        self._bdfs: dict[int, tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = {}
        self._histories: dict[tuple[int, str], History | None] = {}
        self._chains = Chains(self._index)
        self.texts = texts(self._index, self._chains)
        self._attributions = Attributions(self._index, self.texts)
        self.plugin = read_plugin_log(
            self._index, self.functions, self._attributions, self.marks(Mark.MACHINE_RESET)
        )
        """What QEMU's TCG plugin saw."""
        self.messages: tuple[AgentMessage, ...] = tuple(
            parse_agent_line(text) for text in self.texts if text.kind == Kind.AGENT
        )
        self.console: tuple[Text, ...] = tuple(text for text in self.texts if text.kind == Kind.CONSOLE)
        self.phases, self.blackouts, self._phase_problems = find_phases(self._evidence())

    # ---------------------------------------------------------------- events

    def of_kind(self, kind: Kind, function: int | None = None) -> Slots:
        """The records of a kind, of one function or of all."""
        return self._index.of_kind(kind, function)

    @property
    def kinds(self) -> npt.NDArray[np.uint16]:
        """Every record's kind."""
        return self._kind

    def of_kinds(self, kinds: Iterable[Kind], function: int | None = None) -> Slots:
        """The records of several kinds, in the order of their slots."""
        return self._index.of_kinds(kinds, function)

    def column(self, name: str, slots: Slots) -> npt.NDArray[np.uint64]:
        """One field of some records, copied: of many at once, with little of the file in memory."""
        values: npt.NDArray[np.uint64] = self._index.column(name, slots)
        return values

    def columns(self, names: Sequence[str], slots: Slots) -> list[npt.NDArray[np.uint64]]:
        """Several fields of some records, copied in one pass over the file."""
        return self._index.columns(names, slots)

    def remember(self, key: Hashable, find: Callable[[], _Found]) -> _Found:
        """What `find` finds in this timeline, found once for each key."""
        if key not in self._remembered:
            self._remembered[key] = find()
        found: _Found = self._remembered[key]
        return found

    def config_writes(self, function: int) -> Slots:
        """What the client wrote to an endpoint's config space."""
        slots = self.of_kind(Kind.REGION_WRITE, function)
        own: Slots = slots[self.column("region", slots) == CONFIG_REGION]
        return own

    @property
    def has_plugin(self) -> bool:
        """Whether QEMU's TCG plugin has witnessed the guest's config writes."""
        return bool(self.plugin.writes)

    def plugin_writes(self, function: int | None = None) -> tuple[PluginWrite, ...]:
        """The config writes that the plugin saw, to one function or to all, in the order of their slots."""
        if function is None:
            return self.plugin.writes
        return self._plugin_writes.get(function, ())

    @cached_property
    def _plugin_writes(self) -> dict[int, tuple[PluginWrite, ...]]:
        found: dict[int, list[PluginWrite]] = {}
        for write in self.plugin.writes:
            if write.function is not None:
                found.setdefault(write.function, []).append(write)
        return {function: tuple(writes) for function, writes in found.items()}

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
        """When the machine's resets began: QMP tells of them after every endpoint was reset."""
        slots = self.of_kind(Kind.RESET)
        slots = slots[self.records["value"][slots] == ResetKind.DEVICE]
        devices, functions = self.t_ns[slots], self._function[slots]
        everyone = {entry.index for entry in self.functions if entry.is_endpoint}
        begins = []
        for mark in self.marks(Mark.MACHINE_RESET):
            is_near = (devices <= mark) & (devices + _RESET_REPORT_NS >= mark)
            is_of_all = everyone <= set(functions[is_near].tolist())  # fewer were reset by a bus, or a slot
            own = devices[is_near].tolist() if is_of_all else []
            begins.append(min([mark, *(t - _RESET_SEQUENCE_NS for t in own)]))
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
            and message.members.get("ok") is True
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
            slots[self.column("region", slots) == CONFIG_REGION]
            for slots in (self.of_kind(Kind.REGION_READ), self.of_kind(Kind.REGION_WRITE))
        ]
        own = writes[self._function[writes] != NO_FUNCTION]
        absent = self.column("error", reads) != 0
        is_root = self.column("region", reads) == 0
        sweep = reads[(self.column("address", reads) == 0) & (absent | is_root)]
        return Evidence(
            messages=self.messages,
            console=self.console,
            acknowledgements_ns=self.marks(Mark.FROZEN_ACKNOWLEDGED),
            accesses_ns=self._sorted_times([reads, writes] if len(writes) else served),
            writes_ns=self._sorted_times([own, served[1]]) if not self.has_plugin else self._stamps(),
            writes_uncertainty_ns=STAMP_NS if self.has_plugin else self.trace_uncertainty_ns,
            jumps_ns=sorted(jump.t_ns for jump in self.plugin.jumps),
            probes_ns=sorted(
                write.t_ns
                for write in self.plugin.writes
                if write.attribution is not None and write.attribution.is_under("pci_device_probe")
            ),
            vendor_sweep_ns=self._sorted_times([sweep]),
            trace_uncertainty_ns=self.trace_uncertainty_ns,
            first_ns=self.first_ns,
            last_ns=self.guest_end_ns,
        )

    def _stamps(self) -> npt.NDArray[np.uint64]:
        """When the plugin saw the guest write to the topology's functions."""
        own = (write.t_ns for write in self.plugin.writes if write.function is not None)
        return np.sort(np.fromiter(own, dtype=np.uint64))

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
            self._histories[key] = None if entry is None else self._shadows.history(function, entry)
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
        return self._shadows.secondary_bus(bridge)

    @cached_property
    def _shadows(self) -> Shadows:
        return Shadows(self, self.agreement, self.marks(Mark.MACHINE_RESET), self.plugin.bus_resets)

    # --------------------------------------------------------- completeness

    @cached_property
    def agreement(self) -> Agreement:
        """How the witnesses of the guest's config writes agree: plugin, trace and server."""
        running = self.marks(Mark.MACHINE_RUNNING)
        return agreement(self, running[0] if running else None, self._clock_step_ns)

    @cached_property
    def _clock_step_ns(self) -> int:
        """How much the offset between the trace's clock and the recording's changed, from start to end."""
        clock = self.trailer.get("clock") or {}
        offsets = clock.get("realtime_minus_monotonic_ns") or [0, 0]
        return abs(offsets[-1] - offsets[0]) if all(isinstance(v, int) for v in offsets) else 0

    @cached_property
    def trace_uncertainty_ns(self) -> int:
        """How far a trace line's time may be wrong: clock drift, QEMU's resolution, what other witnesses show."""
        return self._clock_step_ns + _TRACE_RESOLUTION_NS + self.agreement.clock_error_ns()

    @property
    def bridge_uncertainty_ns(self) -> int:
        """How far the time of a change of a bridge's register may be wrong: the plugin's stamps are exact."""
        return 0 if self.has_plugin else self.trace_uncertainty_ns

    def structural_problems(self) -> list[str]:
        """Why the record cannot be whole, apart from what the bench says about itself."""
        problems = [*self.recording.problems, *self._chains.problems, *self._phase_problems]
        problems += channel_problems(self.messages)
        unknown = sum(
            len(self._index.of_number(kind)) for kind in self._index.kinds if kind not in _KNOWN_KINDS
        )
        if unknown:
            problems.append(f"{unknown} events are of kinds that this version does not know")
        return problems + self._shadows.problems() + self._requester_problems()

    def _requester_problems(self) -> list[str]:
        """Where the BDF in a trace line is not the one derived from bus numbers at that moment."""
        slots = self.of_kinds((Kind.TRACE_READ, Kind.TRACE_WRITE))
        slots = slots[self.column("error", slots) == 0]
        owner = self._function[slots].astype(np.int64)
        bdf = self.column("region", slots).astype(np.int64)
        problems = []
        margin = np.uint64(self.trace_uncertainty_ns if self.has_plugin else 0)
        for entry in self.functions:
            # With a plugin the numbers change at its exact times, and a line's own is only nearly known.
            at = [
                self.bdfs_at(entry.index, times)
                for times in (self.t_ns[slots] - margin, self.t_ns[slots] + margin)
            ]
            derived = np.where(at[0] == bdf, at[0], at[1])
            own = owner == entry.index
            elsewhere = own & (derived >= 0) & (derived != bdf)
            foreign = (owner == NO_FUNCTION) & (at[0] == bdf) & (at[1] == bdf)
            for wrong, what in ((elsewhere, "another function"), (foreign, "no function")):
                if wrong.any():
                    text = bdf_text(int((derived if wrong is elsewhere else bdf)[np.argmax(wrong)]))
                    problems.append(
                        f"{entry.id}: {int(wrong.sum())} trace lines disagree with its bus number "
                        f"({text}, {what})"
                    )
        return problems

    def transactions(self, kind: Kind, function: int) -> Transactions:
        """A function's DMA of a kind, with what most rules ask of it."""
        return self._index.transactions(kind, function)

    def owners(self, kind: Kind) -> list[int]:
        """The functions, by number, that there are records of a kind of."""
        return self._index.owners(kind)

    def is_blocked(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which of some transactions did not reach memory: refused, or without a mapping."""
        return self._index.is_blocked(slots)
