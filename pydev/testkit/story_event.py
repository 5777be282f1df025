# SPDX-License-Identifier: MIT
"""One event of a story, and the moments at which the stories' own ones are."""

from dataclasses import dataclass, field
from typing import Any, Final

from pydev.recording.format import Kind
from pydev.testkit.story_stacks import Writer

MS: Final = 1_000_000
BEGIN_NS: Final = 1_000_000_000_000
STREAM_BEGIN, FROZEN, SHUTDOWN, SWEEP, UPDATED, STOP, FINISHED, EXIT = 125, 160, 170, 200, 250, 280, 290, 300
JUMP: Final = 185
"""The outgoing kernel's last function is entered."""
HELLO: Final = 100
TRACE_LEAD_NS: Final = 80_000
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
    writer: Writer | None = None
    """Of the plugin's records: whom the stack shows."""
    width: int = 0
    """Of a trace line, which itself does not say: bytes; 0 where the story does not either."""

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
