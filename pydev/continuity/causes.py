# SPDX-License-Identifier: MIT
"""What follows from what: a reset takes with it registers, streams and numbers, and is to blame for them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding
from pydev.continuity.stretches import Times
from pydev.recording.attribution import Attribution
from pydev.recording.config import Change
from pydev.recording.format import Kind, ResetKind
from pydev.recording.functions import FunctionEntry, upstream_path
from pydev.recording.joining import LATE_NS

RESET_NS: Final = 5_000_000
"""A reset, what the client writes around it and what it changes are recorded within this time."""
_SLOW_RESET_NS: Final = 1_000_000_000
"""What a reset changes is recorded no later than this after it, however loaded the host is."""

SLOW_CLIENT_NS: Final = 100_000_000
"""The client's writes around a reset are no further from it than this, and it hears of a bus reset within this time,
however loaded the host is."""


def resets(
    evidence: Evidence, function: FunctionEntry, begin_ns: int, end_ns: int
) -> list[tuple[int, ResetKind | int]]:
    """An endpoint's resets after one moment and not after another: when, and of which kind."""
    timeline = evidence.timeline
    slots = timeline.of_kind(Kind.RESET, function.index)
    times = timeline.t_ns[slots]
    slots = slots[(times > begin_ns) & (times <= end_ns)]
    kinds = timeline.column("value", slots).tolist()
    known = set(ResetKind)
    return [
        (t_ns, ResetKind(kind) if kind in known else kind)
        for t_ns, kind in zip(timeline.t_ns[slots].tolist(), kinds, strict=True)
    ]


def is_at_reset(evidence: Evidence, function: FunctionEntry, t_ns: int) -> bool:
    """Whether an endpoint was being reset at a moment, and RESET failed for it."""
    timeline = evidence.timeline
    times = timeline.t_ns[timeline.of_kind(Kind.RESET, function.index)].astype(np.int64)
    is_near = bool((np.abs(times - t_ns) <= RESET_NS).any())
    return evidence.failed("RESET") and (is_near or _is_resets_own(evidence, function, times, t_ns))


def _is_resets_own(evidence: Evidence, function: FunctionEntry, times: Times, t_ns: int) -> bool:
    """Whether nobody has written to the function since its latest reset: on a loaded host that takes a while."""
    before = times[(times <= t_ns) & (times > t_ns - _SLOW_RESET_NS)]
    if not len(before):
        return False
    writes = evidence.timeline.t_ns[evidence.timeline.config_writes(function.index)]
    return not bool(((writes > before.max()) & (writes < t_ns)).any())


def author_of(evidence: Evidence, function: FunctionEntry, t_ns: int) -> Attribution | None:
    """Who made the config write by which a gate of this endpoint closed, or it was reset, at a moment.

    The guest's processor waits for the endpoint's answer: it is the latest write to the function before that, or
    to a bridge above that then began to hold its bus in reset.
    """
    timeline = evidence.timeline
    above = upstream_path(timeline.functions, function.index)
    resets = [one for port in above for one in timeline.plugin.bus_resets.get(port.index, ())]
    writes = [(write.t_ns, write.attribution) for write in timeline.plugin_writes(function.index)]
    before = [(when, who) for when, who in (*resets, *writes) if when <= t_ns]
    when, who = max(before, key=lambda one: one[0], default=(0, None))
    return who if t_ns - when <= LATE_NS else None


def by_author(finding: Finding, author: Attribution | None) -> Finding:
    """The finding with its author, if there is one."""
    if author is None:
        return finding
    return replace(finding, function=author.function, stack=author.frames)


def reset_cause(evidence: Evidence, function: FunctionEntry, change: Change) -> str | None:
    """RESET, where that is what changed a register: no config write of the guest did."""
    if change.cause == "bus reset":
        return "RESET" if evidence.failed("RESET") else None
    if change.cause == "write":  # the client's own, of its reset sequence: nobody reset by the guest's
        reach_ns = _slack_ns(evidence, change)
        found = resets(evidence, function, change.t_ns - reach_ns, change.t_ns + reach_ns)
        is_clients = any(kind == ResetKind.DEVICE for _, kind in found)
        return "RESET" if is_clients and evidence.failed("RESET") else None
    is_own = change.cause == "device" and is_at_reset(evidence, function, change.t_ns)
    return "RESET" if is_own else None


def _slack_ns(evidence: Evidence, change: Change) -> int:
    """How far from a reset a write may be and still belong to it: what no guest has made belongs to some reset."""
    is_nobodys = evidence.timeline.has_plugin and change.writer is None
    return SLOW_CLIENT_NS if is_nobodys else RESET_NS


def shared(evidence: Evidence, causes: Iterable[str | None]) -> str | None:
    """The one rule that explains everything: the cause itself, or what several causes go back to."""
    found = set(causes)
    if len(found) <= 1 or None in found:
        return next(iter(found), None) if len(found) == 1 else None
    roots = {_root(evidence, cause) for cause in found if cause is not None}
    return next(iter(roots)) if len(roots) == 1 else None


def _root(evidence: Evidence, rule: str) -> str:
    seen = {rule}
    while (result := evidence.results.get(rule)) is not None and result.caused_by is not None:
        if result.caused_by in seen:
            break
        rule = result.caused_by
        seen.add(rule)
    return rule
