# SPDX-License-Identifier: MIT
"""A recording taken apart into events, to be put together again whole after one of them was changed.

Whatever proves a file whole is made to fit what is left: slots, counts, checksums, the numbers and checksums of
the agent's lines, the slots that attributions name. So nothing but a rule can tell that it was changed.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from pydev.recording.format import CHAINED_KINDS, CONTINUATION_BYTES, CONTINUATION_OFFSET, RECORD, Flag, Kind
from pydev.recording.reader import Recording, Records
from pydev.recording.writer import RecordingBuilder
from pydev.testkit.story_agent import agent_line

_CHAINED: Final = [int(kind) for kind in CHAINED_KINDS]
_TRACED: Final = [int(kind) for kind in (Kind.TRACE_READ, Kind.TRACE_WRITE, Kind.IOMMU)]
_REBUILT: Final = ("events", "dropped", "holes", "crc32")


@dataclass(frozen=True)
class Draft:
    """A recording's events. `records` are heads and continuations in slot order; nothing is ever changed in place."""

    header: Mapping[str, Any]
    trailer: Mapping[str, Any]
    records: Records
    slots: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    """Where each record stood in the clean file; -1 for one that was added."""

    @classmethod
    def of(cls, recording: Recording) -> "Draft":
        """The draft of a whole recording."""
        records = recording.records.copy()
        return cls(recording.header, recording.trailer or {}, records, np.arange(len(records)))

    # --------------------------------------------------------------- looking

    @cached_property
    def heads(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """The index of each event's first record."""
        return np.flatnonzero(self.records["kind"] != Kind.CONTINUATION)

    def span(self, head: int) -> slice:
        """An event's records: itself and what continues it."""
        count = 0
        if self.records["kind"][head] in _CHAINED:
            count = -(-int(self.records["size"][head]) // CONTINUATION_BYTES)
        return slice(head, head + 1 + count)

    def of_kind(self, kind: Kind) -> list[int]:
        """The heads of a kind."""
        found: list[int] = np.flatnonzero(self.records["kind"] == kind).tolist()
        return found

    def text(self, head: int) -> bytes:
        """A chain's bytes."""
        span = self.span(head)
        payload = self.records[span.start + 1 : span.stop].copy().view(np.uint8).reshape(-1, RECORD.itemsize)
        return payload[:, CONTINUATION_OFFSET:].tobytes()[: int(self.records["size"][head])]

    def members(self, head: int) -> dict[str, Any]:
        """What a JSON text says; the agent's without its checksum."""
        members: dict[str, Any] = json.loads(self.text(head))
        members.pop("crc", None)
        return members

    # -------------------------------------------------------------- changing

    def without(self, heads: Iterable[int]) -> "Draft":
        """The draft less some events."""
        gone = np.zeros(len(self.records), dtype=np.bool_)
        for head in heads:
            gone[self.span(head)] = True
        return replace(self, records=self.records[~gone], slots=self.slots[~gone])

    def with_fields(self, head: int, **fields: int) -> "Draft":
        """The draft with other values in an event's record, its time in all of a chain's."""
        records = self.records.copy()
        for name, value in fields.items():
            where = self.span(head) if name in ("t_ns", "function") else head
            records[name][where] = value
        return replace(self, records=records)

    def with_copy(self, head: int, **fields: int) -> "Draft":
        """The draft with an event once more, just after itself, in some fields another."""
        span = self.span(head)
        added = self.records[span].copy()
        for name, value in fields.items():
            added[name][: None if name in ("t_ns", "function") else 1] = value
        return self._insert(span.stop, added, np.full(len(added), -1))

    def with_text(self, head: int, text: bytes) -> "Draft":
        """The draft with other bytes in a chain."""
        span = self.span(head)
        builder = RecordingBuilder({})
        row = self.records[head]
        builder.append_text(
            Kind(int(row["kind"])),
            text,
            t_ns=int(row["t_ns"]),
            function=int(row["function"]),
            flags=int(row["flags"]),
        )
        chain = builder.records()
        rest = self.without([head])
        slots = np.full(len(chain), -1)
        slots[0] = self.slots[head]
        return rest._insert(span.start, chain, slots)

    def with_members(self, head: int, members: Mapping[str, Any]) -> "Draft":
        """The draft with another JSON object in a text event; an agent's line with its checksum."""
        if self.records["kind"][head] == Kind.AGENT:
            return self.with_text(head, agent_line(dict(members)))
        return self.with_text(head, json.dumps(members, separators=(",", ":")).encode())

    def moved(self, head: int, t_ns: int) -> "Draft":
        """The draft with an event at another time, and in the slots that belong to that time."""
        span = self.span(head)
        event = self.records[span].copy()
        event["t_ns"] = t_ns
        rest = self.without([head])
        is_traced = np.isin(rest.records["kind"], _TRACED)
        own = np.flatnonzero(is_traced == bool(np.isin(event["kind"][0], _TRACED)))
        after = own[rest.records["t_ns"][own] > t_ns]
        heads = after[rest.records["kind"][after] != Kind.CONTINUATION]
        place = int(heads[0]) if len(heads) else int(own[-1]) + 1 if len(own) else len(rest.records)
        return rest._insert(place, event, self.slots[span])

    def swapped(self, one: int, other: int) -> "Draft":
        """The draft with two events of one record each in each other's slots, at each other's time."""
        records = self.records.copy()
        records[[one, other]] = records[[other, one]]
        for name in ("seq", "t_ns"):
            records[name][[one, other]] = self.records[name][[one, other]]
        slots = self.slots.copy()
        slots[[one, other]] = slots[[other, one]]
        return replace(self, records=records, slots=slots)

    def _insert(self, place: int, records: Records, slots: Any) -> "Draft":
        joined = np.concatenate((self.records[:place], records, self.records[place:]))
        places = np.concatenate((self.slots[:place], slots, self.slots[place:]))
        return replace(self, records=joined, slots=places)

    # --------------------------------------------------------------- writing

    def to_bytes(self) -> bytes:
        """The whole file, consistent in itself."""
        draft = self._with_numbered_lines()
        records = draft.records.copy()
        draft._name_new_slots(records)
        trailer = {key: value for key, value in draft.trailer.items() if key not in _REBUILT}
        _count(trailer, records)
        builder = RecordingBuilder(dict(draft.header))
        builder.append_batch(records)
        return builder.to_bytes(trailer)

    def _name_new_slots(self, records: Records) -> None:
        """Attributions name slots: those of the events that they were about."""
        is_attribution = records["kind"] == Kind.ATTRIBUTION
        if not is_attribution.any():
            return
        kept = np.flatnonzero(self.slots >= 0)
        places = np.full(int(self.slots.max(initial=0)) + 1, len(records))
        places[self.slots[kept]] = kept
        named = records["value"][is_attribution]
        is_known = named < len(places)
        named[is_known] = places[named[is_known].astype(np.intp)]
        records["value"][is_attribution] = named

    def _with_numbered_lines(self) -> "Draft":
        """The agent's lines numbered anew from 1 in each boot; a reply names the number its command has now."""
        sequence = {True: 0, False: 0}
        renumbered: dict[int, int] = {}
        changed: dict[int, dict[str, Any]] = {}
        for head in self._lines():
            try:
                members = self.members(head)
            except (ValueError, AttributeError):  # what was made of it is no line any more
                continue
            to_guest = bool(self.records["flags"][head] & int(Flag.TO_GUEST))
            if members.get("event") == "hello":
                sequence = {True: 0, False: 0}
                renumbered = {}
            sequence[to_guest] += 1
            anew = dict(members) | {"seq": sequence[to_guest]}
            if to_guest:
                renumbered[members.get("seq", 0)] = sequence[to_guest]
            elif "re" in members:
                anew["re"] = renumbered.get(members["re"], members["re"])
            if anew != members:
                changed[head] = anew
        draft = self
        for head in sorted(changed, reverse=True):
            draft = draft.with_members(head, changed[head])
        return draft

    def _lines(self) -> list[int]:
        heads = self.of_kind(Kind.AGENT)
        return sorted(heads, key=lambda head: int(self.records["t_ns"][head]))


def _count(trailer: dict[str, Any], records: Records) -> None:
    """What a trailer and the plugin's last word say of how many there are."""
    kinds = records["kind"]
    trace = trailer.get("trace")
    if isinstance(trace, dict) and isinstance(trace.get("writes"), int):
        trailer["trace"] = trace | {"writes": int((kinds == Kind.TRACE_WRITE).sum())}
    attribution = trailer.get("attribution")
    if isinstance(attribution, dict):
        named = records["value"][kinds == Kind.ATTRIBUTION]
        written = np.isin(np.flatnonzero(kinds == Kind.PLUGIN_WRITE), named)
        trailer["attribution"] = attribution | {"writes": int(written.sum())}
    ends = np.flatnonzero(kinds == Kind.PLUGIN_END)
    if len(ends) == 1:
        records["value"][ends] = int((kinds == Kind.PLUGIN_WRITE).sum())
