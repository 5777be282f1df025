# SPDX-License-Identifier: MIT
"""What QEMU's TCG plugin leaves in a story's recording: its writes, and afterwards who made them."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pydev.recording.format import Kind, PluginWay
from pydev.recording.writer import RecordingBuilder
from pydev.testkit.story_stacks import Writer, raw_stack

if TYPE_CHECKING:
    from pydev.testkit.story import Event

_ECAM_FROM: Final = 0x100
_WAY_SHIFT: Final = 16
_KERNEL_TEXT: Final = 0xFFFFFFFF81000000
_FIRMWARE_TEXT: Final = 0xEA346
NO_PLUGIN: Final = {"plugin": False, "reason": "the accelerator kvm has no plugins"}
PLUGIN: Final = {"plugin": True, "accelerator": "tcg"}


def way(offset: int) -> PluginWay:
    """How linux 7.3 on x86 writes there (arch/x86/pci/common.c raw_pci_write)."""
    return PluginWay.ECAM if offset >= _ECAM_FROM else PluginWay.PORTS


def stamps(offset: int, traced_ns: int, server_ns: int) -> int:
    """When the plugin stamps a write that is traced and served at these moments: ports before, window after."""
    return server_ns + 5_000 if way(offset) is PluginWay.ECAM else traced_ns - 10_000


def origin(offset: int, writer: Writer) -> dict[str, int]:
    """The fields of a plugin record that tell where the instruction is."""
    text = _FIRMWARE_TEXT if writer.kernel == "firmware" else _KERNEL_TEXT
    return {"aux": int(way(offset)) << _WAY_SHIFT, "extra": text + offset}


def append_plugin(builder: RecordingBuilder, event: "Event", writers: dict[int, Writer]) -> None:
    """One PLUGIN_WRITE or PLUGIN_JUMP with its raw stack; its slot's author goes into `writers`."""
    assert event.writer is not None
    writers[builder.head] = event.writer
    depth = 0 if event.writer.kernel == "firmware" else len(event.writer.frames)
    builder.append_chain(event.kind, raw_stack(depth), t_ns=event.t_ns, **event.fields)


def append_attributions(
    builder: RecordingBuilder, writers: dict[int, Writer], t_ns: int, writes: int
) -> dict[str, Any]:
    """STACK and ATTRIBUTION records, as they are appended when the run is over; what the trailer says of them.

    `writes` of the records in `writers` are PLUGIN_WRITEs.
    """
    numbers: dict[Writer, int] = {}
    for slot, writer in writers.items():
        if writer not in numbers:
            numbers[writer] = len(numbers) + 1
            text = json.dumps(writer.members(numbers[writer]), separators=(",", ":")).encode()
            builder.append_text(Kind.STACK, text, t_ns=t_ns)
        builder.append(Kind.ATTRIBUTION, t_ns=t_ns, value=slot, extra=numbers[writer])
    return {"attribution": {"writes": writes, "problems": []}} if writers else {}


def count_writes(events: Iterable["Event"]) -> int:
    """Give the plugin's last word the count of its writes, unless a test has spoilt it; returns the count."""
    events = list(events)
    writes = sum(event.kind is Kind.PLUGIN_WRITE for event in events)
    for event in events:
        if event.kind is Kind.PLUGIN_END:
            event.fields.setdefault("value", writes)
    return writes
