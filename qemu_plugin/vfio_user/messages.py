# SPDX-License-Identifier: MIT
"""Cuts a byte stream with fds into messages, for either role (VFIOU 'Message Passing').

The fds of one read belong to the message that holds the last byte it returned: the kernel ends a read behind
the segment that carried them (linux net/unix/af_unix.c unix_stream_read_generic).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qemu_plugin.vfio_user.header import HEADER_BYTES, Header


@dataclass(frozen=True, slots=True)
class Message:
    """One message; its fds are the receiver's to close."""

    header: Header
    payload: bytes
    fds: tuple[int, ...] = ()


@dataclass(slots=True)
class MessageReader:
    """Bytes in, messages out; does no I/O.

    `wanted_bytes` is how much to read at most: while an unfinished message has fds already, not beyond it.
    """

    _data: bytearray = field(default_factory=bytearray)
    _fds: list[int] = field(default_factory=list)
    _fds_at: int = 0

    def wanted_bytes(self, limit: int) -> int:
        """How many bytes the next read may return, at most `limit`."""
        if not self._fds:
            return limit
        if len(self._data) < HEADER_BYTES:
            return HEADER_BYTES - len(self._data)
        return min(limit, Header.decode(self._data).size_bytes - len(self._data))

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Take what one read returned."""
        self._data += data
        if fds:
            self._fds += fds
            self._fds_at = len(self._data) - 1

    def messages(self) -> Iterator[Message]:
        """The whole messages there are by now; RemoteProtocolError from the header that cannot be one."""
        while len(self._data) >= HEADER_BYTES:
            header = Header.decode(self._data)
            if len(self._data) < header.size_bytes:
                return
            payload = bytes(self._data[HEADER_BYTES : header.size_bytes])
            fds: tuple[int, ...] = ()
            if self._fds and self._fds_at < header.size_bytes:
                fds, self._fds = tuple(self._fds), []
            self._fds_at -= header.size_bytes
            del self._data[: header.size_bytes]
            yield Message(header, payload, fds)

    @property
    def is_between_messages(self) -> bool:
        """Whether the stream may end here without losing part of a message."""
        return not self._data
