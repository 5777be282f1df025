# SPDX-License-Identifier: MIT
"""A clean recording of millions of events: the synthetic live update, held while its streams go on.

Two preserved endpoints stream at 10 µs throughout, each refused until its bus mastering is on; they interrupt,
the guest polls registers, the reference ticks. All of it is as a run records it: numbers, addresses, checksums,
gates and what the guest finds in its pages agree, so that every rule examines every event.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.endpoints.payload import PAGE_BYTES, SLOT_BYTES, SLOTS_PER_PAGE, ring_words, slot_words
from pydev.ports import Gate
from pydev.recording.format import NO_FUNCTION, RECORD, Flag, Kind
from pydev.recording.reader import Recording, Records, read
from pydev.testkit.mutations.draft import Draft
from pydev.testkit.story import EP0, EP1, MSIX_CONTROL, STOP, Story, at
from pydev.testkit.story_agent import check_members
from pydev.testkit.story_header import BUS_ABOVE, DEVFN, DN1, RP1, RP2, UP1

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

PERIOD_NS: Final = 10_000
LATENESS_NS: Final = 3_000
INTERRUPT_EVERY: Final = 64
POLL_NS: Final = 250_000
TICK_NS: Final = 1_000_000
FRAMES: Final = {EP0: np.arange(0x4000, 0x4040), EP1: np.arange(0x9000, 0x9040)}
SEED: Final = 11

_NAMES: Final = {EP0: "0000:03:00.0", EP1: "0000:04:00.0"}
_LATER_MS: Final = {EP0: 0.0, EP1: 0.3}
"""What happens to the second endpoint comes this much after the first's."""
_HOLDS_MS: Final = {119.5: 0.05, 140: 0.45, 240: 0.5}
"""Where the story is held, for how much of the time: while the streams are refused, while the guest runs as
usual, and before the incoming kernel's agent is there."""
_START_MS: Final = 119.0
_STOP_MS: Final = {EP0: STOP + 1.5, EP1: STOP + 2.3}
"""After the host's order to stop the endpoint's stream."""
_GATES: Final = (
    (120, Gate.BUS_MASTER_OFF),
    (121, Gate(0)),
    (220, Gate.INTERRUPTS_OFF),
    (256.25, Gate(0)),
)
"""When an endpoint's gate changed, and to what; before the first it refused everything."""
_SHUT: Final = Gate.BUS_MASTER_OFF | Gate.INTERRUPTS_OFF
_POLLED: Final = ((RP1, 0x6E), (UP1, 0xAA), (DN1, 0xAA), (RP2, 0x6E), (EP0, 0x06), (EP1, 0x06))
"""Status registers, which may read as anything."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The story's time, held at some moments."""

    held_ns: int
    """For how long in all."""

    def moved(self, t_ns: int) -> int:
        """When something happens that the story tells at `t_ns`."""
        return t_ns + round(sum(self.held_ns * part for ms, part in _HOLDS_MS.items() if t_ns >= at(ms)))

    def at(self, ms: float) -> int:
        """The same, for a moment of the story."""
        return self.moved(at(ms))


def build(path: Path, events: int) -> None:
    """Write a recording of about `events` events; fewer than a story's 100,000 cannot be asked for."""
    a_ms = 2 * 1_000_000 / PERIOD_NS * (1 + 1 / INTERRUPT_EVERY) + 1_000_000 / POLL_NS + 1_000_000 / TICK_NS
    story_ms = _STOP_MS[EP0] - _START_MS
    clock = Clock(round(max(0.0, events / a_ms - story_ms) * 1_000_000))
    streams = {function: _stream(function, clock) for function in FRAMES}
    story = _story(clock, streams)
    story.save(path)
    told = read(path)
    is_traced = np.isin(told.records["kind"], (int(Kind.TRACE_READ), int(Kind.TRACE_WRITE)))
    batches = [_ticks(clock)]
    for function, stream in streams.items():
        batches += [stream, _interrupts(function, stream, clock)]
    lived, lived_at = _in_order(told, ~is_traced, batches)
    traced, traced_at = _in_order(told, is_traced, [_polls(clock)])
    del batches, streams
    records, slots = np.concatenate((lived, traced)), np.concatenate((lived_at, traced_at))
    del lived, traced
    path.write_bytes(Draft(told.header, told.trailer or {}, records, slots).to_bytes())


def _in_order(told: Recording, chosen: Flags, batches: list[Records]) -> tuple[Records, Places]:
    """What was told and the batches by time, and where each was told; chains and equal times stay as they are."""
    together: Records = np.concatenate((told.records[chosen], *batches))
    added = sum(len(batch) for batch in batches)
    places = np.concatenate((np.flatnonzero(chosen), np.full(added, -1)))
    order = np.argsort(together["t_ns"], kind="stable")
    return together[order], places[order]


# ------------------------------------------------------------------- the story


def _story(clock: Clock, streams: dict[int, Records]) -> Story:
    """The story with a second preserved endpoint and its driver, held, without the streams' transactions."""
    story = Story()
    for tag in ("dma", "start", "stop", "shutdown", "control on", "reference"):
        story.remove_tag(tag)
    story.remove(lambda e: e.kind == Kind.GATE)
    _keep_second_mastering(story)
    _tell_second_driver(story)
    for function, frames in FRAMES.items():
        stream = {"pages": len(frames), "period_ns": PERIOD_NS}
        story.header["functions"][function] |= {"preserve": True, "stream": stream}
        _tell_engine(story, function, len(streams[function]))
        for event in story.events:
            if event.kind == Kind.INTERRUPT and event.fields["function"] == function:
                event.fields["value"] = len(streams[function]) // INTERRUPT_EVERY + 1
    for event in story.events:
        event.t_ns = clock.moved(event.t_ns)
    _tell_pages(story, streams)
    story.trailer["closed_ns"] = clock.moved(story.trailer["closed_ns"])
    writes = sum(event.kind == Kind.TRACE_WRITE for event in story.events)
    story.trailer["trace"] = {"writes": writes}
    story.reconnect()
    return story


def _keep_second_mastering(story: Story) -> None:
    """The incoming kernel's sizing writes to the second endpoint's COMMAND what it finds, as to the first's."""
    for event in story.tagged("sizing"):
        is_second = event.fields["function"] == EP1 or event.fields["region"] == BUS_ABOVE[EP1] << 8
        if is_second and event.fields["address"] == 0x04:
            event.fields["value"] = 0x104 | event.fields["value"] & 2
            if event.kind == Kind.REGION_WRITE:
                event.fields["aux"] = event.fields["value"]


def _tell_second_driver(story: Story) -> None:
    later = _LATER_MS[EP1]
    story.write(121 + later, EP1, 0x04, 0x106)
    for ms, value in ((120, 0x8003), (220, 0x0003), (256, 0xC003), (256.1, 0x8003)):
        story.write(ms + later, EP1, MSIX_CONTROL, value)
    for function, ms in ((EP0, 120.1), (EP1, 120.1 + later), (EP1, 256.2 + later)):
        story.add(ms, Kind.IRQ_SETUP, function=function, region=2, size=2, extra=2)
    story.add(289.2, Kind.REGION_WRITE, function=EP1, address=0x2C, size=4, value=1)
    story.add(289.3, Kind.INTERRUPT, function=EP1, region=2, address=1, value=1)
    own: dict[str, Any] = {"bdf": _NAMES[EP1], "token": 27}
    told: dict[str, Any] = {"re": 0, "ok": True, "driver": True, **own}
    story.host(116, "buffer", pages=len(FRAMES[EP1]), preserve=1, **own)
    story.agent(117, "preserve", report="preserve", **told)
    story.host(257, "retrieve", session="s", **own)
    story.agent(258, "retrieve", report="retrieve", **told)
    story.host(STOP + 2.1, "stop", bdf=_NAMES[EP1])
    story.agent(STOP + 2.5, re=0, ok=True)
    story.host(STOP + 5.1, "check", bdf=_NAMES[EP1])
    story.agent(STOP + 5.5, "check", report="check", **told)


def _tell_engine(story: Story, function: int, count: int) -> None:
    frames = FRAMES[function].tolist()
    first = {"address": frames[0] << 12, "size": len(frames) * SLOTS_PER_PAGE}
    story.add(
        _START_MS, Kind.ENGINE, function=function, value=1, aux=1, extra=PERIOD_NS, tag="engine", **first
    )
    for number, frame in enumerate(frames):
        page = {"value": number, "address": frame << 12, "size": PAGE_BYTES}
        story.add(_START_MS, Kind.ENGINE_PAGE, function=function, tag="engine", **page)
    story.add(
        _STOP_MS[function],
        Kind.ENGINE,
        function=function,
        value=0,
        aux=count + 1,
        extra=PERIOD_NS,
        tag="engine",
        **first,
    )
    held = _SHUT
    for ms, gate in _GATES:
        moment = ms + _LATER_MS[function]
        story.add(moment, Kind.GATE, function=function, extra=int(held), aux=int(gate))
        held = gate


def _tell_pages(story: Story, streams: dict[int, Records]) -> None:
    """The page ranges in every report, and what the guest finds there: the last good write to each slot."""
    for event in story.events:
        if event.members is None or event.members.get("report") not in ("preserve", "retrieve", "check"):
            continue
        function = next(f for f, name in _NAMES.items() if name == event.members["bdf"])
        if event.members["report"] != "check":
            frames = FRAMES[function]
            event.members["ranges"] = [[int(frames[0]), len(frames)]]
        else:
            good = streams[function][streams[function]["flags"] == int(Flag.STREAM)]
            slots = len(FRAMES[function]) * SLOTS_PER_PAGE
            ring = ring_words(good["t_ns"], good["extra"], good["address"], good["value"], slots)
            event.members |= check_members(ring)


# ------------------------------------------------------------------ the batches


def _stream(function: int, clock: Clock) -> Records:
    """Every transaction of an endpoint's stream, refused ones included."""
    begin, end = clock.at(_START_MS), clock.at(_STOP_MS[function])
    count = (end - begin) // PERIOD_NS
    late = np.random.default_rng(SEED + function).integers(0, LATENESS_NS, count)
    sequence = np.arange(1, count + 1, dtype=np.uint64)
    records = np.zeros(count, dtype=RECORD)
    slot_count = len(FRAMES[function]) * SLOTS_PER_PAGE
    slot = np.arange(count) % slot_count
    records["t_ns"] = begin + np.arange(count) * PERIOD_NS + late
    records["kind"], records["function"], records["size"] = Kind.DMA_WRITE, function, SLOT_BYTES
    records["address"] = (FRAMES[function][slot // SLOTS_PER_PAGE] << 12) + slot % SLOTS_PER_PAGE * SLOT_BYTES
    records["value"], records["extra"] = sequence, 1
    records["aux"] = slot_words(records["t_ns"], records["extra"], records["address"], sequence, slot_count)[
        :, 6
    ]
    is_refused = _gate(records["t_ns"], function, clock) & np.uint64(Gate.BUS_MASTER_OFF) != 0
    records["flags"] = np.where(is_refused, Flag.STREAM | Flag.BLOCKED, Flag.STREAM)
    records["error"] = np.where(is_refused, Gate.BUS_MASTER_OFF, 0)
    return records


def _interrupts(function: int, stream: Records, clock: Clock) -> Records:
    """One after every so many slots; lost while bus mastering or MSI-X is off."""
    due = stream[stream["value"] % np.uint64(INTERRUPT_EVERY) == 0]
    records = np.zeros(len(due), dtype=RECORD)
    records["t_ns"] = due["t_ns"] + np.uint64(500)
    records["kind"], records["function"], records["region"] = Kind.INTERRUPT, function, 2
    records["value"] = np.arange(1, len(due) + 1)
    gate = _gate(records["t_ns"], function, clock)
    records["flags"] = np.where(gate != 0, Flag.BLOCKED, 0)
    records["error"] = gate
    return records


def _gate(times: npt.NDArray[np.uint64], function: int, clock: Clock) -> npt.NDArray[np.uint64]:
    """What an endpoint's gate refused at some moments."""
    moments = [clock.at(ms + _LATER_MS[function]) for ms, _ in _GATES]
    states = np.array([int(_SHUT), *(int(gate) for _, gate in _GATES)], dtype=np.uint64)
    found: npt.NDArray[np.uint64] = states[np.searchsorted(moments, times, side="right")]
    return found


def _ticks(clock: Clock) -> Records:
    due = np.arange(clock.at(6), clock.at(STOP + 19), TICK_NS)
    records = np.zeros(len(due), dtype=RECORD)
    records["t_ns"], records["extra"] = due + 20_000, due
    records["kind"], records["function"] = Kind.REFERENCE, NO_FUNCTION
    records["value"] = np.arange(len(due))
    return records


def _polls(clock: Clock) -> Records:
    """Reads of status registers in QEMU's trace."""
    times = np.arange(clock.at(130), clock.at(STOP), POLL_NS)
    functions, offsets = (np.array(column) for column in zip(*_POLLED, strict=True))
    which = np.arange(len(times)) % len(_POLLED)
    records = np.zeros(len(times), dtype=RECORD)
    records["t_ns"], records["kind"] = times, Kind.TRACE_READ
    records["function"], records["address"] = functions[which], offsets[which]
    bdfs = np.array([BUS_ABOVE[function] << 8 | DEVFN[function] for function, _ in _POLLED])
    records["region"], records["value"] = bdfs[which], 0x10
    return records


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2]))
