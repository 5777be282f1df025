# SPDX-License-Identifier: MIT
"""A story as a recording's bytes: numbered, checked, counted, with what the guest finds in its pages."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pydev.endpoints.payload import PAGE_BYTES, SLOT_BYTES, SLOTS_PER_PAGE, slot_words
from pydev.recording.format import Flag, Kind
from pydev.recording.writer import RecordingBuilder
from pydev.testkit.story_agent import agent_line, check_members
from pydev.testkit.story_dumps import fill_dumps
from pydev.testkit.story_event import BEGIN_NS, Event
from pydev.testkit.story_header import FRAMES
from pydev.testkit.story_plugin import append_attributions, append_plugin, count_writes

if TYPE_CHECKING:
    from pydev.testkit.story import Story
    from pydev.testkit.story_stacks import Writer


def to_bytes(story: "Story") -> bytes:
    """The recording's bytes."""
    _number_payloads(story)
    _fill_checks(story)
    fill_dumps(story)
    seen = count_writes(story.events)
    builder = RecordingBuilder(story.header)
    lines = sorted((e for e in story.events if not e.is_trace), key=lambda event: event.claimed_ns)
    sequence = {True: 0, False: 0}
    writers: dict[int, Writer] = {}
    for event in lines:
        if event.writer is not None:
            append_plugin(builder, event, writers)
        else:
            _append(builder, event, sequence)
    attributed = append_attributions(builder, writers, lines[-1].t_ns if lines else BEGIN_NS, seen)
    traced = sorted((e for e in story.events if e.is_trace), key=lambda event: event.t_ns)
    for event in traced:
        builder.append(event.kind, t_ns=event.t_ns, **event.fields)
    writes = sum(event.kind == Kind.TRACE_WRITE for event in traced)
    counted = {"lines": len(traced), "writes": writes} | story.trailer.get("trace", {})
    return builder.to_bytes(attributed | story.trailer | {"trace": counted})


def _append(builder: RecordingBuilder, event: Event, sequence: dict[bool, int]) -> None:
    if event.line is not None:
        builder.append_text(Kind.CONSOLE, event.line.encode(), t_ns=event.t_ns)
    elif event.members is not None:
        to_guest = bool(event.fields["flags"] & Flag.TO_GUEST)
        if event.members.get("event") == "hello":
            sequence[True] = sequence[False] = 0
        sequence[to_guest] += 1
        answered = {"re": sequence[True]} if event.members.get("re") == 0 else {}
        text = agent_line({"seq": sequence[to_guest], **event.members, **answered})
        builder.append_text(Kind.AGENT, text, t_ns=event.t_ns, flags=event.fields["flags"])
    else:
        builder.append(event.kind, t_ns=event.t_ns, **event.fields)


def _number_payloads(story: "Story") -> None:
    """Give each stream write the checksum word that the engine would have recorded."""
    writes = story.writes()
    if writes:
        words = _words(writes)
        for event, checksum in zip(writes, words[:, 6].tolist(), strict=True):
            event.fields.setdefault("aux", checksum)
    for stop in story.tagged("stop"):
        done = [event.fields["value"] for event in writes if event.claimed_ns < stop.claimed_ns]
        stop.fields.setdefault("aux", max(done, default=0) + 1)


def _fill_checks(story: "Story") -> None:
    """What the guest finds: the story's own DMA, as far as it was not refused and went to its pages."""
    begin_ns = 0
    for report in sorted(story.tagged("check"), key=lambda event: event.t_ns):
        if report.members is not None and "slots" not in report.members:
            report.members |= check_members(_memory(story, begin_ns, report.t_ns))
        begin_ns = report.t_ns


def _memory(story: "Story", begin_ns: int, end_ns: int) -> npt.NDArray[np.uint64]:
    """What lies in the pages at the end of a span in which they were made."""
    memory = np.zeros((len(FRAMES) * SLOTS_PER_PAGE, 8), dtype=np.uint64)
    for event in sorted(story.writes(), key=lambda e: e.t_ns):
        frame, in_page = divmod(event.fields["address"], PAGE_BYTES)
        is_good = frame in FRAMES and not event.fields["flags"] & Flag.BLOCKED
        if is_good and begin_ns < event.t_ns <= end_ns:
            memory[FRAMES.index(frame) * SLOTS_PER_PAGE + in_page // SLOT_BYTES] = _words([event])[0]
    if story.spoil_memory is not None:
        story.spoil_memory(memory)
    return memory


def _words(writes: Iterable[Event]) -> npt.NDArray[np.uint64]:
    rows = [(e.t_ns, e.fields["extra"], e.fields["address"], e.fields["value"]) for e in writes]
    columns = np.array(rows, dtype=np.uint64).T
    return slot_words(columns[0], columns[1], columns[2], columns[3], len(FRAMES) * SLOTS_PER_PAGE)
