# SPDX-License-Identifier: MIT
"""A failure that a policy knows of, with its reason: findings that match it are shown and do not count.

It excuses findings of a FAIL and nothing else: never a doubt, and never a finding that it cannot be sure of. What
a finding does not tell (no writer where nothing was attributed, no register, a function whose number was lost)
matches no selector for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydev.continuity.outcome import Finding, Outcome, Result
from pydev.continuity.selection import FunctionSelector, RegisterSelector
from pydev.recording.timeline import Timeline


@dataclass(frozen=True, slots=True)
class ExpectedFailure:
    """One `[[exception]]` of a policy. Everything that is said has to hold of a finding."""

    rules: tuple[str, ...]
    reason: str
    functions: tuple[FunctionSelector, ...] = ()
    registers: tuple[RegisterSelector, ...] = ()
    phases: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    """Kernel functions, one of which has to be on the write's call stack."""
    unattributed: bool = False
    """Where the recording attributes no write at all (another accelerator), the writer may be anybody."""
    caused_by: str | None = None
    """The rule's failures are consequences of this one's, which has to be excused altogether."""

    def without(self, rules: Sequence[str]) -> "ExpectedFailure | None":
        """The same for its other rules; itself where it is about none of these, None where about no other."""
        left = () if "*" in rules else tuple(rule for rule in self.rules if rule not in rules)
        if left == self.rules:
            return self
        return replace(self, rules=left) if left else None

    @property
    def scope(self) -> str:
        """What it is about, for people: ` of path, COMMAND.bus_master in shutdown by pci_clear_master`."""
        chosen = ", ".join(str(selector) for selector in (*self.functions, *self.registers))
        parts = ((" of ", chosen), (" in ", ", ".join(self.phases)), (" by ", ", ".join(self.writers)))
        text = "".join(word + said for word, said in parts if said)
        return text + (f" in consequence of {self.caused_by}" if self.caused_by else "")

    def matches(self, timeline: Timeline, finding: Finding) -> bool:
        """Whether a finding is what this one speaks of, `caused_by` apart."""
        if finding.count > 1 and (self.phases or self.writers):
            return False  # when and by whom is the first one's only
        if self.phases and not _phases_of(timeline, finding) <= set(self.phases):
            return False
        if self.writers and not self._has_writer(timeline, finding):
            return False
        if self.registers and not self._has_register(finding):
            return False
        return not self.functions or self._has_function(timeline, finding)

    def _has_writer(self, timeline: Timeline, finding: Finding) -> bool:
        if self.unattributed and not timeline.has_plugin:
            return True
        return any(_symbol(frame) in self.writers for frame in _frames(finding))

    def _has_register(self, finding: Finding) -> bool:
        register, field = finding.register, finding.field
        return register is not None and any(s.covers(register, field) for s in self.registers)

    def _has_function(self, timeline: Timeline, finding: Finding) -> bool:
        wanted = frozenset[int]().union(*(s.indexes(timeline.functions) for s in self.functions))
        found = functions_of(timeline, finding)
        return bool(found) and found <= wanted


def functions_of(timeline: Timeline, finding: Finding) -> frozenset[int]:
    """Every function that a finding's BDF may mean: bus numbers may change with the very finding."""
    if finding.bdf is None or finding.t_ns is None:
        return frozenset()
    blackout = timeline.blackout_of(finding.t_ns)
    moments = {finding.t_ns - 1, finding.t_ns} | (set() if blackout is None else {blackout.begin.t_ns})
    found = (timeline.function_at(finding.bdf, t_ns) for t_ns in moments)
    return frozenset(function.index for function in found if function is not None)


def _phases_of(timeline: Timeline, finding: Finding) -> set[str | None]:
    """Every phase that a finding may be in: where one begins is not always known exactly."""
    if finding.t_ns is None:
        return {finding.phase}
    found = {finding.phase, timeline.phase_at(finding.t_ns)}
    before: str | None = None
    for phase in timeline.phases:
        if abs(phase.t_ns - finding.t_ns) <= phase.uncertainty_ns:
            found |= {before, phase.name}
        before = phase.name
    return found


def _frames(finding: Finding) -> tuple[str, ...]:
    return (*finding.stack, *((finding.function,) if finding.function else ()))


def _symbol(frame: str) -> str:
    """`pci_clear_master` of `pci_clear_master.cold+0x1c/0x40 [module]`: compilers split and clone functions."""
    return frame.split()[0].partition("+")[0].partition(".")[0] if frame.split() else ""


@dataclass(frozen=True, slots=True)
class Excused:
    """Which of a rule's findings one expected failure speaks of."""

    failure: ExpectedFailure
    findings: tuple[int, ...]
    """Indexes into `Result.findings`."""


def excused(
    timeline: Timeline, rule_id: str, result: Result, known: Sequence[ExpectedFailure], settled: Sequence[str]
) -> tuple[Excused, ...]:
    """What a policy's expected failures say of a rule's answer, each finding once.

    `settled` are the rules that FAIL with nothing left that counts.
    """
    if result.outcome is not Outcome.FAIL:
        return ()
    left = set(range(len(result.findings)))
    found = []
    for failure in known:
        if rule_id not in failure.rules:
            continue
        if failure.caused_by is not None and not (
            failure.caused_by == result.caused_by and failure.caused_by in settled
        ):
            continue
        own = tuple(n for n in sorted(left) if failure.matches(timeline, result.findings[n]))
        left -= set(own)
        if own:
            found.append(Excused(failure, own))
    return tuple(found)


def outcome_that_counts(result: Result, found: Sequence[Excused]) -> Outcome:
    """A rule's outcome without what is excused; its own where something is left or nothing was excused."""
    count = sum(len(entry.findings) for entry in found)
    return result.without_failures if count and count == len(result.findings) else result.outcome
