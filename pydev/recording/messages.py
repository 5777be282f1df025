# SPDX-License-Identifier: MIT
"""Text in the recording: its lines in time order, agent lines parsed and proven by number and CRC."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydev.recording.chains import Chains
from pydev.recording.event_index import EventIndex
from pydev.recording.format import TEXT_KINDS, Flag, Kind

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


def texts(index: EventIndex, chains: Chains) -> list[Text]:
    """Every text event in time order; those whose chain is cut short are left out."""
    starts = index.of_kinds(TEXT_KINDS)
    columns = [index.column(name, starts).tolist() for name in ("t_ns", "kind", "flags")]
    found = [
        Text(t_ns, Kind(kind), bool(flags & Flag.TO_GUEST), raw)
        for raw, t_ns, kind, flags in zip(chains.bytes_of(starts), *columns, strict=True)
        if raw is not None
    ]
    found.sort(key=lambda text: text.t_ns)
    return found


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
