# SPDX-License-Identifier: MIT
"""What each witness of the guest's config writes has put into a recording, function by function."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from pydev.recording.event_index import Slots
from pydev.recording.format import CONFIG_REGION, NO_FUNCTION, Kind, PluginWay, ResetKind
from pydev.recording.functions import FunctionEntry
from pydev.recording.joining import CLOCK_SLACK_NS, Accounts, FunctionAgreement, Write, agree
from pydev.recording.names import register_names
from pydev.recording.plugin import PluginWrite

_CLOCK_SAMPLES_NS: Final = 100_000
"""What the offset between the two clocks is measured to within, and more: it changes by steps alone."""
_RESET_SEQUENCE_NS: Final = 30_000_000
"""QEMU's writes of a reset sequence come no earlier than this before DEVICE_RESET."""
_BARS: Final = range(0x10, 0x28)
_ROM: Final = 0x30
_COMMAND: Final = 0x04
_CONVENTIONAL_BYTES: Final = 0x100


class Events(Protocol):
    """What of a timeline is needed here."""

    t_ns: npt.NDArray[np.uint64]

    @property
    def functions(self) -> tuple[FunctionEntry, ...]:
        """As `Timeline.functions`."""

    @property
    def has_plugin(self) -> bool:
        """As `Timeline.has_plugin`."""

    def of_kind(self, kind: Kind, function: int | None = None) -> Slots:
        """As `Timeline.of_kind`."""

    def of_kinds(self, kinds: Iterable[Kind], function: int | None = None) -> Slots:
        """As `Timeline.of_kinds`."""

    def column(self, name: str, slots: Slots) -> npt.NDArray[np.uint64]:
        """As `Timeline.column`."""

    def config_writes(self, function: int) -> Slots:
        """As `Timeline.config_writes`."""

    def plugin_writes(self, function: int | None = None) -> tuple[PluginWrite, ...]:
        """As `Timeline.plugin_writes`."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the witnesses agree, of the whole recording."""

    functions: Mapping[int, FunctionAgreement]
    """By index of the function."""
    foreign: tuple[FunctionAgreement, ...]
    """Of functions that are not the experiment's, one for each bus/device/function."""
    problems: tuple[str, ...]
    """What concerns no single write."""

    def __getitem__(self, function: int) -> FunctionAgreement:
        """Of one function of the experiment."""
        return self.functions[function]

    def all(self) -> tuple[FunctionAgreement, ...]:
        """Of every function."""
        return (*self.functions.values(), *self.foreign)

    def clock_error_ns(self) -> int:
        """How far the trace's clock may be off, as writes show that the trace and another witness saw."""
        leads = [lead for one in self.all() for lead in one.leads_ns]
        ports = [lag for one in self.all() for lag in one.port_lags_ns]
        windows = [lag for one in self.all() for lag in one.window_lags_ns]
        if ports and (leads or windows):
            # A line comes after the plugin's stamp of a port write, before that of one through the window and
            # before the server's record: the error is between what these allow.
            return max(abs(min(ports)), abs(max([-lead for lead in leads] + windows)))
        if not leads:
            return 0
        # A line precedes the server's own record: a lag is clock error, the usual lead is systematic.
        return max(0, -min(leads)) + abs(int(np.median(leads)))


def agreement(timeline: Events, running_ns: int | None, clock_step_ns: int) -> Agreement:
    """Every witness's account, joined.

    `running_ns` is when QMP said that the machine runs; `clock_step_ns` how much the trace's clock was stepped.
    """
    slack_ns = min(clock_step_ns + _CLOCK_SAMPLES_NS, CLOCK_SLACK_NS)
    accounts = [_accounts(timeline, entry, running_ns) for entry in timeline.functions]
    functions = {
        entry.index: _agree(a, slack_ns) for entry, a in zip(timeline.functions, accounts, strict=True)
    }
    foreign = tuple(_agree(one, slack_ns) for one in _foreign(timeline))
    return Agreement(functions, foreign, tuple(_problems(timeline)))


def _agree(accounts: Accounts, slack_ns: int) -> FunctionAgreement:
    return agree(replace(accounts, clock_slack_ns=slack_ns))


def _accounts(timeline: Events, entry: FunctionEntry, running_ns: int | None) -> Accounts:
    return Accounts(
        function=entry.index,
        names=register_names(entry),
        has_server=entry.is_endpoint,
        plugin=timeline.plugin_writes(entry.index) if timeline.has_plugin else None,
        trace=_trace(timeline, timeline.of_kind(Kind.TRACE_WRITE, entry.index)),
        server=_server(timeline, entry, running_ns) if entry.is_endpoint else (),
    )


def _trace(timeline: Events, slots: Slots) -> list[Write]:
    columns = (timeline.column(name, slots).tolist() for name in ("t_ns", "address", "value", "region"))
    return [
        Write(t_ns, slot, offset, value, bdf=bdf)
        for slot, t_ns, offset, value, bdf in zip(slots.tolist(), *columns, strict=True)
    ]


def _server(timeline: Events, entry: FunctionEntry, running_ns: int | None) -> list[Write]:
    slots = timeline.config_writes(entry.index)
    own = _reset_writes(timeline, entry)
    columns = (timeline.column(name, slots).tolist() for name in ("t_ns", "address", "value", "size"))
    return [
        Write(
            t_ns,
            slot,
            offset,
            value,
            width,
            is_qemus=slot in own or (running_ns is not None and t_ns < running_ns),
        )
        for slot, t_ns, offset, value, width in zip(slots.tolist(), *columns, strict=True)
    ]


def _reset_writes(timeline: Events, entry: FunctionEntry) -> set[int]:
    """The config writes inside the client's reset sequences, walked outwards from each DEVICE_RESET."""
    kinds = (Kind.IRQ_SETUP, Kind.RESET)
    parts = [timeline.of_kind(kind, entry.index) for kind in kinds]
    slots = np.sort(np.concatenate([*parts, timeline.config_writes(entry.index)]))
    names = ("kind", "address", "value", "t_ns")
    rows = list(zip(*(timeline.column(name, slots).tolist() for name in names), strict=True))
    pmcsr = entry.registers.get("PMCSR")
    before = {_COMMAND, *((pmcsr.offset,) if pmcsr is not None else ())}
    found: set[int] = set()
    for position, (kind, _, value, t_ns) in enumerate(rows):
        if kind != Kind.RESET or value != ResetKind.DEVICE:
            continue
        disables = False
        backwards: dict[int, int] = {}
        for at in range(position - 1, -1, -1):
            if rows[at][0] == Kind.IRQ_SETUP:
                disables = True
                found |= backwards.keys()
            elif rows[at][0] == Kind.REGION_WRITE and rows[at][1] in before and not disables:
                backwards[int(slots[at])] = rows[at][3]
            else:
                break
        if not disables:  # a function without an interrupt set up has none to disable: a bus reset of such
            found |= {slot for slot, when in backwards.items() if when >= t_ns - _RESET_SEQUENCE_NS}
        for at in range(position + 1, len(rows)):
            kind, offset, written, _ = rows[at]
            if kind == Kind.REGION_WRITE and (offset in _BARS or offset == _ROM) and written == 0:
                found.add(int(slots[at]))
            elif kind != Kind.IRQ_SETUP:
                break
    return found


def _foreign(timeline: Events) -> Iterable[Accounts]:
    """The writes to functions that are not the experiment's; without a plugin they have one witness."""
    if not timeline.has_plugin:
        return
    slots = timeline.of_kind(Kind.TRACE_WRITE)
    known = np.array([entry.index for entry in timeline.functions], dtype=np.uint64)
    traced: dict[int | None, list[Write]] = {}
    for write in _trace(timeline, slots[~np.isin(timeline.column("function", slots), known)]):
        traced.setdefault(write.bdf, []).append(write)
    seen: dict[int | None, list[PluginWrite]] = {}
    for one in timeline.plugin_writes():
        if one.function is None:
            seen.setdefault(one.bdf, []).append(one)
    present = _present(timeline)
    for bdf in sorted(traced.keys() | seen.keys(), key=lambda number: number or 0):
        plugin, trace = seen.get(bdf, []), traced.get(bdf, [])
        yield Accounts(
            function=None,
            names=register_names(None),
            has_server=False,
            plugin=plugin,
            trace=trace,
            is_untraced=_untraced(plugin, trace, is_present=bdf in present),
        )


def _present(timeline: Events) -> set[int]:
    """Foreign functions that answered a read of their vendor ID."""
    slots = timeline.of_kind(Kind.TRACE_READ, NO_FUNCTION)
    slots = slots[timeline.column("error", slots) == 0]
    return set(np.unique(timeline.column("region", slots)).tolist())


def _untraced(
    plugin: Sequence[PluginWrite], trace: Sequence[Write], *, is_present: bool
) -> Mapping[int, bool]:
    """Which of the plugin's writes QEMU has no line for.

    These go through the window to an absent function, or beyond the end of a small config space, or to a function
    without power (QEMU hw/pci/pcie_host.c pcie_mmcfg_data_write, hw/pci/pci_host.c pci_host_config_write_common).
    """
    is_large = any(write.offset >= _CONVENTIONAL_BYTES for write in trace)
    return {
        position: write.is_dark or not is_present or (write.offset >= _CONVENTIONAL_BYTES and not is_large)
        for position, write in enumerate(plugin)
        if write.is_dark or write.way == PluginWay.ECAM
    }


def _problems(timeline: Events) -> Iterable[str]:
    """Accounts that are damaged as such: order within one witness, records of functions that nobody plays."""
    writes = timeline.of_kind(Kind.REGION_WRITE)
    writes = writes[timeline.column("region", writes) == CONFIG_REGION]
    for slots, whose in (
        (timeline.of_kinds((Kind.TRACE_READ, Kind.TRACE_WRITE)), "the trace's config accesses"),
        (writes, "the server's config writes"),
    ):
        if (np.diff(timeline.t_ns[slots].astype(np.int64)) < 0).any():
            yield f"the clock went backwards among {whose}"
    endpoints = np.array([entry.index for entry in timeline.functions if entry.is_endpoint], dtype=np.uint64)
    strangers = int(np.count_nonzero(~np.isin(timeline.column("function", writes), endpoints)))
    if strangers:
        yield f"the server recorded {strangers} config writes of functions that it does not play"
