# SPDX-License-Identifier: MIT
"""Config writes themselves, for registers whose value does not tell that they were written.

A bit that acts when a one is written to it reads 0 before and after; a status bit that a one clears reads 0 after
any number of them. What was written is taken from the witness that has widths: the server for endpoints, the TCG
plugin for bridges; else from QEMU's trace, which has none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydev.continuity.causes import reset_cause
from pydev.continuity.check import Case
from pydev.continuity.evidence import Evidence, transition, watch
from pydev.continuity.outcome import Finding
from pydev.recording.attribution import Attribution
from pydev.recording.config import Change, Values, field_values, known, least_width, possible_widths
from pydev.recording.format import Kind
from pydev.recording.functions import FieldEntry, FunctionEntry, RegisterEntry
from pydev.recording.phases import Blackout


@dataclass(frozen=True, slots=True)
class ConfigWrite:
    """One config write to one function."""

    t_ns: int
    offset: int
    value: int
    width: int | None
    """Bytes; None where only the trace saw it."""
    writer: Attribution | None = None

    @property
    def least_bytes(self) -> int:
        """How many bytes it has written for certain."""
        return least_width(self.value) if self.width is None else self.width

    @property
    def most_bytes(self) -> int:
        """How many it can have written."""
        return possible_widths(self.offset, self.value)[-1] if self.width is None else self.width

    def touches(self, register: RegisterEntry) -> bool:
        """Whether it has written a byte of the register for certain."""
        return (
            self.offset < register.offset + register.width
            and register.offset < self.offset + self.least_bytes
        )

    def field(self, register: RegisterEntry, entry: FieldEntry) -> tuple[int, bool] | None:
        """What it wrote to a field, and whether it did for certain; None where it cannot have reached it."""
        first = 8 * (register.offset - self.offset) + entry.lsb
        if first < 0 or first + entry.bits > 8 * self.most_bytes:
            return None
        is_certain = first + entry.bits <= 8 * self.least_bytes
        return self.value >> first & (1 << entry.bits) - 1, is_certain


def config_writes(evidence: Evidence, function: FunctionEntry) -> Sequence[ConfigWrite]:
    """Every config write to a function, in time order."""
    timeline = evidence.timeline
    if function.is_endpoint:
        slots = timeline.config_writes(function.index)
        names = ("t_ns", "address", "value", "size")
        authors = timeline.agreement[function.index].authors()
        rows = zip(slots.tolist(), *(timeline.column(name, slots).tolist() for name in names), strict=True)
        return [
            ConfigWrite(t_ns, offset, value, size, authors.get(slot))
            for slot, t_ns, offset, value, size in rows
        ]
    seen = timeline.plugin_writes(function.index)
    if seen:
        return [ConfigWrite(w.t_ns, w.offset, w.value, w.width, w.attribution) for w in seen]
    slots = timeline.of_kind(Kind.TRACE_WRITE, function.index)
    rows = zip(*(timeline.column(name, slots).tolist() for name in ("t_ns", "address", "value")), strict=True)
    return [ConfigWrite(t_ns, offset, value, None) for t_ns, offset, value in sorted(rows)]


def writes_during(
    evidence: Evidence, function: FunctionEntry, begin: tuple[int, int], end: tuple[int, int]
) -> Iterator[tuple[ConfigWrite, bool]]:
    """The writes after one moment and not after another, and whether each is at an edge.

    Each moment is its time and its uncertainty, in ns: within that nobody can say on which side a write is.
    """
    margin = 0 if function.is_endpoint else evidence.timeline.bridge_uncertainty_ns
    (begin_ns, early), (end_ns, late) = begin, end
    early, late = early + margin, late + margin
    for write in config_writes(evidence, function):
        if begin_ns - early - 1 < write.t_ns <= end_ns + late:
            is_early = early > 0 and write.t_ns < begin_ns + early
            yield write, is_early or (late > 0 and write.t_ns > end_ns - late)


def blackout_writes(
    evidence: Evidence, function: FunctionEntry, blackout: Blackout
) -> Iterator[tuple[ConfigWrite, bool]]:
    """The writes of a blackout, and whether each is at its edge."""
    begin, end = blackout.begin, (blackout.end_ns, blackout.end_uncertainty_ns)
    return writes_during(evidence, function, (begin.t_ns, begin.uncertainty_ns), end)


def finding_of(
    evidence: Evidence,
    function: FunctionEntry,
    write: ConfigWrite,
    register: RegisterEntry,
    entry: FieldEntry | None,
    words: str = "",
) -> Finding:
    """The finding for one write to a register; `words` instead of old and new value."""
    history = evidence.timeline.history(function.index, register.name)
    changes = () if history is None else history.between(write.t_ns - 1, write.t_ns)
    made = next((change for change in changes if change.cause in ("write", "trace")), None)
    if made is None:
        held = frozenset[int]() if history is None else history.at(write.t_ns - 1)
        made = Change(write.t_ns, held, held, write.width, "write", write.writer)
    finding = transition(evidence, function, made, register.name, entry)
    if not words and made.before != made.after:
        return finding
    words = words or f"written with {write.value:#x} and still {_text(made.after)}"
    name = register.name if entry is None else f"{register.name}.{entry.name}"
    where = evidence.name(function, write.t_ns - 1)
    return replace(finding, message=f"{name} {words} at {where} in {finding.phase}")


def _text(values: Values) -> str:
    value = known(values)
    return "not known" if value is None else f"{value:#x}"


@dataclass(frozen=True, slots=True)
class NeverWritten:
    """A bit that acts when a one is written to it, and may not act."""

    register: str
    field: str
    does: str
    """What it does, in a few words."""
    only_while: tuple[str, str] | None = None
    """A register's field that has to be set when frozen, or it does no harm."""

    def judge(self, case: Case) -> bool:
        """Look for a written one; it is examined where the function has the register at all."""
        register = case.function.registers.get(self.register)
        entry = None if register is None else register.fields.get(self.field)
        if watch(case.evidence, case.function, case.blackout, self.register, self.field) is None:
            return False
        assert register is not None
        assert entry is not None
        if self.only_while is not None:
            switch = watch(case.evidence, case.function, case.blackout, *self.only_while)
            if switch is None or known(switch.initial) == 0:
                case.notes.append(f"{'.'.join(self.only_while)} of {case.name} was off when frozen")
                return False
        for write, is_at_edge in blackout_writes(case.evidence, case.function, case.blackout):
            written = write.field(register, entry)
            if written is None or not written[0]:
                continue
            is_certain = written[1] and not is_at_edge
            words = f"written with 1 ({self.does}){'' if is_certain else ' (not certain)'}"
            finding = finding_of(case.evidence, case.function, write, register, entry, words)
            if is_certain:
                case.judgement.fail(finding)
            else:
                case.judgement.doubt(finding)
        return False


@dataclass(frozen=True, slots=True)
class Erased:
    """Status bits that record what happened: set when frozen, they have to be there for whoever looks."""

    register: str
    fields: tuple[str, ...]

    def judge(self, case: Case) -> bool:
        """Look for a written one where the bit was set; a bit that was 0 shows nothing."""
        was_examined = [self._judge_field(case, field) for field in self.fields]
        return any(was_examined)

    def _judge_field(self, case: Case, field: str) -> bool:
        watched = watch(case.evidence, case.function, case.blackout, self.register, field)
        if watched is None or watched.entry is None:
            return False
        register, entry = watched.history.register, watched.entry
        label = f"{self.register}.{field} of {case.name}"
        held = known(watched.initial)
        if held == 0:
            case.notes.append(
                f"no bit of {self.register} of {case.name} was set when frozen: nothing could be erased"
            )
            return False
        for write, is_at_edge in blackout_writes(case.evidence, case.function, case.blackout):
            written = write.field(register, entry)
            if written is None or not written[0]:
                continue
            is_certain = held == 1 and written[1] and not is_at_edge
            words = f"erased by a written 1{'' if is_certain else ' (not certain)'}"
            finding = finding_of(case.evidence, case.function, write, register, entry, words)
            if is_certain:
                case.judgement.fail(finding)
                return True
            case.judgement.doubt(finding)
        if held is None:
            case.notes.append(f"{label} was never seen")
            return False
        self._judge_losses(case, field)
        return True

    def _judge_losses(self, case: Case, field: str) -> None:
        """What was lost by no write of a one: by a reset, or by nobody knows what."""
        watched = watch(case.evidence, case.function, case.blackout, self.register, field)
        assert watched is not None
        for change, is_at_edge in watched.changes:
            before, after = (field_values(values, watched.entry) for values in (change.before, change.after))
            if change.cause in ("write", "trace") or 1 not in before or 0 not in after:
                continue
            is_certain = known(after) == 0 and change.cause != "read" and not is_at_edge
            note = "" if is_certain else " (not certain)"
            finding = transition(case.evidence, case.function, change, self.register, watched.entry, note)
            if is_certain:
                case.judgement.fail(finding, reset_cause(case.evidence, case.function, change))
            else:
                case.judgement.doubt(finding)
