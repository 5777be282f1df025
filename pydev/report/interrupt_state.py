# SPDX-License-Identifier: MIT
"""In which state MSI, MSI-X and INTx of each function are at the jump, and what became of its interrupts."""

from collections.abc import Iterator
from typing import Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.interrupt_fates import (
    CONTROL,
    KINDS,
    Fate,
    OpenSpan,
    VectorFates,
    fates,
    open_spans,
    pending,
    vectors_set_up,
)
from pydev.recording.config import Change, known
from pydev.recording.format import Gate
from pydev.recording.functions import FunctionEntry, RegisterEntry
from pydev.recording.phases import Blackout, Phase
from pydev.recording.timeline import Timeline
from pydev.report.device_state import held
from pydev.report.lines import change, moment, name, wrapped

_SAME_EVENT_NS: Final = 2_000_000
"""A gate closes with the config write that closes it, within this time."""
_GATING: Final = {
    Gate.BUS_MASTER_OFF: ("COMMAND", "bus_master"),
    Gate.POWER_STATE: ("PMCSR", "power_state"),
    Gate.IN_RESET: ("DEVCTL", "initiate_flr"),
    Gate.INTERRUPTS_OFF: ("MSIX_CONTROL", "enable"),
    Gate.FUNCTION_MASKED: ("MSIX_CONTROL", "function_mask"),
}
_STATES: Final = {frozenset((0,)): "off", frozenset((1,)): "on"}


def state_at_jump(evidence: Evidence, function: FunctionEntry, jump: Phase) -> Iterator[str]:
    """One paragraph about a function."""
    timeline = evidence.timeline
    parts = [*_messages(timeline, function, jump), _intx(timeline, function, jump)]
    yield from wrapped(f"{name(timeline, function, jump.t_ns)}: {'; '.join(parts)}", "  ")


def _messages(timeline: Timeline, function: FunctionEntry, jump: Phase) -> Iterator[str]:
    for region, register in CONTROL.items():
        if register not in function.registers:
            continue
        what = KINDS[region]
        enabled = held(timeline, function, register, jump, "enable")
        state = _STATES.get(enabled, "not known whether enabled")
        words = [f"{what} {state}"]
        if enabled == {1} and region == 2:
            masked = held(timeline, function, register, jump, "function_mask")
            words.append({"on": "masked", "off": "not masked"}.get(_STATES.get(masked, ""), "mask not known"))
        if function.is_endpoint and enabled != {0}:
            words += _vectors(timeline, function, region, jump)
        yield ", ".join(words)


def _vectors(timeline: Timeline, function: FunctionEntry, region: int, jump: Phase) -> Iterator[str]:
    up = vectors_set_up(timeline, function, region, jump.t_ns)
    yield f"vectors set up: {_listed(up)}"
    yield f"pending: {_listed(pending(timeline, function, region, jump.t_ns))}"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _intx(timeline: Timeline, function: FunctionEntry, jump: Phase) -> str:
    disabled = held(timeline, function, "COMMAND", jump, "intx_disable")
    state = {"on": "disabled", "off": "not disabled"}.get(_STATES.get(disabled, ""), "not known")
    pin = known(held(timeline, function, "INTERRUPT_PIN", jump))
    has_pin = "" if pin is None else f", pin {'ABCD'[pin - 1]}" if 1 <= pin <= 4 else ", no pin"
    return f"INTx {state}{has_pin}"


def became_of(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> Iterator[str]:
    """Whether an endpoint could raise interrupts from frozen on, did, and what became of them."""
    timeline = evidence.timeline
    yield from wrapped(name(timeline, function, blackout.begin.t_ns), "  ")
    yield from wrapped(_could(timeline, function, blackout), "    ")
    found = fates(evidence, function, blackout)
    for vector in found:
        yield from wrapped(_vector(timeline, vector), "    ")
    if not found:
        yield "    raised none"


def became_of_in_short(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> str:
    """An endpoint in one line."""
    found = fates(evidence, function, blackout)
    counts = {fate: sum(vector.count(fate) for vector in found) for fate in Fate}
    words = [f"{count} {fate}" for fate, count in counts.items() if count]
    raised = sum(counts.values())
    who = name(evidence.timeline, function, blackout.begin.t_ns)
    return f"{who}: {raised} raised: {', '.join(words)}" if raised else f"{who}: raised none"


def _remark(vector: VectorFates, fate: Fate) -> str:
    if fate is Fate.LOST:
        return f" ({_gates(vector.reasons)})"
    later = len(vector.delivered_later)
    return f", and {later} delivered from there" if fate is Fate.PENDING and later else ""


def _could(timeline: Timeline, function: FunctionEntry, blackout: Blackout) -> str:
    spans = open_spans(timeline, function, blackout.begin.t_ns, blackout.end_ns)
    if spans is None:
        return "whether it could raise any is not known: its gates are not on record"
    if not spans:
        return "could raise none"
    return "could raise them " + "; ".join(_span(timeline, function, span, blackout) for span in spans)


def _span(timeline: Timeline, function: FunctionEntry, span: OpenSpan, blackout: Blackout) -> str:
    opened = _gating_change(timeline, function, span.begin_ns, None)
    begin = "frozen" if span.begin_ns == blackout.begin.t_ns else opened or moment(timeline, span.begin_ns)
    if not span.closed_by:
        return f"from {begin} on"
    closed = _gating_change(timeline, function, span.end_ns, span.closed_by)
    return f"from {begin} until {closed or f'{moment(timeline, span.end_ns)} ({_gates(span.closed_by)})'}"


def _gating_change(
    timeline: Timeline, function: FunctionEntry, t_ns: int, closed_by: Gate | None
) -> str | None:
    """The register change that a gate opened or closed with, in words."""
    near: list[tuple[int, RegisterEntry, Change]] = []
    for gate, (register, field) in _GATING.items():
        history = timeline.history(function.index, register)
        if history is None or (closed_by is not None and not gate & closed_by):
            continue
        entry = history.register.fields.get(field)
        if entry is None:
            continue
        for event in history.between(t_ns - _SAME_EVENT_NS, t_ns + _SAME_EVENT_NS):
            moved = {entry.extract(v) for v in event.before} != {entry.extract(v) for v in event.after}
            if moved:
                near.append((abs(event.t_ns - t_ns), history.register, event))
    if not near:
        return None
    _, register_entry, event = min(near, key=lambda found: found[0])
    return change(timeline, register_entry, event)


def _gates(gates: Gate) -> str:
    return ", ".join(gate.name.lower() for gate in Gate if gate & gates and gate.name) or "not known why"


def _vector(timeline: Timeline, vector: VectorFates) -> str:
    what = f"{KINDS.get(vector.region, 'interrupt')} vector {vector.vector}"
    raised = vector.raised
    words = []
    for fate in Fate:
        count = vector.count(fate)
        if count:
            words.append(f"{count} {fate}{_remark(vector, fate)}")
    if not raised:
        words.append(f"{len(vector.delivered_later)} held pending before that")
    first, last = (moment(timeline, vector.told[end].t_ns) for end in (0, -1))
    when = f"at {first}" if first == last else f"from {first} to {last}"
    return f"{what}: {len(raised)} raised, {when}: {', '.join(words)}"
