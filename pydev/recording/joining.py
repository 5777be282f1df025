# SPDX-License-Identifier: MIT
"""Joins QEMU's trace of an endpoint's config writes to the server's own record of them.

Each is the other's witness. QEMU's own writes have no trace line: they are expected before the machine runs
and inside a reset sequence (interrupts disabled, COMMAND and PMCSR, DEVICE_RESET, BARs zeroed), nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from pydev.recording.format import Kind, ResetKind
from pydev.recording.functions import FunctionEntry
from pydev.recording.reader import Records

if TYPE_CHECKING:
    from pydev.recording.timeline import Slots

_CLOCK_SLACK_NS: Final = 2_000_000
"""A server's record may seem to precede its trace line by no more than this: two clocks, joined."""
_RESET_SEQUENCE_NS: Final = 5_000_000
"""QEMU's writes of a reset sequence come no earlier than this before DEVICE_RESET."""
_LOOKAHEAD: Final = 64
_BARS: Final = range(0x10, 0x28)
_ROM: Final = 0x30
_COMMAND: Final = 0x04


class Events(Protocol):
    """What of a timeline is needed here."""

    records: Records
    t_ns: npt.NDArray[np.uint64]

    def of_kind(self, kind: Kind, function: int | None = None) -> "Slots":
        """As `Timeline.of_kind`."""

    def config_writes(self, function: int) -> "Slots":
        """As `Timeline.config_writes`."""


@dataclass(slots=True)
class Write:
    """One config write, as one witness saw it."""

    t_ns: int
    offset: int
    value: int
    size: int
    """0 in the trace."""
    is_qemus: bool = False
    """QEMU itself may have made it."""

    def same(self, other: "Write") -> bool:
        """Whether both saw the same access."""
        size = self.size or other.size or 4
        mask = (1 << 8 * size) - 1
        return self.offset == other.offset and self.value & mask == other.value & mask


@dataclass(slots=True)
class TraceJoin:
    """How the two witnesses of an endpoint agree."""

    trace_count: int = 0
    server_count: int = 0
    leads_ns: list[int] = field(default_factory=list)
    """Server's time minus trace's, for each write that both saw."""
    problems: list[str] = field(default_factory=list)


def join_endpoint(timeline: Events, entry: FunctionEntry, running_ns: int | None) -> TraceJoin:
    """Match each trace write of an endpoint, in order, with the server's record of it."""
    slots = timeline.of_kind(Kind.TRACE_WRITE, entry.index)
    columns = (timeline.records[name][slots].tolist() for name in ("t_ns", "address", "value"))
    trace = [Write(t, offset, value, 0) for t, offset, value in zip(*columns, strict=True)]
    server = _server_writes(timeline, entry, running_ns)
    join = TraceJoin(len(trace), len(server))
    _match(trace, server, join)
    return join


def _server_writes(timeline: Events, entry: FunctionEntry, running_ns: int | None) -> list[Write]:
    slots = timeline.config_writes(entry.index)
    names = ("t_ns", "address", "value", "size")
    columns = (timeline.records[name][slots].tolist() for name in names)
    writes = [Write(*row) for row in zip(*columns, strict=True)]
    own = _reset_writes(timeline, entry)
    for slot, write in zip(slots.tolist(), writes, strict=True):
        write.is_qemus = slot in own or (running_ns is not None and write.t_ns < running_ns)
    return writes


def _reset_writes(timeline: Events, entry: FunctionEntry) -> set[int]:
    """The config writes inside the client's reset sequences, walked outwards from each DEVICE_RESET."""
    kinds = (Kind.IRQ_SETUP, Kind.RESET)
    parts = [timeline.of_kind(kind, entry.index) for kind in kinds]
    slots = np.sort(np.concatenate([*parts, timeline.config_writes(entry.index)]))
    names = ("kind", "address", "value", "t_ns")
    rows = list(zip(*(timeline.records[name][slots].tolist() for name in names), strict=True))
    pmcsr = entry.registers.get("PMCSR")
    before = {_COMMAND, *((pmcsr.offset,) if pmcsr is not None else ())}
    found: set[int] = set()
    for position, (kind, _, value, t_ns) in enumerate(rows):
        if kind != Kind.RESET or value != ResetKind.DEVICE:
            continue
        disables = False
        backwards: set[int] = set()
        for at in range(position - 1, -1, -1):
            if rows[at][0] == Kind.IRQ_SETUP:
                disables = True
                found |= backwards
            elif rows[at][0] == Kind.REGION_WRITE and rows[at][1] in before and not disables:
                backwards.add(int(slots[at]))
            else:
                break
        if not disables:  # a function without an interrupt set up has none to disable: a bus reset of such
            found |= {
                slot for slot in backwards if int(timeline.records["t_ns"][slot]) >= t_ns - _RESET_SEQUENCE_NS
            }
        for at in range(position + 1, len(rows)):
            kind, offset, written, _ = rows[at]
            if kind == Kind.REGION_WRITE and (offset in _BARS or offset == _ROM) and written == 0:
                found.add(int(slots[at]))
            elif kind != Kind.IRQ_SETUP:
                break
    return found


def _match(trace: Sequence[Write], server: Sequence[Write], join: TraceJoin) -> None:
    at = 0
    for number, line in enumerate(trace):
        while at < len(server) and server[at].t_ns + _CLOCK_SLACK_NS < line.t_ns and server[at].is_qemus:
            at += 1
        found = next((n for n in range(at, min(at + _LOOKAHEAD, len(server))) if server[n].same(line)), None)
        if found is None or _is_later_line(trace, number, server[at:found]):
            join.problems.append(
                f"the server did not record the guest's write @{line.offset:#x} <- {line.value:#x}"
            )
            continue
        for extra in server[at:found]:
            _report_extra(extra, join)
        join.leads_ns.append(server[found].t_ns - line.t_ns)
        at = found + 1
    for extra in server[at:]:
        _report_extra(extra, join)


def _is_later_line(trace: Sequence[Write], number: int, skipped: Sequence[Write]) -> bool:
    """Whether what would be skipped belongs to the lines that follow: then this line's record is missing."""
    unexplained = [write for write in skipped if not write.is_qemus]
    following = trace[number + 1 : number + 1 + len(unexplained)]
    return (
        bool(unexplained)
        and bool(following)
        and all(a.same(b) for a, b in zip(unexplained, following, strict=False))
    )


def _report_extra(write: Write, join: TraceJoin) -> None:
    if not write.is_qemus:
        join.problems.append(
            f"the trace has no line for the server's write of {write.size} bytes "
            f"@{write.offset:#x} <- {write.value:#x}"
        )
