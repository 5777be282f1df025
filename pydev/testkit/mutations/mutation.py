# SPDX-License-Identifier: MIT
"""A mutation: what is changed, where in the clean recording, and how to make the draft of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydev.continuity.catalogue import rules
from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Outcome
from pydev.recording.format import TEXT_KINDS, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.timeline import Timeline
from pydev.testkit.mutations.draft import Draft


@dataclass(frozen=True)
class Clean:
    """The clean recording: as rules see it, and taken apart."""

    timeline: Timeline
    draft: Draft

    @classmethod
    def of(cls, timeline: Timeline) -> "Clean":
        """The recording of a timeline."""
        return cls(timeline, Draft.of(timeline.recording))

    @cached_property
    def watched(self) -> frozenset[tuple[int, str, str | None]]:
        """What rules look at that pass here: function, register, field or None for all of it."""
        seen: set[tuple[int, str, str | None]] = set()
        for rule in rules():
            evidence = Evidence(self.timeline)
            if rule.judge(evidence).outcome is Outcome.PASS:
                seen |= evidence.watched
        return frozenset(seen)


@dataclass(frozen=True)
class Site:
    """One event of the clean recording."""

    clean: Clean
    head: int

    def __getitem__(self, name: str) -> int:
        return int(self.clean.draft.records[name][self.head])

    @property
    def kind(self) -> int:
        """Its kind's number."""
        return self["kind"]

    @property
    def t_ns(self) -> int:
        """Its time."""
        return self["t_ns"]

    @property
    def phase(self) -> str | None:
        """The phase that it is in."""
        return self.clean.timeline.phase_at(self.t_ns)

    @property
    def function(self) -> FunctionEntry | None:
        """The function that it is about."""
        functions = self.clean.timeline.functions
        return functions[self["function"]] if self["function"] < len(functions) else None

    @property
    def members(self) -> dict[str, Any]:
        """What a JSON text says."""
        return self.clean.draft.members(self.head)

    def describe(self) -> str:
        """The event in a line."""
        shown = ("t_ns", "function", "flags", "error", "size", "region", "address", "value", "extra", "aux")
        ms = self.clean.timeline.since_start_ns(self.t_ns) / 1e6
        fields = ", ".join(f"{name} {self[name]:#x}" for name in shown[1:] if self[name])
        is_text = Kind(self.kind) in TEXT_KINDS
        text = self.clean.draft.text(self.head)[:100].decode(errors="replace") if is_text else ""
        return f"{kind_name(self.kind)} at {ms:.3f} ms ({self.phase}): {fields} {text}".rstrip()


@dataclass(frozen=True)
class Mutation:
    """One change. Mutations of one `name` and `kind` are one row of the table."""

    name: str
    kind: str
    make: Callable[[], Draft]
    sites: tuple[Site, ...] = ()
    """The events that it touches; none for one that touches many."""
    detail: str = ""

    @property
    def site(self) -> Site | None:
        """The first of its events."""
        return self.sites[0] if self.sites else None

    def describe(self) -> str:
        """Where it is and what it does there."""
        where = self.site.describe() if self.site is not None else self.kind
        return f"{self.name} {self.detail} | {where}".replace("  ", " ")


def kind_name(number: int) -> str:
    """A kind's name."""
    return Kind(number).name if number in set(Kind) else str(number)
