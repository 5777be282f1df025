# SPDX-License-Identifier: MIT
"""Which pages the guest says it preserved, from its own reports."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pydev.continuity.evidence import Evidence
from pydev.recording.functions import FunctionEntry
from pydev.recording.messages import AgentMessage
from pydev.recording.phases import Blackout

Frames = npt.NDArray[np.uint64]


def frames_of(message: AgentMessage) -> Frames | None:
    """A report's `ranges`, one page frame each, in ring order; None where they cannot be read."""
    ranges = message.members.get("ranges")
    if not isinstance(ranges, list):
        return None
    parts = []
    for entry in ranges:
        if not (isinstance(entry, list) and len(entry) == 2 and all(_is_frame_number(n) for n in entry)):
            return None
        parts.append(np.arange(entry[0], entry[0] + entry[1], dtype=np.uint64))
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def _is_frame_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer of one endpoint, preserved when the guest was frozen."""

    token: int | None
    t_ns: int
    """When it was reported."""
    zeroed_ns: int
    """When its memory was made, so that nothing older is in it; 0 for one that is preserved again."""
    frames: Frames | None
    """None: the report cannot be read."""


def buffers(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> tuple[Buffer, ...]:
    """What an endpoint had preserved when this blackout began, and not un-preserved since."""
    timeline = evidence.timeline
    earlier = [b.end_ns for b in timeline.blackouts if b.update < blackout.update]
    begin_ns = earlier[-1] if earlier else 0
    held: dict[int | None, Buffer] = {}
    for report in sorted(_reports(evidence, ("preserve", "unpreserve")), key=lambda r: r.t_ns):
        if not begin_ns < report.t_ns <= blackout.begin.t_ns or evidence.function_of(report) is not function:
            continue
        token = report.number("token")
        if report.members["report"] == "unpreserve":
            # The ABI closes a whole session: everything listed goes.
            for gone in {token, *_listed_tokens(report)}:
                held.pop(gone, None)
        else:
            held[token] = Buffer(token, report.t_ns, _zeroed_ns(evidence, report), frames_of(report))
    return tuple(held.values())


def retrieved(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> Sequence[AgentMessage]:
    """The retrieve reports of an endpoint in the incoming kernel of this blackout."""
    return tuple(
        report
        for report in _reports(evidence, ("retrieve",))
        if blackout.begin.t_ns < report.t_ns <= blackout.end_ns and evidence.function_of(report) is function
    )


def finish_of(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> AgentMessage | None:
    """The first finish report of this blackout that covers an endpoint."""
    return next(
        (
            report
            for report in evidence.timeline.reports("finish")
            if blackout.begin.t_ns < report.t_ns <= blackout.end_ns and _covers(evidence, report, function)
        ),
        None,
    )


def _covers(evidence: Evidence, report: AgentMessage, function: FunctionEntry) -> bool:
    """Whether a finish is of this function: by its BDF, by its list of buffers, or as its session's."""
    if report.string("bdf") is not None:
        return evidence.function_of(report) is function
    listed = report.members.get("buffers")
    if not isinstance(listed, list) or not listed:
        return True
    names = [entry[0] for entry in listed if isinstance(entry, list) and entry]
    made = (AgentMessage(report.t_ns, False, {"bdf": name}) for name in names)
    return any(evidence.function_of(one) is function for one in made)


def _zeroed_ns(evidence: Evidence, report: AgentMessage) -> int:
    """When a buffer was ordered, if its report answers that; the agent makes it zeroed."""
    command = evidence.timeline.command_of(report)
    return command.t_ns if command is not None and command.members.get("cmd") == "buffer" else 0


def _reports(evidence: Evidence, names: Iterable[str]) -> list[AgentMessage]:
    return [report for name in names for report in evidence.timeline.reports(name)]


def _listed_tokens(report: AgentMessage) -> list[int]:
    listed = report.members.get("buffers")
    if not isinstance(listed, list):
        return []
    return [e[1] for e in listed if isinstance(e, list) and len(e) == 2 and isinstance(e[1], int)]
