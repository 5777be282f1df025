# SPDX-License-Identifier: MIT
"""The header that every message begins with (VFIOU 'Header')."""

import errno
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from qemu_plugin.errors import RemoteProtocolError

HEADER: Final = struct.Struct("<HHIII")
HEADER_BYTES: Final = HEADER.size
DATA_MAX_BYTES: Final = 1 << 16
"""What the server announces as `max_data_xfer_size`; a DMA_READ of 1 MiB hangs QEMU 11.1."""
MESSAGE_MAX_BYTES: Final = DATA_MAX_BYTES + 64
FDS_MAX: Final = 16
"""What the server announces as `max_msg_fds`."""


class Command(IntEnum):
    """VFIOU 'Header' Commands."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


class HeaderFlag(IntFlag):
    """VFIOU 'Header' Flags; the low four bits are the type, 0 for a command."""

    REPLY = 1
    NO_REPLY = 0x10
    ERROR = 0x20


TYPE_MASK: Final = 0xF
NO_FLAG: Final = HeaderFlag(0)


@dataclass(frozen=True, slots=True)
class Header:
    """16 bytes, little-endian; `size_bytes` is the whole message's, the header included."""

    message_id: int
    command: int
    size_bytes: int
    flags: HeaderFlag = NO_FLAG
    error: int = 0

    def encode(self) -> bytes:
        """The header's bytes."""
        return HEADER.pack(self.message_id, self.command, self.size_bytes, self.flags, self.error)

    @classmethod
    def decode(cls, data: bytes | bytearray) -> "Header":
        """The header at the beginning of `data`.

        RemoteProtocolError where its size cannot be that of a message, or its type is neither command nor
        reply: the stream cannot be followed beyond it.
        """
        message_id, command, size_bytes, flags, error = HEADER.unpack_from(data)
        if not HEADER_BYTES <= size_bytes <= MESSAGE_MAX_BYTES:
            raise RemoteProtocolError(
                errno.EPROTO, f"message {message_id} (command {command}) of {size_bytes} bytes"
            )
        if flags & TYPE_MASK > HeaderFlag.REPLY:
            raise RemoteProtocolError(errno.EPROTO, f"message {message_id} of type {flags & TYPE_MASK}")
        return cls(message_id, command, size_bytes, HeaderFlag(flags), error)

    @property
    def is_reply(self) -> bool:
        """Whether this answers a command."""
        return bool(self.flags & HeaderFlag.REPLY)

    @property
    def is_error(self) -> bool:
        """Whether this is a reply that says no; `error` is an errno, or 0 for an unnamed reason."""
        return bool(self.flags & HeaderFlag.ERROR)


def command(message_id: int, number: int, payload: bytes = b"", *, wants_reply: bool = True) -> bytes:
    """A whole command message."""
    flags = NO_FLAG if wants_reply else HeaderFlag.NO_REPLY
    return Header(message_id, number, HEADER_BYTES + len(payload), flags).encode() + payload


def reply(to: Header, payload: bytes = b"") -> bytes:
    """A whole reply message."""
    return Header(to.message_id, to.command, HEADER_BYTES + len(payload), HeaderFlag.REPLY).encode() + payload


def error_reply(to: Header, error: int) -> bytes:
    """An error reply, which is a header only (VFIOU 'Header')."""
    flags = HeaderFlag.REPLY | HeaderFlag.ERROR
    return Header(to.message_id, to.command, HEADER_BYTES, flags, error).encode()
