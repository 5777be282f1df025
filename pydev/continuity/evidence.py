# SPDX-License-Identifier: MIT
"""What a rule may look at: the timeline, who is preserved, what the rules before it have said."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pydev.continuity.outcome import Finding, Judgement, Outcome, Result
from pydev.continuity.scope import Scope
from pydev.recording.config import Change, History, field_values, known
from pydev.recording.functions import FieldEntry, FunctionEntry, upstream_path
from pydev.recording.messages import AgentMessage
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Timeline
from pydev.units import bdf_text, parse_bdf


@dataclass
class Evidence:
    """The timeline as rules see it. `results` holds what earlier rules of the policy have said.

    A policy may have a rule judge some functions and registers only: a rule that takes its functions from here
    and its registers from `watch` sees no others.
    """

    timeline: Timeline
    results: Mapping[str, Result] = field(default_factory=dict)
    scope: Scope | None = None
    """What is judged; None: everything."""
    watched: set[tuple[int, str, str | None]] = field(default_factory=set)
    """What the rule has asked for and the header declares: function index, register, field."""

    @property
    def blackouts(self) -> tuple[Blackout, ...]:
        """The spans that rules judge."""
        return self.timeline.blackouts

    @cached_property
    def functions(self) -> tuple[FunctionEntry, ...]:
        """The functions that are judged, in index order."""
        scope = self.scope
        return tuple(f for f in self.timeline.functions if scope is None or scope.has_function(f))

    @cached_property
    def endpoints(self) -> tuple[FunctionEntry, ...]:
        """Every endpoint, preserved or not."""
        return tuple(f for f in self.functions if f.is_endpoint)

    @cached_property
    def preserved(self) -> tuple[FunctionEntry, ...]:
        """The endpoints that the experiment declares preserved."""
        return tuple(f for f in self.endpoints if f.preserve)

    @cached_property
    def bridges(self) -> tuple[FunctionEntry, ...]:
        """Every bridge on the upstream path of a preserved endpoint, in index order."""
        everyone = self.timeline.functions
        preserved = (f for f in everyone if f.is_endpoint and f.preserve)
        above = {port.index for f in preserved for port in upstream_path(everyone, f.index)}
        return tuple(f for f in self.functions if f.index in above)

    def name(self, function: FunctionEntry, t_ns: int) -> str:
        """A function's BDF at a moment, or its id where it has none."""
        bdf = self.timeline.bdf_at(function.index, t_ns)
        return function.id if bdf is None else bdf_text(bdf)

    def function_of(self, message: AgentMessage) -> FunctionEntry | None:
        """The function that a report's `bdf` names at its time."""
        try:
            bdf = parse_bdf(message.string("bdf") or "")
        except ValueError:
            return None
        found = self.timeline.function_at(bdf, message.t_ns)
        if found is not None:
            return found
        # The guest names it as it knew it, though the number above was lost since: by a reset, say.
        begins = [b.begin.t_ns for b in self.blackouts if b.begin.t_ns <= message.t_ns]
        before = self.timeline.function_at(bdf, begins[-1]) if begins else None
        is_lost = before is not None and self.timeline.bdf_at(before.index, message.t_ns) is None
        return before if is_lost else None

    def failed(self, rule: str, function: FunctionEntry | None = None) -> bool:
        """Whether an earlier rule failed, with a finding at this function if one is given."""
        result = self.results.get(rule)
        if result is None or result.outcome is not Outcome.FAIL:
            return False
        if function is None:
            return True
        return any(
            finding.bdf is not None
            and finding.t_ns is not None
            # The number just before, as the finding itself may be a change of it.
            and finding.bdf == self.timeline.bdf_at(function.index, finding.t_ns - 1)
            for finding in result.findings
        )


def transition(
    evidence: Evidence,
    function: FunctionEntry,
    change: Change,
    register: str,
    entry: FieldEntry | None,
    note: str = "",
) -> Finding:
    """The finding for one change of a register or of one of its fields."""
    timeline = evidence.timeline
    bdf = timeline.bdf_at(function.index, change.t_ns - 1)
    phase = timeline.phase_at(change.t_ns)
    name = register if entry is None else f"{register}.{entry.name}"
    old, new = (_text(field_values(v, entry)) for v in (change.before, change.after))
    where = function.id if bdf is None else bdf_text(bdf)
    how = "" if change.cause in ("write", "trace") else f", by {_CAUSES.get(change.cause, change.cause)}"
    return Finding(
        message=f"{name} {old} -> {new} at {where} in {phase}{how}{note}",
        t_ns=change.t_ns,
        phase=phase,
        bdf=bdf,
        register=register,
        field=None if entry is None else entry.name,
        width=change.width,
        before=known(change.before),
        after=known(change.after),
        function=None if change.writer is None else change.writer.function,
        stack=() if change.writer is None else change.writer.frames,
    )


_CAUSES = {"device": "the device itself", "read": "no write that was recorded"}


def _text(values: frozenset[int]) -> str:
    if not values:
        return "?"
    return " or ".join(f"{value:#x}" if value > 9 else str(value) for value in sorted(values))


@dataclass(frozen=True)
class WatchedField:
    """A field of one function over one blackout."""

    history: History
    entry: FieldEntry | None
    initial: frozenset[int]
    """What it may hold when the guest is frozen."""
    final: frozenset[int]
    changes: tuple[tuple[Change, bool], ...]
    """Every event that touched the register during the blackout, and whether it is within the uncertainty
    of the blackout's ends: then nobody can say that it belongs to it."""

    def values(self, change: Change) -> tuple[frozenset[int], frozenset[int]]:
        """The field before and after a change."""
        return field_values(change.before, self.entry), field_values(change.after, self.entry)


def judges(evidence: Evidence, function: FunctionEntry, register: str, field_name: str | None = None) -> bool:
    """Whether the policy has a register judged: for rules that look at writes rather than at values."""
    if evidence.scope is not None and not evidence.scope.has_register(function, register, field_name):
        return False
    entry = function.registers.get(register)
    if entry is not None and (field_name is None or field_name in entry.fields):
        evidence.watched.add((function.index, register, field_name))
    return True


def watch(
    evidence: Evidence,
    function: FunctionEntry,
    blackout: Blackout,
    register: str,
    field_name: str | None = None,
) -> WatchedField | None:
    """A register's field during a blackout.

    None where the recording's header does not declare it, or the policy does not have it judged: `absent` says
    which.
    """
    timeline = evidence.timeline
    if not judges(evidence, function, register, field_name):
        return None
    history = timeline.history(function.index, register)
    if history is None:
        return None
    entry = None if field_name is None else history.register.fields.get(field_name)
    if field_name is not None and entry is None:
        return None
    margin = 0 if function.is_endpoint else timeline.bridge_uncertainty_ns
    begin, end = blackout.begin.t_ns, blackout.end_ns
    early = margin + blackout.begin.uncertainty_ns
    late = margin + blackout.end_uncertainty_ns
    changes = tuple(
        (change, (early > 0 and change.t_ns < begin + early) or (late > 0 and change.t_ns > end - late))
        for change in history.between(begin - early - 1, end + late)
    )
    # A change at the very edge is listed above; the initial value is what held before it.
    return WatchedField(
        history,
        entry,
        field_values(history.at(begin - early - 1), entry),
        field_values(history.at(end), entry),
        changes,
    )


def absent(
    evidence: Evidence,
    judgement: Judgement,
    function: FunctionEntry,
    register: str,
    field_name: str | None = None,
) -> None:
    """Say why `watch` gave nothing: a doubt where nobody declares it, else that the policy leaves it out."""
    name = register if field_name is None else f"{register}.{field_name}"
    if judges(evidence, function, register, field_name):
        judgement.doubt(Finding(f"the recording does not declare {name} of {function.id}"))
    else:
        judgement.vacuous(f"the policy does not have {name} of {function.id} judged")
