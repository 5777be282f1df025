# SPDX-License-Identifier: MIT
"""Dumps of the ports' capabilities in a story: what a snapshot of config space leaves in the trace.

The values are worked out when the story is written, from its own writes, so that a spoilt story stays one.
"""

from typing import TYPE_CHECKING, Final

from pydev.recording.format import Kind
from pydev.testkit.story_header import BRIDGE_REGISTERS, BUS_ABOVE, DEVFN, DN1, RP1, RP2, UP1

if TYPE_CHECKING:
    from pydev.testkit.story import Event, Story

TAG: Final = "dump"
_SPANS: Final = (range(0x40, 0xC0, 4), range(0x140, 0x160, 4))
_BELOW: Final = {RP1: (UP1, DN1), UP1: (DN1,), DN1: (), RP2: ()}
_BRIDGE_CONTROL: Final = 0x3E
_BUS_RESET: Final = 0x40


def tell_dump(story: "Story", ms: float) -> None:
    """Have every port's capabilities read, dword by dword, at a moment of the story."""
    step = 0.0
    for bridge in BRIDGE_REGISTERS:
        for span in _SPANS:
            for at in span:
                story.trace(ms + step, bridge, at, 0, write=False, tag=TAG)
                step += 0.0005


def fill_dumps(story: "Story") -> None:
    """Give each read of a dump the value that the writes before it have left."""
    config = {bridge: bytearray(0x200) for bridge in BRIDGE_REGISTERS}
    widths = {b: {r["offset"]: r["width"] for r in table} for b, table in BRIDGE_REGISTERS.items()}
    for event in sorted(story.events, key=lambda e: e.t_ns):
        bridge = event.fields.get("function", 0)
        if not event.is_trace or bridge not in config:
            continue
        at = event.fields["address"]
        if event.kind == Kind.TRACE_WRITE:
            width = widths[bridge].get(at, 1)
            config[bridge][at : at + width] = (event.fields["value"] & (1 << 8 * width) - 1).to_bytes(
                width, "little"
            )
            _reset_below(config, event)
        elif event.tag == TAG:
            event.fields["value"] = int.from_bytes(config[bridge][at : at + 4], "little")
            event.fields["region"] = BUS_ABOVE[bridge] << 8 | DEVFN[bridge]


def _reset_below(config: dict[int, bytearray], event: "Event") -> None:
    if event.fields["address"] == _BRIDGE_CONTROL and event.fields["value"] & _BUS_RESET:
        for bridge in _BELOW[event.fields["function"]]:
            config[bridge][:] = bytes(len(config[bridge]))
