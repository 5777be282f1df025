# SPDX-License-Identifier: MIT
"""A live update told as a recording, without QEMU: whole, clean, and easy to spoil in one place.

The default story is a kernel that keeps a preserved endpoint alive: nothing in it may fail. A test removes,
adds or changes events (`Event.tag` names the interesting ones) and writes the file. What the guest "finds" in
its pages is worked out from the story's DMA when the file is written, unless a test spoils that too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydev.ports import Gate
from pydev.recording.format import CONFIG_REGION, NO_FUNCTION, Flag, Kind, Mark
from pydev.testkit.story_agent import agent_line as agent_line
from pydev.testkit.story_agent import check_members as check_members
from pydev.testkit.story_event import BEGIN_NS as BEGIN_NS
from pydev.testkit.story_event import DOORBELL as DOORBELL
from pydev.testkit.story_event import EXIT as EXIT
from pydev.testkit.story_event import FINISHED as FINISHED
from pydev.testkit.story_event import FROZEN as FROZEN
from pydev.testkit.story_event import HELLO, TRACE_LEAD_NS
from pydev.testkit.story_event import JUMP as JUMP
from pydev.testkit.story_event import MS as MS
from pydev.testkit.story_event import RAM_BYTES as RAM_BYTES
from pydev.testkit.story_event import RAM_OFFSET as RAM_OFFSET
from pydev.testkit.story_event import SHUTDOWN as SHUTDOWN
from pydev.testkit.story_event import STOP as STOP
from pydev.testkit.story_event import STREAM_BEGIN as STREAM_BEGIN
from pydev.testkit.story_event import SWEEP as SWEEP
from pydev.testkit.story_event import UPDATED as UPDATED
from pydev.testkit.story_event import Event as Event
from pydev.testkit.story_event import at as at
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
from pydev.testkit.story_header import left_by_write
from pydev.testkit.story_header import offset as offset
from pydev.testkit.story_plugin import NO_PLUGIN, PLUGIN, origin, stamps
from pydev.testkit.story_stacks import DRIVER, ENUMERATION, SHUTDOWN_STACK, Writer, writer_of
from pydev.testkit.story_telling import tell
from pydev.testkit.story_writing import to_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Story:
    """The events of one live update, in any order; sorted and numbered when written.

    `plugin` False is a run whose accelerator has no plugins: bridges then have one witness, and nobody knows who
    wrote.
    """

    def __init__(self, *, preserve: bool = True, stream: bool = True, plugin: bool = True) -> None:
        self.events: list[Event] = []
        self.has_plugin = plugin
        self.trailer: dict[str, Any] = {
            "closed_ns": at(EXIT + 1),
            "incomplete": [],
            "clock": {
                "realtime_minus_monotonic_ns": [5, 25],
                "residual_median_ns": TRACE_LEAD_NS,
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
            "attribution": dict(PLUGIN if plugin else NO_PLUGIN),
            "experiment": {"name": "story", "description": "a live update as it should be", "updates": 1},
        }
        self.spoil_memory: Callable[[npt.NDArray[np.uint64]], None] | None = None
        """Changes what the guest finds in its pages, shape (slots, 8), before it reports."""
        self.set_by_ports: list[tuple[int, int, str, int]] = []
        """When which port sets which bits of which register by itself, as dumps then show."""
        self._config = {
            entry["index"]: bytearray.fromhex(entry["config"])
            for entry in self.header["functions"]
            if "config" in entry
        }
        tell(self, has_stream=stream)

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
        """A line of the guest's; `seq` and `crc` are added when it is written. `re=0` answers the host's last."""
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

    def held(self, function: int, offset: int, size: int) -> int:
        """What some bytes of an endpoint hold after what was told so far."""
        return int.from_bytes(self._config[function][offset : offset + size], "little")

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
        """The server's record of a config write; `after` is what the bytes then hold.

        Default: what the registers' access kinds make of the value.
        """
        image = self._config[function]
        before = self.held(function, offset, size)
        if after is None:
            after = left_by_write(self.header["functions"][function], offset, size, before, value)
        image[offset : offset + size] = after.to_bytes(size, "little")
        fields = {"region": CONFIG_REGION, "address": offset, "size": size, "value": value}
        self.add(ms, Kind.REGION_WRITE, function=function, extra=before, aux=after, tag=tag, **fields)

    def plugin(
        self,
        ms: float,
        function: int,
        offset: int,
        value: int,
        size: int,
        *,
        by: str | None = None,
        stack: Sequence[str] | None = None,
        tag: str = "",
    ) -> None:
        """A config write as the TCG plugin saw it; `by` and `stack` as in `write`."""
        writer = self._writer(ms, offset, size, by, stack)
        fields = {"region": BUS_ABOVE[function] << 8 | DEVFN[function], "address": offset, "error": size}
        event = self.add(ms, Kind.PLUGIN_WRITE, value=value, tag=tag, **fields, **origin(offset, writer))
        event.writer = writer

    def _writer(
        self, ms: float, offset: int, size: int, by: str | None, stack: Sequence[str] | None
    ) -> Writer:
        kernel = "firmware" if ms < HELLO else "outgoing" if ms < JUMP else "incoming"
        reason: tuple[str, ...]
        if kernel == "outgoing":
            reason = SHUTDOWN_STACK if ms > FROZEN else DRIVER
        else:
            reason = ENUMERATION if ms < UPDATED else DRIVER
        if by is not None:
            reason = (by, *reason[1:])
        return writer_of(kernel, reason if stack is None else stack, offset, size)

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
        by: str | None = None,
        stack: Sequence[str] | None = None,
    ) -> None:
        """A guest's config write as every witness sees it; a bridge's has no server.

        `by` is the kernel function to name, with the callers that are usual at that moment; `stack` are that
        function and all of its callers, innermost first.
        """
        traced = ms - TRACE_LEAD_NS / MS
        self.trace(traced, function, offset, value, tag=tag)
        self.events[-1].width = size
        if function in self._config:
            self.server(ms, function, offset, value, size, after=after, tag=tag)
        if self.has_plugin:
            stamp = stamps(offset, at(traced), at(ms) if function in self._config else at(traced))
            self.plugin((stamp - BEGIN_NS) / MS, function, offset, value, size, by=by, stack=stack, tag=tag)

    def port_sets(self, ms: float, bridge: int, register: str, bits: int) -> None:
        """A port's own doing: an error noted, an event; the dumps after it show the bits."""
        self.set_by_ports.append((at(ms), bridge, register, bits))

    def update(self, ms: float, function: int, offset: int, value: int, tag: str = "") -> None:
        """A dword that the endpoint changes by itself; `reconnect` says from what."""
        fields = {"region": CONFIG_REGION, "address": offset, "size": 4}
        self.add(ms, Kind.CONFIG_UPDATE, function=function, extra=0, aux=value, tag=tag, **fields)

    # -------------------------------------------------------------- writing

    def to_bytes(self) -> bytes:
        """The recording's bytes."""
        return to_bytes(self)

    def save(self, path: Path) -> Path:
        """Write the recording; returns its path."""
        path.write_bytes(self.to_bytes())
        return path
