# SPDX-License-Identifier: MIT
"""The default story: a kernel that keeps a preserved endpoint alive, from firmware to the finish."""

from typing import TYPE_CHECKING, Any

from pydev.endpoints.payload import PAGE_BYTES, SLOT_BYTES, SLOTS_PER_PAGE
from pydev.ports import Gate
from pydev.recording.format import Flag, Kind, Mark
from pydev.testkit.story_addresses import (
    BRIDGE_CONTROL,
    CLOSED,
    IO_CLOSED,
    IO_UPPER16,
    IO_WINDOW,
    MEMORY_WINDOW,
    PREF_BASE_UPPER32,
    PREF_WINDOW,
    WINDOW,
)
from pydev.testkit.story_dumps import tell_dump
from pydev.testkit.story_event import (
    DOORBELL,
    EXIT,
    FINISHED,
    FROZEN,
    JUMP,
    RAM_BYTES,
    RAM_OFFSET,
    SHUTDOWN,
    STOP,
    STREAM_BEGIN,
    SWEEP,
    UPDATED,
    at,
)
from pydev.testkit.story_header import (
    BUSES,
    DN1,
    EP0,
    EP1,
    EP_ACS,
    FRAMES,
    MSIX_CONTROL,
    PERIOD_NS,
    RP1,
    RP2,
    offset,
)
from pydev.testkit.story_stacks import JUMP_STACK, Writer

if TYPE_CHECKING:
    from pydev.testkit.story import Story


def tell(story: "Story", *, has_stream: bool) -> None:
    """Everything that happens in the default story."""
    story.mark(0, Mark.QEMU_STARTED)
    for endpoint in (EP0, EP1):
        story.add(1, Kind.CLIENT, function=endpoint, value=1)
        story.server(2, endpoint, 0x30, 0xFFFFF800, 4, after=0, tag="realize")
        ram = {"value": RAM_BYTES, "aux": 3, "flags": int(Flag.HAS_FD), "extra": RAM_OFFSET}
        story.add(1.5, Kind.DMA_MAP, function=endpoint, address=0, tag="ram", **ram)
        story.add(299.5, Kind.CLIENT, function=endpoint, value=0, tag="client gone")
    story.mark(5, Mark.MACHINE_RUNNING, "running")
    for tick in range(6, EXIT):
        story.add(tick + 0.02, Kind.REFERENCE, value=tick, extra=at(tick), tag="reference")
    _firmware(story)
    _outgoing(story, has_stream=has_stream)
    _incoming(story)
    if story.has_plugin:
        story.add(EXIT - 0.2, Kind.PLUGIN_END, extra=0, tag="plugin end")
    story.mark(EXIT, Mark.QEMU_EXITED)
    if has_stream:
        _stream(story)


def _firmware(story: "Story") -> None:
    for number, (bridge, (primary, secondary, subordinate)) in enumerate(BUSES.items()):
        ms = 10 + number
        story.trace(ms, bridge, 0x18, 0, write=False)
        story.write(ms + 0.2, bridge, 0x18, primary, 1)
        story.write(ms + 0.3, bridge, 0x19, secondary, 1)
        story.write(ms + 0.4, bridge, 0x1A, subordinate, 1)
        story.write(ms + 0.5, bridge, 0x04, 0x107)
        story.write(ms + 0.6, bridge, MEMORY_WINDOW, WINDOW, 4)
        story.write(ms + 0.7, bridge, PREF_WINDOW, CLOSED, 4)
        story.write(ms + 0.75, bridge, PREF_BASE_UPPER32, 0, 4)
        story.write(ms + 0.8, bridge, PREF_BASE_UPPER32 + 4, 0, 4)
        story.write(ms + 0.85, bridge, BRIDGE_CONTROL, 0x02)
        story.write(ms + 0.87, bridge, IO_WINDOW, IO_CLOSED)
        story.write(ms + 0.89, bridge, IO_UPPER16, 0, 4)
    story.write(30, RP1, offset(RP1, "ACS_CONTROL"), 0x1D, tag="acs on")
    story.write(31, DN1, offset(DN1, "DEVCTL2"), 0x20, tag="ari on")
    story.write(32, EP0, EP_ACS, 0x0C, tag="acs of ep0 on")
    for number, endpoint in enumerate((EP0, EP1)):
        story.write(20 + number, endpoint, 0x10, 0xFE000000 + 0x4000 * number, 4)
        story.write(20.5 + number, endpoint, 0x04, 0x103)


def _outgoing(story: "Story", *, has_stream: bool) -> None:
    story.agent(
        100,
        "hello",
        event="hello",
        release="7.4.0",
        incoming=False,
        liveupdate=True,
        update=0,
        boot_id="a",
    )
    story.host(110, "session", name="s")
    story.agent(111, re=0, ok=True)
    story.host(112, "buffer", bdf="0000:03:00.0", pages=len(FRAMES), token=26, preserve=1)
    story.agent(
        115,
        "preserve",
        re=0,
        ok=True,
        report="preserve",
        bdf="0000:03:00.0",
        token=26,
        ranges=_ranges(),
        driver=True,
    )
    story.write(116, RP1, offset(RP1, "MSIX_CONTROL"), 0x8000, tag="port msix on")
    story.write(118, EP1, 0x04, 0x107, tag="control on")
    story.write(120, EP0, MSIX_CONTROL, 0x8003, tag="msix on")
    story.write(121, EP0, 0x04, 0x106, tag="bme on")
    story.add(121, Kind.GATE, function=EP0, extra=int(Gate.BUS_MASTER_OFF), aux=0)
    if has_stream:
        fields = {"size": len(FRAMES) * SLOTS_PER_PAGE, "extra": PERIOD_NS, "region": 0, "function": EP0}
        story.add(STREAM_BEGIN, Kind.ENGINE, value=1, address=FRAMES[0] << 12, aux=1, tag="start", **fields)
        for number, frame in enumerate(FRAMES):
            page = {"value": number, "address": frame << 12, "size": PAGE_BYTES}
            story.add(STREAM_BEGIN, Kind.ENGINE_PAGE, function=EP0, region=0, tag="start", **page)
        story.add(STOP + 1.5, Kind.ENGINE, value=0, address=FRAMES[0] << 12, tag="stop", **fields)
    story.host(150, "freeze")
    story.agent(151, re=0, ok=True)
    story.agent(FROZEN, "frozen", event="frozen")
    tell_dump(story, FROZEN + 0.1)
    story.mark(FROZEN + 0.5, Mark.FROZEN_ACKNOWLEDGED, "frozen ack")
    story.host(FROZEN + 0.6, "frozen_ack")
    # What a kernel that preserves does at shutdown: nothing to ep0 and its path; ep1 is not preserved.
    story.write(SHUTDOWN, EP1, 0x04, 0x103, tag="shutdown")
    story.write(SHUTDOWN + 5, RP2, 0x04, 0x103, tag="shutdown")
    story.write(SHUTDOWN + 6, RP1, offset(RP1, "MSIX_CONTROL"), 0, tag="port msix off")
    if story.has_plugin:
        jump = story.add(JUMP, Kind.PLUGIN_JUMP, tag="jump", extra=0xFFFFFFFF81060000)
        jump.writer = Writer("outgoing", JUMP_STACK)


def _incoming(story: "Story") -> None:
    story.add(SWEEP, Kind.TRACE_READ, address=0, region=0, value=0x29C08086, tag="sweep")
    story.add(SWEEP + 1, Kind.TRACE_READ, address=0, region=0x18, value=0xFFFFFFFF, error=1, tag="sweep")
    story.console(SWEEP - 10, "[    0.000000] KHO: found kexec handover data.", "handover")
    story.console(
        SWEEP - 9, "[    0.010000] luo: Retrieved live update data, liveupdate number: 1", "retrieved"
    )
    for number, (bridge, buses) in enumerate(BUSES.items()):
        dword = buses[0] | buses[1] << 8 | buses[2] << 16
        story.trace(SWEEP + 2 + number, bridge, 0x18, dword, write=False, tag=f"read buses {bridge}")
    for number, endpoint in enumerate((EP0, EP1)):
        ms = SWEEP + 10 + number
        held = story.held(endpoint, 0x04, 2)
        bar = 0xFE000000 + 0x4000 * number
        # One that preserves writes what it finds, and sizes the BARs of the others only.
        story.write(ms, endpoint, 0x04, held if endpoint == EP0 else held & ~2, tag="sizing")
        if endpoint != EP0:
            story.write(ms + 0.2, endpoint, 0x10, 0xFFFFFFFF, 4, after=0xFFFFC000, tag="sizing")
        story.write(ms + 0.4, endpoint, 0x10, bar, 4, tag=f"bar back {endpoint}")
        story.write(ms + 0.6, endpoint, 0x04, held, tag="sizing")
    story.write(SWEEP + 20, EP0, MSIX_CONTROL, 0x0003, tag="msix off")
    story.console(230, "[    0.700000] pcieport 0000:00:01.0: PME: Signaling with IRQ 24", "probe")
    hello = {"release": "7.4.0", "incoming": True, "liveupdate": True, "update": 1, "boot_id": "b"}
    story.agent(UPDATED, "incoming hello", event="hello", **hello)
    buffer: dict[str, Any] = {"bdf": "0000:03:00.0", "token": 26}
    story.host(251, "retrieve", session="s", pages=len(FRAMES), **buffer)
    tell_dump(story, UPDATED + 0.5)
    story.agent(255, "retrieve", re=0, ok=True, report="retrieve", ranges=_ranges(), driver=True, **buffer)
    story.write(256, EP0, MSIX_CONTROL, 0xC003, tag="msix anew")
    story.write(256.1, EP0, MSIX_CONTROL, 0x8003, tag="msix anew")
    story.add(256.2, Kind.IRQ_SETUP, function=EP0, region=2, address=0, size=2, extra=2, tag="vectors anew")
    story.host(STOP, "stop", "order stop", bdf="0000:03:00.0")
    story.agent(STOP + 2, re=0, ok=True, sequence=157)
    story.host(STOP + 3, "check", bdf="0000:03:00.0")
    story.agent(STOP + 5, "check", re=0, ok=True, report="check", bdf="0000:03:00.0")
    story.host(STOP + 6, "finish", session="s")
    ring = {"region": 0, "address": DOORBELL, "size": 4, "value": 1}
    story.add(FINISHED - 1, Kind.REGION_WRITE, function=EP0, tag="doorbell", **ring)
    raised = {"region": 2, "address": 1, "value": 1}
    story.add(FINISHED - 0.9, Kind.INTERRUPT, function=EP0, tag="catch-up", **raised)
    story.agent(FINISHED, "finish", re=0, ok=True, report="finish", session="s")
    tell_dump(story, FINISHED + 0.5)


def _stream(story: "Story") -> None:
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
        story.add(STREAM_BEGIN + sequence - 1 + 0.01, Kind.DMA_WRITE, function=EP0, tag="dma", **fields)


def _ranges() -> list[list[int]]:
    return [[frame, 1] for frame in FRAMES]
