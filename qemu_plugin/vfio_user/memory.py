# SPDX-License-Identifier: MIT
"""Guest memory: mapping it, and access by message (VFIOU 'DMA_MAP', 'DMA_UNMAP', 'DMA_READ', 'DMA_WRITE')."""

import errno
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import ClassVar, Final

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.payload import unpack


class MapFlag(IntFlag):
    """What the device may do with a range."""

    READABLE = 1
    WRITEABLE = 2


class UnmapFlag(IntFlag):
    """Not in VFIOU; QEMU 11.1 hw/vfio-user/container.c sends it with an empty range."""

    ALL = 2


NO_UNMAP_FLAG: Final = UnmapFlag(0)


@dataclass(frozen=True, slots=True)
class DmaMap:
    """A range of bus addresses; its file, if it has one, travels beside the message."""

    LAYOUT: ClassVar = struct.Struct("<IIQQQ")
    iova: int
    size_bytes: int
    flags: MapFlag = MapFlag.READABLE | MapFlag.WRITEABLE
    offset: int = 0

    def encode(self) -> bytes:
        """The payload's bytes."""
        return self.LAYOUT.pack(self.LAYOUT.size, self.flags, self.offset, self.iova, self.size_bytes)

    @classmethod
    def decode(cls, payload: bytes) -> "DmaMap":
        """The message in `payload`."""
        _, flags, offset, iova, size = unpack(cls.LAYOUT, payload, "DMA_MAP")
        return cls(iova, size, MapFlag(flags), offset)


@dataclass(frozen=True, slots=True)
class DmaUnmap:
    """Both the request and the reply, which repeats it."""

    LAYOUT: ClassVar = struct.Struct("<IIQQ")
    iova: int
    size_bytes: int
    flags: UnmapFlag = NO_UNMAP_FLAG

    def encode(self) -> bytes:
        """The payload's bytes."""
        return self.LAYOUT.pack(self.LAYOUT.size, self.flags, self.iova, self.size_bytes)

    @classmethod
    def decode(cls, payload: bytes) -> "DmaUnmap":
        """The message in `payload`."""
        _, flags, iova, size = unpack(cls.LAYOUT, payload, "DMA_UNMAP")
        return cls(iova, size, UnmapFlag(flags))


@dataclass(frozen=True, slots=True)
class DmaAccess:
    """DMA_READ's request (no data) and reply, DMA_WRITE's request and reply (no data)."""

    LAYOUT: ClassVar = struct.Struct("<QQ")
    iova: int
    size_bytes: int
    data: bytes = b""

    def encode(self) -> bytes:
        """The payload's bytes."""
        return self.LAYOUT.pack(self.iova, self.size_bytes) + self.data

    @classmethod
    def decode(cls, payload: bytes) -> "DmaAccess":
        """The message in `payload`; the data is as long as `size_bytes` says, or absent."""
        iova, size = unpack(cls.LAYOUT, payload, "DMA_READ or DMA_WRITE")
        data = payload[cls.LAYOUT.size :]
        if data and len(data) != size:
            raise RemoteProtocolError(errno.EINVAL, f"DMA of {size} bytes carries {len(data)}")
        return cls(iova, size, data)
