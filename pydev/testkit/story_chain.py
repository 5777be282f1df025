# SPDX-License-Identifier: MIT
"""Several updates in a row, told as one recording: the same story again and again, each in the next kernel."""

from dataclasses import replace
from typing import Final

from pydev.recording.format import Kind
from pydev.testkit.story import EXIT, MS, Event, Story

_SEGMENT_BEGIN: Final = 105
_SEGMENT_END: Final = 299
_REPEATS: Final = (_SEGMENT_END - _SEGMENT_BEGIN) * MS


def chain(count: int) -> Story:
    """A clean story of `count` updates, each of which stops its stream, finishes and prepares the next."""
    story = Story()
    story.header["experiment"]["updates"] = count
    begin_ns, end_ns = (story.header["started_ns"] + ms * MS for ms in (_SEGMENT_BEGIN, _SEGMENT_END))
    told = story.events
    once = [e for e in told if e.t_ns < begin_ns or (e.t_ns >= end_ns)]
    segment = [e for e in told if begin_ns <= e.t_ns < end_ns]
    shift_ns = (count - 1) * _REPEATS
    story.events = [e for e in once if e.t_ns < begin_ns]
    for update in range(count):
        # The gate is open since the first: nothing closes it.
        story.events += [_again(e, update) for e in segment if not (update and e.kind == Kind.GATE)]
    story.events += [_later(event, count - 1) for event in once if event.t_ns >= end_ns]
    story.trailer["closed_ns"] += shift_ns
    story.reconnect()
    assert max(e.t_ns for e in story.events) >= story.header["started_ns"] + EXIT * MS + shift_ns
    return story


def _later(event: Event, updates: int) -> Event:
    copy = replace(event, t_ns=event.t_ns + updates * _REPEATS, fields=dict(event.fields))
    if event.kind == Kind.REFERENCE:
        copy.fields["extra"] += updates * _REPEATS
        copy.fields["value"] += updates * (_SEGMENT_END - _SEGMENT_BEGIN)
    return copy


def _again(event: Event, update: int) -> Event:
    copy = _later(event, update)
    if event.members is not None:
        copy.members = dict(event.members)
        if event.tag == "incoming hello":
            copy.members |= {"update": update + 1, "boot_id": f"b{update}"}
    if event.kind == Kind.INTERRUPT:
        copy.fields["value"] += update
    if event.tag == "retrieved":
        copy.line = f"[    0.010000] luo: Retrieved live update data, liveupdate number: {update + 1}"
    return copy
