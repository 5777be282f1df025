# SPDX-License-Identifier: MIT
"""Each mutation judged, and the table of it: what was changed, what the verdict was, which rule said so."""

import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydev.continuity import Outcome, Policy, load_timeline, verify
from pydev.continuity.scope import Choice, Level
from pydev.errors import PolicyError, RecordingError
from pydev.testkit.mutations.harmless import Excuse, excuse_of
from pydev.testkit.mutations.mutation import Clean, Mutation

REFUSED = "refused"
"""Of a file that cannot even be read: the header says what makes no sense."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One mutation's verdict."""

    mutation: Mutation
    outcome: str
    """An Outcome, or REFUSED."""
    rules: tuple[str, ...]
    """Those that say FAIL, else those that say UNKNOWN, causes first."""
    excuse: Excuse | None
    """Why it may pass, where it does."""

    @property
    def is_wrong(self) -> bool:
        """Whether it passed, and nothing excuses it."""
        return self.outcome == Outcome.PASS and self.excuse is None


def policy_of(clean: Clean, base: Policy) -> Policy:
    """A policy that the clean recording passes: it requires every rule that finds something to pass there.

    So a mutation that leaves a rule nothing to examine is noticed as well: VACUOUS is no PASS. PolicyError where
    the recording is not clean by `base`.
    """
    verdict = verify(clean.timeline, base)
    if verdict.outcome is not Outcome.PASS:
        raise PolicyError(f"the recording is not clean: by policy {base.name} it is {verdict.outcome}")
    every = tuple(entry.id for entry in base.catalogue)
    known = Policy("every rule", base=base, own_choices=(Choice(every, Level.OPTIONAL),))
    answers = {entry.rule.id: entry.result.outcome for entry in verify(clean.timeline, known).rules}
    levels = {Outcome.PASS: Level.REQUIRED, Outcome.VACUOUS: Level.OPTIONAL}
    choices = tuple(Choice((rule,), levels.get(answers[rule], Level.OFF)) for rule in every)
    return Policy("what the clean recording passes", base=base, own_choices=choices)


def judged(clean: Clean, mutations: Iterable[Mutation], policy: Policy) -> Iterator[Judged]:
    """Judge every mutation that changes something; never raises for what is in a mutated file."""
    whole = clean.draft.to_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.lus"
        for mutation in mutations:
            data = mutation.make().to_bytes()
            if data == whole:
                continue
            path.unlink(missing_ok=True)  # the last one may still be mapped
            path.write_bytes(data)
            outcome, rules = outcome_of(path, policy)
            yield Judged(mutation, outcome, rules, excuse_of(mutation) if outcome == Outcome.PASS else None)


def outcome_of(path: Path, policy: Policy) -> tuple[str, tuple[str, ...]]:
    """The verdict of a file, and the rules that made it."""
    try:
        timeline = load_timeline(path)
    except RecordingError:
        return REFUSED, ()
    verdict = verify(timeline, policy)
    said = tuple(
        entry.rule.id
        for entry in verdict.rules
        if entry.result.outcome is verdict.outcome and verdict.outcome is not Outcome.PASS
    )
    return verdict.outcome, said


def table(found: Iterable[Judged]) -> str:
    """The mutations of each kind, what came of them, how often; then the excuses."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    excuses: Counter[Excuse] = Counter()
    for one in found:
        row = rows.setdefault((one.mutation.kind, one.mutation.name), Counter())
        row[_answer(one)] += 1
        if one.excuse is not None:
            excuses[one.excuse] += 1
    lines = []
    for (kind, name), row in sorted(rows.items()):
        answers = ", ".join(f"{answer} {count}" for answer, count in row.most_common())
        lines += textwrap.wrap(f"{kind:<14} {name:<32} {answers}", 118, subsequent_indent=" " * 48)
    lines += ["", "PASS, and why that is no mistake:"]
    for excuse, count in sorted(excuses.items(), key=lambda item: item[0].id):
        lines += textwrap.wrap(f"{excuse.id} ({count}): {excuse.reason}", 118, subsequent_indent="  ")
    return "\n".join(lines)


def _answer(one: Judged) -> str:
    if one.is_wrong:
        return "PASS (WRONG)"
    if one.excuse is not None:
        return f"PASS ({one.excuse.id})"
    return f"{one.outcome} {one.rules[0]}" if one.rules else one.outcome
