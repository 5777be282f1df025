# SPDX-License-Identifier: MIT
"""A live update told as a recording, without QEMU: whole, clean, and easy to spoil in one place.

The default story is a kernel that keeps a preserved endpoint alive: nothing in it may fail. A test removes,
adds or changes events (`Event.tag` names the interesting ones) and writes the file. What the guest "finds" in
its pages is worked out from the story's DMA when the file is written, unless a test spoils that too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.endpoints.payload import PAGE_BYTES, SLOT_BYTES, SLOTS_PER_PAGE, slot_words
from pydev.ports import Gate
from pydev.recording.format import CONFIG_REGION, NO_FUNCTION, Flag, Kind, Mark
from pydev.recording.writer import RecordingBuilder
from pydev.testkit.story_agent import agent_line as agent_line
from pydev.testkit.story_agent import check_members as check_members
from pydev.testkit.story_dumps import fill_dumps, tell_dump
from pydev.testkit.story_header import BUS_ABOVE as BUS_ABOVE
from pydev.testkit.story_header import BUSES as BUSES
from pydev.testkit.story_header import DEVFN as DEVFN
from pydev.testkit.story_header import DN1 as DN1
from pydev.testkit.story_header import EP0 as EP0
from pydev.testkit.story_header import EP1 as EP1
from pydev.testkit.story_header import EP_ACS as EP_ACS
from pydev.testkit.story_header import EP_DEVCTL as EP_DEVCTL
from pydev.testkit.story_header import EP_LNKCTL as EP_LNKCTL
from pydev.testkit.story_header import FRAMES as FRAMES
from pydev.testkit.story_header import MSIX_CONTROL as MSIX_CONTROL
from pydev.testkit.story_header import PERIOD_NS as PERIOD_NS
from pydev.testkit.story_header import PMCSR as PMCSR
from pydev.testkit.story_header import RP1 as RP1
from pydev.testkit.story_header import RP2 as RP2
from pydev.testkit.story_header import UP1 as UP1
from pydev.testkit.story_header import functions as functions
from pydev.testkit.story_header import offset as offset

MS: Final = 1_000_000
BEGIN_NS: Final = 1_000_000_000_000
STREAM_BEGIN, FROZEN, SHUTDOWN, SWEEP, UPDATED, STOP, FINISHED, EXIT = 125, 160, 170, 200, 250, 280, 290, 300
_TRACE_LEAD_NS: Final = 80_000
RAM_BYTES: Final = 256 << 20
RAM_OFFSET: Final = 0
DOORBELL: Final = 0x2C
"""Of the stream endpoint's BAR 0."""


@dataclass(slots=True)
class Event:
    """One event; `members` for an agent line, `line` for a console line, else the record's `fields`."""

    t_ns: int
    kind: Kind
    fields: dict[str, int] = field(default_factory=dict)
    members: dict[str, Any] | None = None
    line: str | None = None
    tag: str = ""
    slot_ns: int | None = None
    """When its slot was claimed, if its stamp is to say something else."""

    @property
    def claimed_ns(self) -> int:
        """What orders it among the others in the file."""
        return self.t_ns if self.slot_ns is None else self.slot_ns

    @property
    def is_trace(self) -> bool:
        """Whether it comes from QEMU's trace, which is appended when the run is over."""
        return self.kind in (Kind.TRACE_READ, Kind.TRACE_WRITE)


def at(ms: float) -> int:
    """A moment of the story, as the recording has it."""
    return BEGIN_NS + round(ms * MS)


class Story:
    """The events of one live update, in any order; sorted and numbered when written."""

    def __init__(self, *, preserve: bool = True, stream: bool = True) -> None:
        self.events: list[Event] = []
        self.trailer: dict[str, Any] = {
            "closed_ns": at(EXIT + 1),
            "incomplete": [],
            "clock": {
                "realtime_minus_monotonic_ns": [5, 25],
                "residual_median_ns": _TRACE_LEAD_NS,
                "residual_max_ns": 90_000,
                "step_ns": 20,
            },
            "kernels": {"outgoing": "7.4.0", "incoming": "7.4.0"},
        }
        self.header: dict[str, Any] = {
            "schema": 1,
            "luscope": "0.1.0",
            "started_ns": BEGIN_NS,
            "functions": functions(preserve=preserve, stream=stream),
            "experiment": {"name": "story", "description": "a live update as it should be", "updates": 1},
        }
        self.spoil_memory: Callable[[npt.NDArray[np.uint64]], None] | None = None
        """Changes what the guest finds in its pages, shape (slots, 8), before it reports."""
        self._config = {
            entry["index"]: bytearray.fromhex(entry["config"])
            for entry in self.header["functions"]
            if "config" in entry
        }
        self._tell(has_stream=stream)

    # ------------------------------------------------------------- spoiling

    def remove(self, unwanted: Callable[[Event], bool]) -> int:
        """Take events out; returns how many."""
        before = len(self.events)
        self.events = [event for event in self.events if not unwanted(event)]
        return before - len(self.events)

    def remove_tag(self, tag: str) -> None:
        """Take out the events of a tag, of which there has to be one."""
        assert self.remove(lambda event: event.tag == tag), f"the story has no {tag!r}"

    def tagged(self, tag: str) -> list[Event]:
        """The events of a tag."""
        return [event for event in self.events if event.tag == tag]

    def writes(self) -> list[Event]:
        """The preserved stream's transactions, in order."""
        return [event for event in self.events if event.tag == "dma"]

    def block(self, begin_ms: float, end_ms: float, reason: Gate) -> None:
        """Have the stream's transactions of a span refused, with the gate's own records around it."""
        for event in self.writes():
            if at(begin_ms) <= event.t_ns < at(end_ms):
                event.fields |= {"flags": Flag.STREAM | Flag.BLOCKED, "error": int(reason)}
        self.add(begin_ms, Kind.GATE, function=EP0, extra=0, aux=int(reason))
        self.add(end_ms, Kind.GATE, function=EP0, extra=int(reason), aux=0)

    def reconnect(self) -> None:
        """Make each config write's value before what the one before it has left, after writes were added."""
        images = {
            entry["index"]: bytearray.fromhex(entry["config"])
            for entry in self.header["functions"]
            if "config" in entry
        }
        for event in sorted(self.events, key=lambda e: e.t_ns):
            is_written = event.kind == Kind.REGION_WRITE and event.fields.get("region") == CONFIG_REGION
            if is_written or event.kind == Kind.CONFIG_UPDATE:
                image, at, size = (event.fields[name] for name in ("function", "address", "size"))
                held = images[image]
                event.fields["extra"] = int.from_bytes(held[at : at + size], "little")
                held[at : at + size] = event.fields["aux"].to_bytes(size, "little")

    # -------------------------------------------------------------- telling

    def add(self, ms: float, kind: Kind, *, tag: str = "", **fields: int) -> Event:
        """A plain event at a moment of the story."""
        event = Event(at(ms), kind, {"function": NO_FUNCTION} | fields, tag=tag)
        self.events.append(event)
        return event

    def mark(self, ms: float, mark: Mark, tag: str = "") -> None:
        """A mark of the bench."""
        self.add(ms, Kind.MARK, value=int(mark), tag=tag)

    def console(self, ms: float, line: str, tag: str = "") -> None:
        """A console line."""
        self.events.append(Event(at(ms), Kind.CONSOLE, line=line, tag=tag))

    def agent(self, ms: float, tag: str = "", **members: Any) -> None:
        """A line of the guest's; `seq` and `crc` are added when it is written."""
        self.events.append(Event(at(ms), Kind.AGENT, {"flags": 0}, members, tag=tag))

    def host(self, ms: float, cmd: str, tag: str = "", **members: Any) -> None:
        """A line of the host's."""
        fields = {"flags": int(Flag.TO_GUEST)}
        self.events.append(Event(at(ms), Kind.AGENT, fields, {"cmd": cmd, **members}, tag=tag))

    def trace(
        self, ms: float, function: int, offset: int, value: int, *, write: bool = True, tag: str = ""
    ) -> None:
        """A line of QEMU's trace."""
        bdf = BUS_ABOVE[function] << 8 | DEVFN[function]
        kind = Kind.TRACE_WRITE if write else Kind.TRACE_READ
        self.add(ms, kind, function=function, address=offset, value=value, region=bdf, tag=tag)

    def server(
        self,
        ms: float,
        function: int,
        offset: int,
        value: int,
        size: int,
        *,
        after: int | None,
        tag: str = "",
    ) -> None:
        """The server's record of a config write; `after` is what the bytes then hold (default: the value)."""
        image = self._config[function]
        before = int.from_bytes(image[offset : offset + size], "little")
        held = value if after is None else after
        image[offset : offset + size] = held.to_bytes(size, "little")
        fields = {"region": CONFIG_REGION, "address": offset, "size": size, "value": value}
        self.add(ms, Kind.REGION_WRITE, function=function, extra=before, aux=held, tag=tag, **fields)

    def write(
        self,
        ms: float,
        function: int,
        offset: int,
        value: int,
        size: int = 2,
        *,
        after: int | None = None,
        tag: str = "",
    ) -> None:
        """A guest's config write as both witnesses see it; a bridge's is only traced."""
        self.trace(ms - _TRACE_LEAD_NS / MS, function, offset, value, tag=tag)
        if function in self._config:
            self.server(ms, function, offset, value, size, after=after, tag=tag)

    def update(self, ms: float, function: int, offset: int, value: int, tag: str = "") -> None:
        """A dword that the endpoint changes by itself; `reconnect` says from what."""
        fields = {"region": CONFIG_REGION, "address": offset, "size": 4}
        self.add(ms, Kind.CONFIG_UPDATE, function=function, extra=0, aux=value, tag=tag, **fields)

    def _tell(self, *, has_stream: bool) -> None:
        self.mark(0, Mark.QEMU_STARTED)
        for endpoint in (EP0, EP1):
            self.add(1, Kind.CLIENT, function=endpoint, value=1)
            self.server(2, endpoint, 0x30, 0xFFFFF800, 4, after=0, tag="realize")
            ram = {"value": RAM_BYTES, "aux": 3, "flags": int(Flag.HAS_FD), "extra": RAM_OFFSET}
            self.add(1.5, Kind.DMA_MAP, function=endpoint, address=0, tag="ram", **ram)
            self.add(299.5, Kind.CLIENT, function=endpoint, value=0, tag="client gone")
        self.mark(5, Mark.MACHINE_RUNNING, "running")
        for tick in range(6, EXIT):
            self.add(tick + 0.02, Kind.REFERENCE, value=tick, extra=at(tick), tag="reference")
        self._firmware()
        self._outgoing(has_stream=has_stream)
        self._incoming()
        self.mark(EXIT, Mark.QEMU_EXITED)
        if has_stream:
            self._stream()

    def _firmware(self) -> None:
        for number, (bridge, (primary, secondary, subordinate)) in enumerate(BUSES.items()):
            ms = 10 + number
            self.trace(ms, bridge, 0x18, 0, write=False)
            self.trace(ms + 0.1, bridge, 0x18, primary)
            self.trace(ms + 0.2, bridge, 0x19, secondary)
            self.trace(ms + 0.3, bridge, 0x1A, subordinate)
            self.trace(ms + 0.4, bridge, 0x04, 0x107)
        self.trace(30, RP1, offset(RP1, "ACS_CONTROL"), 0x1D)
        self.trace(31, DN1, offset(DN1, "DEVCTL2"), 0x20)
        self.write(32, EP0, EP_ACS, 0x0C)
        for number, endpoint in enumerate((EP0, EP1)):
            self.write(20 + number, endpoint, 0x10, 0xFE000000 + 0x4000 * number, 4)
            self.write(20.5 + number, endpoint, 0x04, 0x103)

    def _outgoing(self, *, has_stream: bool) -> None:
        self.agent(
            100,
            "hello",
            event="hello",
            release="7.4.0",
            incoming=False,
            liveupdate=True,
            update=0,
            boot_id="a",
        )
        self.host(110, "session", name="s")
        self.agent(111, re=1, ok=True)
        self.host(112, "buffer", bdf="0000:03:00.0", pages=len(FRAMES), token=26, preserve=1)
        self.agent(
            115,
            "preserve",
            re=2,
            ok=True,
            report="preserve",
            bdf="0000:03:00.0",
            token=26,
            ranges=_ranges(),
            driver=True,
        )
        self.write(118, EP1, 0x04, 0x107, tag="control on")
        self.write(120, EP0, MSIX_CONTROL, 0x8003, tag="msix on")
        self.write(121, EP0, 0x04, 0x106, tag="bme on")
        self.add(121, Kind.GATE, function=EP0, extra=int(Gate.BUS_MASTER_OFF), aux=0)
        if has_stream:
            fields = {"size": len(FRAMES) * SLOTS_PER_PAGE, "extra": PERIOD_NS, "region": 0, "function": EP0}
            self.add(
                STREAM_BEGIN, Kind.ENGINE, value=1, address=FRAMES[0] << 12, aux=1, tag="start", **fields
            )
            for number, frame in enumerate(FRAMES):
                page = {"value": number, "address": frame << 12, "size": PAGE_BYTES}
                self.add(STREAM_BEGIN, Kind.ENGINE_PAGE, function=EP0, region=0, tag="start", **page)
            self.add(STOP + 1.5, Kind.ENGINE, value=0, address=FRAMES[0] << 12, aux=158, tag="stop", **fields)
        self.host(150, "freeze")
        self.agent(151, re=3, ok=True)
        self.agent(FROZEN, "frozen", event="frozen")
        tell_dump(self, FROZEN + 0.1)
        self.mark(FROZEN + 0.5, Mark.FROZEN_ACKNOWLEDGED, "frozen ack")
        self.host(FROZEN + 0.6, "frozen_ack")
        # What a kernel that preserves does at shutdown: nothing to ep0 and its path; ep1 is not preserved.
        self.write(SHUTDOWN, EP1, 0x04, 0x103, tag="shutdown")
        self.trace(SHUTDOWN + 5, RP2, 0x04, 0x103, tag="shutdown")

    def _incoming(self) -> None:
        self.add(SWEEP, Kind.TRACE_READ, address=0, region=0, value=0x29C08086, tag="sweep")
        self.add(SWEEP + 1, Kind.TRACE_READ, address=0, region=0x18, value=0xFFFFFFFF, error=1, tag="sweep")
        self.console(SWEEP - 10, "[    0.000000] KHO: found kexec handover data.", "handover")
        self.console(
            SWEEP - 9, "[    0.010000] luo: Retrieved live update data, liveupdate number: 1", "retrieved"
        )
        for number, (bridge, buses) in enumerate(BUSES.items()):
            dword = buses[0] | buses[1] << 8 | buses[2] << 16
            self.trace(SWEEP + 2 + number, bridge, 0x18, dword, write=False, tag=f"read buses {bridge}")
        for number, endpoint in enumerate((EP0, EP1)):
            ms = SWEEP + 10 + number
            held = int.from_bytes(self._config[endpoint][0x04:0x06], "little")
            bar = 0xFE000000 + 0x4000 * number
            self.write(ms, endpoint, 0x04, held & ~2, tag="sizing")
            self.write(ms + 0.2, endpoint, 0x10, 0xFFFFFFFF, 4, after=0xFFFFC000, tag="sizing")
            self.write(ms + 0.4, endpoint, 0x10, bar, 4, tag=f"bar back {endpoint}")
            self.write(ms + 0.6, endpoint, 0x04, held, tag="sizing")
        self.write(SWEEP + 20, EP0, MSIX_CONTROL, 0x0003, tag="msix off")
        self.console(230, "[    0.700000] pcieport 0000:00:01.0: PME: Signaling with IRQ 24", "probe")
        hello = {"release": "7.4.0", "incoming": True, "liveupdate": True, "update": 1, "boot_id": "b"}
        self.agent(UPDATED, "incoming hello", event="hello", **hello)
        buffer: dict[str, Any] = {"bdf": "0000:03:00.0", "token": 26}
        self.host(251, "retrieve", session="s", pages=len(FRAMES), **buffer)
        tell_dump(self, UPDATED + 0.5)
        self.agent(255, "retrieve", re=1, ok=True, report="retrieve", ranges=_ranges(), driver=True, **buffer)
        self.write(256, EP0, MSIX_CONTROL, 0x8003, tag="msix anew")
        self.add(
            256.2, Kind.IRQ_SETUP, function=EP0, region=2, address=0, size=2, extra=2, tag="vectors anew"
        )
        self.host(STOP, "stop", "order stop", bdf="0000:03:00.0")
        self.agent(STOP + 2, re=2, ok=True, sequence=157)
        self.host(STOP + 3, "check", bdf="0000:03:00.0")
        self.agent(STOP + 5, "check", re=3, ok=True, report="check", bdf="0000:03:00.0")
        self.host(STOP + 6, "finish", session="s")
        ring = {"region": 0, "address": DOORBELL, "size": 4, "value": 1}
        self.add(FINISHED - 1, Kind.REGION_WRITE, function=EP0, tag="doorbell", **ring)
        raised = {"region": 2, "address": 1, "value": 1}
        self.add(FINISHED - 0.9, Kind.INTERRUPT, function=EP0, tag="catch-up", **raised)
        self.agent(FINISHED, "finish", re=4, ok=True, report="finish", session="s")
        tell_dump(self, FINISHED + 0.5)

    def _stream(self) -> None:
        ring = len(FRAMES) * SLOTS_PER_PAGE
        for sequence in range(1, STOP + 2 - STREAM_BEGIN):
            slot = (sequence - 1) % ring
            address = (FRAMES[slot // SLOTS_PER_PAGE] << 12) + SLOT_BYTES * (slot % SLOTS_PER_PAGE)
            fields = {
                "size": SLOT_BYTES,
                "address": address,
                "value": sequence,
                "extra": 1,
                "flags": int(Flag.STREAM),
            }
            self.add(STREAM_BEGIN + sequence - 1 + 0.01, Kind.DMA_WRITE, function=EP0, tag="dma", **fields)

    # -------------------------------------------------------------- writing

    def to_bytes(self) -> bytes:
        """The recording's bytes."""
        self._number_payloads()
        self._fill_checks()
        fill_dumps(self)
        builder = RecordingBuilder(self.header)
        lines = sorted((e for e in self.events if not e.is_trace), key=lambda event: event.claimed_ns)
        sequence = {True: 0, False: 0}
        for event in lines:
            self._append(builder, event, sequence)
        traced = sorted((e for e in self.events if e.is_trace), key=lambda event: event.t_ns)
        for event in traced:
            builder.append(event.kind, t_ns=event.t_ns, **event.fields)
        writes = sum(event.kind == Kind.TRACE_WRITE for event in traced)
        return builder.to_bytes({"trace": {"lines": len(traced), "writes": writes}} | self.trailer)

    def save(self, path: Path) -> Path:
        """Write the recording; returns its path."""
        path.write_bytes(self.to_bytes())
        return path

    def _append(self, builder: RecordingBuilder, event: Event, sequence: dict[bool, int]) -> None:
        if event.line is not None:
            builder.append_text(Kind.CONSOLE, event.line.encode(), t_ns=event.t_ns)
        elif event.members is not None:
            to_guest = bool(event.fields["flags"] & Flag.TO_GUEST)
            if event.members.get("event") == "hello":
                sequence[True] = sequence[False] = 0
            sequence[to_guest] += 1
            text = agent_line({"seq": sequence[to_guest], **event.members})
            builder.append_text(Kind.AGENT, text, t_ns=event.t_ns, flags=event.fields["flags"])
        else:
            builder.append(event.kind, t_ns=event.t_ns, **event.fields)

    def _number_payloads(self) -> None:
        """Give each stream write the checksum word that the engine would have recorded."""
        writes = self.writes()
        if writes:
            words = _words(writes)
            for event, checksum in zip(writes, words[:, 6].tolist(), strict=True):
                event.fields.setdefault("aux", checksum)

    def _fill_checks(self) -> None:
        """What the guest finds: the story's own DMA, as far as it was not refused and went to its pages."""
        begin_ns = 0
        for report in sorted(self.tagged("check"), key=lambda event: event.t_ns):
            if report.members is not None and "slots" not in report.members:
                report.members |= check_members(self._memory(begin_ns, report.t_ns))
            begin_ns = report.t_ns

    def _memory(self, begin_ns: int, end_ns: int) -> npt.NDArray[np.uint64]:
        """What lies in the pages at the end of a span in which they were made."""
        memory = np.zeros((len(FRAMES) * SLOTS_PER_PAGE, 8), dtype=np.uint64)
        for event in sorted(self.writes(), key=lambda e: e.t_ns):
            frame, in_page = divmod(event.fields["address"], PAGE_BYTES)
            is_good = frame in FRAMES and not event.fields["flags"] & Flag.BLOCKED
            if is_good and begin_ns < event.t_ns <= end_ns:
                memory[FRAMES.index(frame) * SLOTS_PER_PAGE + in_page // SLOT_BYTES] = _words([event])[0]
        if self.spoil_memory is not None:
            self.spoil_memory(memory)
        return memory


def _words(writes: Iterable[Event]) -> npt.NDArray[np.uint64]:
    rows = [(e.t_ns, e.fields["extra"], e.fields["address"], e.fields["value"]) for e in writes]
    columns = np.array(rows, dtype=np.uint64).T
    return slot_words(columns[0], columns[1], columns[2], columns[3], len(FRAMES) * SLOTS_PER_PAGE)


def _ranges() -> list[list[int]]:
    return [[frame, 1] for frame in FRAMES]
