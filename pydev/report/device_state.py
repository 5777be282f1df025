# SPDX-License-Identifier: MIT
"""In which exact state each function is when the outgoing kernel jumps, from its registers and its stream."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from pydev.continuity.addresses import IO, MEMORY, PREFETCHABLE, bars_in_use, window
from pydev.continuity.evidence import Evidence
from pydev.continuity.streams import StreamFacts, stream_facts
from pydev.recording.config import Values, field_values, known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout, Phase
from pydev.recording.timeline import Timeline
from pydev.report.lines import change, moment, name, number, set_fields, wrapped

POWER_STATES: Final = ("D0", "D1", "D2", "D3hot")
_SPEEDS: Final = {1: "2.5", 2: "5", 3: "8", 4: "16", 5: "32", 6: "64"}  # PCIe 6.0 7.5.3.8, GT/s
_FOLLOWED: Final = (
    "COMMAND", "PMCSR", "BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5", "SECONDARY_BUS", "SUBORDINATE_BUS",
    "BRIDGE_CONTROL", "DEVCTL", "DEVCTL2", "LNKCTL", "LNKCTL2", "SLTCTL", "ACS_CONTROL",
)  # fmt: skip
"""Registers of which each change since frozen is shown; those of interrupts are the next question's."""
MOST_CHANGES: Final = 12


def state_at_jump(
    evidence: Evidence, function: FunctionEntry, blackout: Blackout, jump: Phase
) -> Iterator[str]:
    """A function in full, a few lines."""
    timeline = evidence.timeline
    kept = ", preserved" if function.preserve else ""
    yield from wrapped(f"{name(timeline, function, jump.t_ns)}{kept}", "  ")
    yield from wrapped("; ".join(_parts(evidence, function, jump)), "    ")
    for facts in stream_facts(timeline, function):
        yield from wrapped(_stream(timeline, facts, blackout, jump), "    ")
    yield from _changes(timeline, function, blackout, jump)


def state_in_short(evidence: Evidence, function: FunctionEntry, jump: Phase) -> str:
    """A function in one line."""
    timeline = evidence.timeline
    command = held(timeline, function, "COMMAND", jump)
    master = {frozenset((0,)): "no bus master", frozenset((1,)): "bus master"}
    bits = held(timeline, function, "COMMAND", jump, "bus_master")
    words = [
        f"COMMAND {number(command)}",
        master.get(bits, "bus_master not known"),
        *_power(timeline, function, jump),
    ]
    if function.is_endpoint:
        words += [_running(facts, jump) for facts in stream_facts(timeline, function)]
    return f"{name(timeline, function, jump.t_ns)}: {', '.join(words)}"


def held(
    timeline: Timeline, function: FunctionEntry, register: str, phase: Phase, field: str | None = None
) -> Values:
    """What a register may have held at the jump: nobody writes any between where its phase begins and the sweep."""
    history = timeline.history(function.index, register)
    if history is None:
        return frozenset()
    entry = None if field is None else history.register.fields.get(field)
    return field_values(history.at(phase.t_ns), entry)


def _parts(evidence: Evidence, function: FunctionEntry, jump: Phase) -> Iterator[str]:
    timeline = evidence.timeline
    yield _register(timeline, function, "COMMAND", jump)
    yield from _power(timeline, function, jump)
    yield from _bars(evidence, function, jump)
    if not function.is_endpoint:
        yield from _bridge(evidence, function, jump)
    yield from _link(timeline, function, jump)


def _register(timeline: Timeline, function: FunctionEntry, register: str, jump: Phase) -> str:
    """A register with the fields that are set."""
    values = held(timeline, function, register, jump)
    value = known(values)
    fields = f" ({set_fields(function.registers[register], value)})" if value else ""
    return f"{register} {number(values)}{fields}"


def _power(timeline: Timeline, function: FunctionEntry, jump: Phase) -> Iterator[str]:
    if "PMCSR" in function.registers:
        states = held(timeline, function, "PMCSR", jump, "power_state")
        yield " or ".join(POWER_STATES[state] for state in sorted(states)) or "power state not known"


def _bars(evidence: Evidence, function: FunctionEntry, jump: Phase) -> Iterator[str]:
    bars = bars_in_use(evidence, function, jump.t_ns)
    if bars is None:
        if function.is_endpoint:
            yield "BARs not known"
        return
    for bar in bars:
        yield f"{bar.registers[0]} {bar.address:#x}{' (I/O)' if bar.is_io else ''}"


def _bridge(evidence: Evidence, function: FunctionEntry, jump: Phase) -> Iterator[str]:
    timeline = evidence.timeline
    buses = [
        known(held(timeline, function, register, jump))
        for register in ("PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS")
    ]
    shown = ["??" if bus is None else f"{bus:02x}" for bus in buses]
    yield f"buses {shown[0]} to {shown[1]}-{shown[2]}"
    for kind in (IO, MEMORY, PREFETCHABLE):
        found = window(evidence, function, kind, jump.t_ns)
        if found is not None:
            yield f"{kind.name} {found}"
    yield _register(timeline, function, "BRIDGE_CONTROL", jump)
    if known(held(timeline, function, "SLTCTL", jump, "power_controller")) == 1:
        yield "slot power off"


def _link(timeline: Timeline, function: FunctionEntry, jump: Phase) -> Iterator[str]:
    speed = known(held(timeline, function, "LNKSTA", jump, "speed"))
    lanes = known(held(timeline, function, "LNKSTA", jump, "width_lanes"))
    if speed in _SPEEDS and lanes:
        yield f"link {_SPEEDS[speed]} GT/s x{lanes}"
    if "LNKCTL" in function.registers:
        yield _register(timeline, function, "LNKCTL", jump)


def _running(facts: StreamFacts, jump: Phase) -> str:
    return f"stream {'running' if facts.run_at(jump.t_ns) is not None else 'not running'}"


def _stream(timeline: Timeline, facts: StreamFacts, blackout: Blackout, jump: Phase) -> str:
    """Whether its stream ran, and what it had written by then."""
    span = facts.during(blackout.begin.t_ns, jump.t_ns)
    refused = int(np.count_nonzero(facts.is_blocked[span]))
    count = (span.stop - span.start) - refused
    good = np.flatnonzero(~facts.is_blocked[: span.stop])
    words = [_running(facts, jump), f"{count} slots written since frozen and {refused} refused"]
    if len(good):
        last = int(facts.t_ns[good[-1]])
        words.append(f"the last written at {moment(timeline, last)}, number {int(facts.sequence[good[-1]])}")
    return "DMA: " + ", ".join(words)


def _changes(timeline: Timeline, function: FunctionEntry, blackout: Blackout, jump: Phase) -> Iterator[str]:
    """What moved between frozen and the jump."""
    found: list[tuple[int, str]] = []
    for register in _FOLLOWED:
        history = timeline.history(function.index, register)
        if history is None:
            continue
        events = history.between(blackout.begin.t_ns, jump.t_ns)
        moved = [event for event in events if event.before != event.after]
        found += [(event.t_ns, change(timeline, history.register, event)) for event in moved]
    if not found:
        yield "    nothing of this changed since frozen"
    for _, words in sorted(found)[:MOST_CHANGES]:
        yield from wrapped(words, "    ")
    if len(found) > MOST_CHANGES:
        yield f"    and {len(found) - MOST_CHANGES} more changes"
