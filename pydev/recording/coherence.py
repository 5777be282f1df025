# SPDX-License-Identifier: MIT
"""What a recording says twice: states before and after, counters, schedules, stamps and slots.

The server, the stream runner and the bench leave more than a judgement needs, so that an event which is missing,
doubled, moved or altered contradicts another. Each contradiction is a problem: the record is not what happened.
What the guest's kernel did is not judged here.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from pydev.ports import DMA_GATES, INTERRUPT_GATES
from pydev.recording.byte_access import BYTE, access_of
from pydev.recording.format import CONFIG_REGION, NO_FUNCTION, Flag, Gate, Kind, Mark
from pydev.recording.functions import FunctionEntry
from pydev.recording.messages import AgentMessage

if TYPE_CHECKING:
    from pydev.recording.timeline import Slots, Timeline

OUT_OF_ORDER_NS: Final = 50_000_000
"""A writer stamps a record and claims its slot at once: a bench that is later than this decides nothing."""
_APPENDED: Final = (
    Kind.TRACE_READ, Kind.TRACE_WRITE, Kind.IOMMU, Kind.STACK, Kind.ATTRIBUTION, Kind.CONTINUATION,
)  # fmt: skip
"""Kinds that are appended when the run is over, or that carry another record's time."""
_LINES: Final = (Kind.CONSOLE, Kind.AGENT)
"""Kinds that are stamped with the first byte of a line and recorded with its last: they may lag."""
_ACKNOWLEDGEMENT: Final = "frozen_ack"
"""The only command that nobody answers."""
_ABOUT: Final = ("bdf", "token", "session")
_PIECE: Final = 1 << 19


def coherence_problems(timeline: "Timeline") -> list[str]:
    """Every contradiction that is found; none of a recording that is what happened."""
    problems = [*_marks(timeline), *_stamps(timeline), *_references(timeline), *_traced(timeline)]
    problems += [*_plugin(timeline), *_trailer(timeline), *_commands(timeline)]
    for function in timeline.functions:
        if function.is_endpoint:
            found = [*_clients(timeline, function), *_gates(timeline, function)]
            found += [*_refusals(timeline, function), *_interrupts(timeline, function)]
            found += [*_refused_writes(timeline, function), *_effects(timeline, function)]
            problems += [f"{function.id}: {problem}" for problem in found]
    return problems


def _marks(timeline: "Timeline") -> Iterator[str]:
    """QEMU is started, runs and exits once each, in this order, and nothing of the guest's is outside of that."""
    times = [timeline.marks(mark) for mark in (Mark.QEMU_STARTED, Mark.MACHINE_RUNNING, Mark.QEMU_EXITED)]
    for mark, found in zip((Mark.QEMU_STARTED, Mark.MACHINE_RUNNING, Mark.QEMU_EXITED), times, strict=True):
        if len(found) != 1:
            yield f"the mark {mark.name} is there {len(found)} times"
    known = {int(mark) for mark in Mark}
    unknown = set(timeline.column("value", timeline.of_kind(Kind.MARK)).tolist()) - known
    if unknown:
        yield f"there are marks that this version does not know: {sorted(unknown)}"
    if any(len(found) != 1 for found in times):
        return
    started, running, exited = (found[0] for found in times)
    if not started <= running <= exited:
        yield "QEMU was not started, running and gone in that order"
    traced = timeline.t_ns[timeline.of_kinds((Kind.TRACE_READ, Kind.TRACE_WRITE, Kind.PLUGIN_WRITE))]
    heard = timeline.t_ns[timeline.of_kind(Kind.AGENT)]
    if len(traced) and int(traced.min()) < running - OUT_OF_ORDER_NS:  # QMP tells of it afterwards
        yield "the guest accessed config space before its machine was running"
    if (
        max((int(times.max()) for times in (traced, heard) if len(times)), default=0)
        > exited + OUT_OF_ORDER_NS
    ):
        yield "the guest did something after QEMU had exited"


def _stamps(timeline: "Timeline") -> Iterator[str]:
    """Records lie in the order of their stamps, but for what lies between reading a clock and claiming a slot."""
    latest, worst, where = 0, 0, 0
    appended, lines = ([int(kind) for kind in kinds] for kinds in (_APPENDED, _LINES))
    for begin in range(0, len(timeline.t_ns), _PIECE):
        kinds = timeline.kinds[begin : begin + _PIECE]
        live = np.flatnonzero(~np.isin(kinds, appended))
        if not len(live):
            continue
        times = timeline.t_ns[begin : begin + _PIECE][live].astype(np.int64)
        highest = np.maximum(np.maximum.accumulate(times), latest)
        behind = np.where(np.isin(kinds[live], lines), 0, highest - times)
        at = int(np.argmax(behind))
        if behind[at] > worst:
            worst, where = int(behind[at]), begin + int(live[at])
        latest = int(highest[-1])
    if worst > OUT_OF_ORDER_NS:
        yield f"the record in slot {where} is stamped {worst / 1e6:.1f} ms before one that it follows"
    for kind in _LINES:
        if (np.diff(timeline.t_ns[timeline.of_kind(kind)].astype(np.int64)) < 0).any():
            yield f"{kind.name} lines are not in the order of their stamps"


def _references(timeline: "Timeline") -> Iterator[str]:
    """The reference ticks are numbered one by one, due one period apart, and none comes before it is due."""
    slots = timeline.of_kind(Kind.REFERENCE)
    if len(slots) < 2:
        return
    number, due = (column.astype(np.int64) for column in timeline.columns(("value", "extra"), slots))
    if (np.diff(number) != 1).any():
        yield "the reference ticks are not numbered one by one"
    steps = np.diff(due)
    if (steps != steps[0]).any():
        yield "the reference ticks are not due one period apart"
    if (timeline.t_ns[slots].astype(np.int64) < due).any():
        yield "a reference tick came before it was due"


def _traced(timeline: "Timeline") -> Iterator[str]:
    """An access that no function answered reached none of the topology's."""
    slots = timeline.of_kinds((Kind.TRACE_READ, Kind.TRACE_WRITE))
    error, function = timeline.columns(("error", "function"), slots)
    wrong = (error != 0) & (function != NO_FUNCTION)
    if wrong.any():
        yield f"{int(wrong.sum())} trace lines are of a function and say that none answered"


def _plugin(timeline: "Timeline") -> Iterator[str]:
    """The plugin's count is its last word; and each jump belongs to an update that was made."""
    ends = timeline.of_kind(Kind.PLUGIN_END)
    seen = timeline.of_kinds((Kind.PLUGIN_WRITE, Kind.PLUGIN_JUMP))
    if len(ends) and len(seen) and int(seen[-1]) > int(ends[0]):
        yield "the plugin wrote after its last word"
    jumps = timeline.t_ns[timeline.of_kind(Kind.PLUGIN_JUMP)].tolist()
    for blackout in timeline.blackouts:
        sweep = blackout.start_of("enumeration")
        until_ns = blackout.end_ns if sweep is None else sweep
        inside = [t_ns for t_ns in jumps if blackout.begin.t_ns < t_ns <= until_ns]
        jumps = [t_ns for t_ns in jumps if t_ns not in inside]
        if len(inside) > 1:
            yield f"the outgoing kernel of update {blackout.update + 1} jumped {len(inside)} times"
    if jumps:
        yield f"{len(jumps)} jumps to another kernel are not between frozen and the sweep of any update"


def _trailer(timeline: "Timeline") -> Iterator[str]:
    """What the trailer of every run says."""
    trailer = timeline.trailer
    if timeline.recording.trailer is None:
        return
    if not isinstance(trailer.get("incomplete"), list):
        yield "the trailer does not say whether anything went wrong"
    if not isinstance((trailer.get("trace") or {}).get("writes"), int):
        yield "the trailer does not count the trace's config writes"
    clock = trailer.get("clock") or {}
    offsets, step = clock.get("realtime_minus_monotonic_ns") or [], clock.get("step_ns")
    are_two = isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(n, int) for n in offsets)
    if not are_two or step != abs(offsets[1] - offsets[0]):
        yield f"the system clock's offsets {offsets} do not make its step of {step} ns"


def _commands(timeline: "Timeline") -> Iterator[str]:
    """Each reply of the guest answers one command, in its boot, about what was asked; and none is left out."""
    commands: dict[int, AgentMessage] = {}
    answered: set[int] = set()
    for message in timeline.messages:
        number = message.number("seq")
        if message.damage is not None or number is None:
            continue
        if message.to_guest:
            commands[number] = message
            if message.string("cmd") is None:
                yield f"line {number} of the host gives no command"
        elif message.members.get("event") == "hello":
            yield from _unanswered(commands, answered)
            commands, answered = {}, set()
        elif (asked := message.number("re")) is not None:
            command = commands.get(asked)
            if command is None or asked in answered:
                yield f"a reply answers command {asked}, which is {'answered' if command else 'not there'}"
            elif any(
                command.members.get(name, told) != told
                for name in _ABOUT
                if (told := message.members.get(name)) is not None
            ):
                yield f"the reply to command {asked} ({command.string('cmd')}) is about something else"
            answered.add(asked)
    yield from _unanswered(commands, answered)
    said = [m.t_ns for m in timeline.messages if m.to_guest and m.string("cmd") == _ACKNOWLEDGEMENT]
    marked = timeline.marks(Mark.FROZEN_ACKNOWLEDGED)
    if len(said) != len(marked) or any(
        abs(a - b) > OUT_OF_ORDER_NS for a, b in zip(said, marked, strict=False)
    ):
        yield f"the host acknowledged {len(said)} frozen lines, and marked {len(marked)}, or at other moments"


def _unanswered(commands: dict[int, AgentMessage], answered: set[int]) -> Iterator[str]:
    """A command that was passed over: later ones of its boot were answered."""
    for number, command in commands.items():
        if (
            number < max(answered, default=0)
            and number not in answered
            and command.string("cmd") != _ACKNOWLEDGEMENT
        ):
            yield f"command {number} ({command.string('cmd')}) was never answered"


def _clients(timeline: "Timeline", function: FunctionEntry) -> Iterator[str]:
    """QEMU connects, goes away, connects again: never twice the same; and nothing happens before the first."""
    slots = timeline.of_kind(Kind.CLIENT, function.index)
    states = timeline.column("value", slots).tolist()
    served = timeline.of_kinds(
        (Kind.REGION_READ, Kind.REGION_WRITE, Kind.DMA_MAP, Kind.IRQ_SETUP), function.index
    )
    if not states:
        if len(served):
            yield "QEMU accessed it and never connected"
        return
    if states[0] != 1 or any(a == b for a, b in pairwise(states)) or set(states) - {0, 1}:
        yield f"QEMU's connection came and went as {states}"
    if len(served) and served[0] < slots[0]:
        yield "QEMU accessed it before it connected"


def _gates(timeline: "Timeline", function: FunctionEntry) -> Iterator[str]:
    """Each change of the gate begins with what the one before it left."""
    before, after = timeline.columns(("extra", "aux"), timeline.of_kind(Kind.GATE, function.index))
    if (before == after).any():
        yield "a change of its gate changed nothing"
    broken = np.flatnonzero(before[1:] != after[:-1])
    if len(broken):
        at = int(broken[0])
        yield (
            f"its gate was left at {_gate(int(after[at]))} and changed from {_gate(int(before[at + 1]))}: "
            "a change is missing"
        )


def _gate(state: int) -> str:
    return "|".join(gate.name or "" for gate in Gate if state & gate) or "open"


def _refusals(timeline: "Timeline", function: FunctionEntry) -> Iterator[str]:
    """What is refused is what the gate refuses at that slot, for its reasons; what is not is let pass."""
    gates = timeline.of_kind(Kind.GATE, function.index)
    for kind in (Kind.DMA_WRITE, Kind.DMA_READ):
        dma = timeline.transactions(kind, function.index)
        if not len(dma.slots):
            continue
        if not len(gates):
            yield "it did DMA, and no state of its gate was recorded"
            return
        due = (_states(timeline, gates, dma.slots) & np.uint64(int(DMA_GATES))).astype(np.uint16)
        has_fault = (dma.flags & np.uint16(int(Flag.FAULT))) != 0
        is_refused = (dma.flags & np.uint16(int(Flag.BLOCKED))) != 0
        wrong = (dma.error != due) | (is_refused != ((due != 0) | has_fault)) | (has_fault & (due != 0))
        if wrong.any():
            yield f"{int(wrong.sum())} transactions were refused or let pass, and its gate says otherwise"


def _states(timeline: "Timeline", gates: "Slots", slots: "Slots") -> npt.NDArray[np.uint64]:
    """The gate at each of some slots."""
    before, after = timeline.columns(("extra", "aux"), gates)
    found: npt.NDArray[np.uint64] = np.concatenate((before[:1], after))[np.searchsorted(gates, slots)]
    return found


def _interrupts(timeline: "Timeline", function: FunctionEntry) -> Iterator[str]:
    """Raised interrupts are counted one by one; one that was pending is delivered without being counted again."""
    slots = timeline.of_kind(Kind.INTERRUPT, function.index)
    if not len(slots):
        return
    flags, error, number = timeline.columns(("flags", "error", "value"), slots)
    steps = np.diff(number.astype(np.int64), prepend=0)
    is_delivery = (steps == 0) & (flags == 0)
    if ((steps != 1) & ~is_delivery).any():
        yield "the interrupts that it raised are not counted one by one"
    is_held = (flags & np.uint16(int(Flag.PENDING))) != 0
    if int(is_delivery.sum()) > int(is_held.sum()):
        yield f"{int(is_delivery.sum())} pending interrupts were delivered, and {int(is_held.sum())} were held"
    yield from _vectors(timeline, function, slots[flags == 0])
    gates = timeline.of_kind(Kind.GATE, function.index)
    if not len(gates):
        yield "it raised interrupts, and no state of its gate was recorded"
        return
    states = _states(timeline, gates, slots).astype(np.uint16)
    due, mask = states & np.uint16(int(INTERRUPT_GATES)), states & np.uint16(int(Gate.FUNCTION_MASKED))
    is_lost = (flags & np.uint16(int(Flag.BLOCKED))) != 0
    wrong = (is_lost != (due != 0)) | (is_lost & (error != due))
    if (wrong | (is_held & (error != mask)) | ((flags == 0) & (mask != 0))).any():
        yield "interrupts were lost, held or sent, and its gate says otherwise"


def _vectors(timeline: "Timeline", function: FunctionEntry, sent: "Slots") -> Iterator[str]:
    """An interrupt that was sent had a file, which QEMU gave to its vector before."""
    setups = timeline.of_kind(Kind.IRQ_SETUP, function.index)
    first, count, files = timeline.columns(("address", "size", "extra"), setups)
    (vectors,) = timeline.columns(("address",), sent)
    for vector in np.unique(vectors).tolist():
        given = setups[(first <= vector) & (vector < first + count) & (files > 0)]
        earliest = sent[vectors == vector][0]
        if not len(given) or given[0] > earliest:
            yield f"vector {vector} was sent, and QEMU had given it no file"


def _effects(timeline: "Timeline", function: FunctionEntry) -> Iterator[str]:
    """A config write that no model decided left what its fields' access kinds make of it."""
    access = access_of(function.registers.values())
    slots = timeline.config_writes(function.index)
    names = ("flags", "error", "address", "size", "value", "extra", "aux")
    rows = zip(*(column.tolist() for column in timeline.columns(names, slots)), strict=True)
    for flags, error, begin, size, written, before, after in rows:
        if error or flags & Flag.TRAPPED:
            continue
        for at in range(min(size, 8)):
            byte = access.get(begin + at)
            old, new, left = (value >> 8 * at & BYTE for value in (before, written, after))
            if byte is not None and (byte.after(old, new) ^ left) & ~byte.reserved:
                yield f"a write of {size} bytes @{begin:#x} <- {written:#x} left {after:#x} of {before:#x}"
                break


def _refused_writes(timeline: "Timeline", function: FunctionEntry) -> Iterator[str]:
    """The server answers every config write: an errno is its own doing, and the guest's write is then in doubt."""
    slots = timeline.of_kind(Kind.REGION_WRITE, function.index)
    region, error = timeline.columns(("region", "error"), slots)
    refused = int(((region == CONFIG_REGION) & (error != 0)).sum())
    if refused:
        yield f"the server answered {refused} config writes with an error"
