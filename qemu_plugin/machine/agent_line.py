# SPDX-License-Identifier: MIT
"""The agent's line protocol, without input or output: one JSON object a line, numbered and checked.

A line is `{"seq":N, ...,"crc":"%08x"}`: crc is the CRC-32 (zlib's) of every byte before `,"crc":`, and seq
counts from 1 per direction and per boot of the guest. The guest's end is `guest_images/agent/channel.c`.
"""

import errno
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from qemu_plugin.errors import RemoteProtocolError

LINE_BYTES_MAX: Final = 1 << 20
"""Longer than anything the agent has to say: 512 pages with a checksum each take 6 KiB."""
COMMAND_BYTES_MAX: Final = 16384
"""guest_images/agent/agent.h MAX_LINE_BYTES."""
TAIL_BYTES: Final = len(b',"crc":"01234567"}')


class LineFaultError(RemoteProtocolError):
    """A line of the agent's is damaged, or lines before it are missing."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EBADMSG, message)


class Message(Mapping[str, Any]):
    """One intact line of the agent's: its members, and when its last byte arrived (CLOCK_MONOTONIC ns)."""

    __slots__ = ("_members", "arrived_ns")

    def __init__(self, members: Mapping[str, Any], arrived_ns: int) -> None:
        self._members = members
        self.arrived_ns = arrived_ns

    def __getitem__(self, key: str) -> Any:
        return self._members[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._members)!r})"

    @property
    def name(self) -> str:
        """What kind of line it is, for a person: `hello`, or `reply to 7`."""
        return f"reply to {self['re']}" if "re" in self else str(self.get("event", "a line without a name"))


class Reply(Message):
    """The agent's answer to a command; a refusal is one too."""

    @property
    def ok(self) -> bool:
        """Whether the command was carried out."""
        return self.get("ok") is True

    @property
    def errno(self) -> int:
        """Why not, as a Linux error number; 0 if it was."""
        return int(self.get("errno", 0))

    @property
    def error(self) -> str:
        """Why not, in the agent's words; empty if it was."""
        return str(self.get("error", ""))


def encode(seq: int, members: Mapping[str, str | int]) -> bytes:
    """The line with this number and these flat members, newline included.

    TypeError for a member that is neither text nor a number, ValueError for a negative number or a line
    longer than the agent takes: both are mistakes of the caller's.
    """
    for key, value in members.items():
        if not isinstance(value, str | int):
            raise TypeError(
                f"member {key!r} of an agent command is {type(value).__name__}: text or an integer"
            )
        if isinstance(value, int) and not 0 <= value < 1 << 64:
            raise ValueError(f"member {key!r} of an agent command is {value}: 0 to 2^64 - 1")
    body = json.dumps({"seq": seq, **members}, separators=(",", ":"))[:-1].encode()
    line = body + b',"crc":"%08x"}\n' % zlib.crc32(body)
    if len(line) > COMMAND_BYTES_MAX:
        raise ValueError(f"an agent command of {len(line)} bytes is longer than {COMMAND_BYTES_MAX}")
    return line


class LineCodec:
    """Both directions of the protocol, without input or output."""

    def __init__(self) -> None:
        self._sent = 0
        self._received = 0
        self._pending = b""

    @property
    def unfinished(self) -> bytes:
        """What has come in since the last newline."""
        return self._pending

    def send(self, members: Mapping[str, str | int]) -> tuple[int, bytes]:
        """The next line to the agent and its number. Errors as `encode`; then no number is used up."""
        line = encode(self._sent + 1, members)
        self._sent += 1
        return self._sent, line

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines. LineFaultError where one has no end."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > LINE_BYTES_MAX:
            self._pending = b""
            raise LineFaultError(f"the agent sent more than {LINE_BYTES_MAX} bytes without a newline")
        return [line for line in lines if line]

    def receive(self, line: bytes, arrived_ns: int = 0) -> Message:
        """The message of an intact line that is next in sequence; LineFaultError for any other.

        A hello with number 1 is always next: the guest has booted, and both directions count from 1 again.
        After a gap the sequence goes on behind it.
        """
        members = _checked(line)
        seq, due = members["seq"], self._received + 1
        if seq == 1 and members.get("event") == "hello":
            self._sent = 0
            due = 1
        self._received = seq if due == 1 else max(seq, self._received)
        if seq != due:
            raise LineFaultError(f"the agent's line {seq} came where {due} was due: {excerpt(line)}")
        return Reply(members, arrived_ns) if "re" in members else Message(members, arrived_ns)


def _checked(line: bytes) -> dict[str, Any]:
    body, tail = line[:-TAIL_BYTES], line[-TAIL_BYTES:]
    if not tail.startswith(b',"crc":"') or not tail.endswith(b'"}'):
        raise LineFaultError(f"the agent's line of {len(line)} bytes does not end in a crc: {excerpt(line)}")
    expected = b',"crc":"%08x"}' % zlib.crc32(body)
    if tail != expected:
        raise LineFaultError(
            f"the agent's line of {len(line)} bytes says {tail[1:-1].decode(errors='replace')}"
            f" and has {expected[1:-1].decode()}: {excerpt(line)}"
        )
    try:
        members = json.loads(body + b"}")
    except ValueError as error:
        raise LineFaultError(f"the agent's line is intact and no JSON ({error}): {excerpt(line)}") from error
    if not isinstance(members.get("seq"), int):
        raise LineFaultError(f"the agent's line has no sequence number: {excerpt(line)}")
    return members  # type: ignore[no-any-return]


def excerpt(line: bytes) -> str:
    """The line as text, or where it is long its beginning and its end."""
    text = line.decode(errors="backslashreplace")
    return text if len(text) <= 160 else f"{text[:100]} … {text[-50:]}"
