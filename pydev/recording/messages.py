# SPDX-License-Identifier: MIT
"""Text in the recording: chains of records decoded, agent lines parsed and proven by number and CRC."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from pydev.recording.format import (
    CONTINUATION_BYTES,
    CONTINUATION_OFFSET,
    RECORD_BYTES,
    TEXT_KINDS,
    Flag,
    Kind,
)
from pydev.recording.reader import Records

_CRC_KEY: Final = b',"crc":'


@dataclass(frozen=True, slots=True)
class Text:
    """One text event."""

    t_ns: int
    kind: Kind
    to_guest: bool
    raw: bytes

    @property
    def text(self) -> str:
        """The line, without its end."""
        return self.raw.decode(errors="replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """One line of the agent channel. `members` is empty where `damage` says what is wrong with the line."""

    t_ns: int
    to_guest: bool
    members: dict[str, Any] = field(default_factory=dict)
    damage: str | None = None

    def number(self, name: str) -> int | None:
        """An integer member, None where it is absent or of another type."""
        value = self.members.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def string(self, name: str) -> str | None:
        """A string member, None where it is absent or of another type."""
        value = self.members.get(name)
        return value if isinstance(value, str) else None


def texts(records: Records) -> tuple[list[Text], list[str]]:
    """Every text event in time order, and what is wrong with the chains."""
    kinds = records["kind"]
    is_text = np.isin(kinds, [int(kind) for kind in TEXT_KINDS])
    starts = np.flatnonzero(is_text)
    sizes = records["size"][starts].astype(np.int64)
    counts = -(-sizes // CONTINUATION_BYTES)
    is_continuation = kinds == Kind.CONTINUATION
    problems: list[str] = []
    if int(counts.sum()) != int(np.count_nonzero(is_continuation)):
        problems.append("text records and their continuations do not add up")
    # Copied out of the mapping once: chains are short and many.
    payload = np.ascontiguousarray(records[is_continuation]).view(np.uint8).reshape(-1, RECORD_BYTES)
    payload = payload[:, CONTINUATION_OFFSET:]
    rank = np.cumsum(is_continuation)
    found: list[Text] = []
    columns = (records[name][starts].tolist() for name in ("t_ns", "kind", "flags"))
    for start, size, count, t_ns, kind, flags in zip(
        starts.tolist(), sizes.tolist(), counts.tolist(), *columns, strict=True
    ):
        if not is_continuation[start + 1 : start + 1 + count].all() or start + 1 + count > len(records):
            problems.append(f"the text record in slot {start} is cut short")
            continue
        first = int(rank[start])
        raw = payload[first : first + count].tobytes()[:size]
        found.append(Text(t_ns, Kind(kind), bool(flags & Flag.TO_GUEST), raw))
    found.sort(key=lambda text: text.t_ns)
    return found, problems


def parse_agent_line(text: Text) -> AgentMessage:
    """The message of one agent line; a damaged one says so and has no members."""
    line = text.raw.rstrip(b"\r\n")
    before, key, tail = line.rpartition(_CRC_KEY)
    damage = None
    members: Any = None
    try:
        members = json.loads(line)
        if not key or tail != b'"%08x"}' % zlib.crc32(before):
            damage = "its CRC is wrong"
        elif not isinstance(members, dict) or not isinstance(members.get("seq"), int):
            damage = "it has no sequence number"
    except (ValueError, RecursionError):
        damage = "it is not JSON"
    if damage is not None:
        return AgentMessage(text.t_ns, text.to_guest, damage=damage)
    return AgentMessage(text.t_ns, text.to_guest, members)


def channel_problems(messages: Sequence[AgentMessage]) -> Iterator[str]:
    """What says that a line of the channel is damaged or missing. Each boot starts at sequence 1."""
    for to_guest, name in ((False, "agent"), (True, "host")):
        expected = 1
        for message in (m for m in messages if m.to_guest == to_guest):
            if message.damage is not None:
                yield f"a line of the {name} is damaged: {message.damage}"
                expected += 1
                continue
            seq = message.members["seq"]
            if seq not in (expected, 1):
                yield f"lines of the {name} are missing: sequence {seq} where {expected} was due"
            expected = seq + 1
