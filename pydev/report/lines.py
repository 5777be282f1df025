# SPDX-License-Identifier: MIT
"""Lines of a report: how wide they are, and how a moment, a register and who wrote it are spelled."""

import textwrap
from typing import Final

from pydev.recording.config import Change, Values, field_values, known
from pydev.recording.functions import FunctionEntry, RegisterEntry
from pydev.recording.timeline import Timeline
from pydev.units import bdf_text

COLUMNS: Final = 78


def wrapped(text: str, indent: str = "", subsequent: str = "  ") -> list[str]:
    """Lines of at most COLUMNS; all but the first are indented by `subsequent` more."""
    return textwrap.wrap(
        text, COLUMNS, initial_indent=indent, subsequent_indent=indent + subsequent, break_on_hyphens=False
    )


def zero_ns(timeline: Timeline) -> int:
    """What times in a report are relative to: the first `frozen`, else the recording's start."""
    return timeline.blackouts[0].begin.t_ns if timeline.blackouts else timeline.started_ns


def moment(timeline: Timeline, t_ns: int) -> str:
    """`+12.345 ms`."""
    return f"{(t_ns - zero_ns(timeline)) / 1e6:+.3f} ms"


def name(timeline: Timeline, function: FunctionEntry, t_ns: int) -> str:
    """`03:00.0 ep0`, with what is known of it at a moment."""
    bdf = timeline.bdf_at(function.index, t_ns)
    return f"{'??:??.?' if bdf is None else bdf_text(bdf)} {function.id}"


def number(values: Values) -> str:
    """`0x506`, `0x102 or 0x106`, or `not known`."""
    return " or ".join(f"{value:#x}" for value in sorted(values)) if values else "not known"


def set_fields(register: RegisterEntry, value: int) -> str:
    """The names of the one-bit fields that are set, and of wider ones what they hold."""
    names = []
    for entry in register.fields.values():
        held = entry.extract(value)
        if held:
            names.append(entry.name if entry.bits == 1 else f"{entry.name} {held:#x}")
    return ", ".join(names)


def change(timeline: Timeline, register: RegisterEntry, event: Change) -> str:
    """`+3.922 ms COMMAND.bus_master 1 -> 0, by pci_clear_master`: each field that moved."""
    moved = [
        f"{entry.name} {_small(field_values(event.before, entry))} -> {_small(field_values(event.after, entry))}"
        for entry in register.fields.values()
        if field_values(event.before, entry) != field_values(event.after, entry)
    ]
    what = f"{register.name}.{', '.join(moved)}" if moved else f"{register.name} {number(event.after)} again"
    return f"{moment(timeline, event.t_ns)} {what}{by(event)}"


def by(event: Change) -> str:
    """Who: a kernel function, or the event that was no write."""
    if event.writer is not None and event.writer.function is not None:
        return f", by {event.writer.function}"
    causes = {"device": ", by the device itself", "read": ", seen by a read"}
    return causes.get(event.cause, f", by a {event.cause}" if event.cause.endswith("reset") else "")


def _small(values: Values) -> str:
    value = known(values)
    return "?" if value is None else f"{value:#x}" if value > 9 else str(value)
