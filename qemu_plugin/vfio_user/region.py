# SPDX-License-Identifier: MIT
"""Access to regions (VFIOU 'REGION_READ', 'REGION_WRITE', 'REGION_WRITE_MULTI')."""

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.payload import unpack

MULTI_DATA_BYTES: Final = 8
"""VFIOU 'REGION_WRITE_MULTI': this format can only describe writes of 8 bytes or less."""


@dataclass(frozen=True, slots=True)
class RegionAccess:
    """Request and reply of reads and writes; the data is in the read's reply and the write's request."""

    LAYOUT: ClassVar = struct.Struct("<QII")
    region: int
    offset: int
    size_bytes: int
    data: bytes = b""

    def encode(self) -> bytes:
        """The payload's bytes."""
        return self.LAYOUT.pack(self.offset, self.region, self.size_bytes) + self.data

    @classmethod
    def decode(cls, payload: bytes) -> "RegionAccess":
        """The message in `payload`; the data is as long as `size_bytes` says, or absent."""
        offset, region, size = unpack(cls.LAYOUT, payload, "REGION_READ or REGION_WRITE")
        data = payload[cls.LAYOUT.size :]
        if data and len(data) != size:
            raise RemoteProtocolError(errno.EINVAL, f"region access of {size} bytes carries {len(data)}")
        return cls(region, offset, size, data)


_COUNT: Final = struct.Struct("<Q")


def encode_multi(writes: Sequence[RegionAccess]) -> bytes:
    """A REGION_WRITE_MULTI's payload; each write has at most 8 bytes of data."""
    entries = (
        RegionAccess.encode(w).ljust(RegionAccess.LAYOUT.size + MULTI_DATA_BYTES, b"\0") for w in writes
    )
    return _COUNT.pack(len(writes)) + b"".join(entries)


def decode_multi(payload: bytes) -> tuple[RegionAccess, ...]:
    """The writes of a REGION_WRITE_MULTI; RemoteProtocolError where one is cut off or too wide."""
    (count,) = unpack(_COUNT, payload, "REGION_WRITE_MULTI")
    stride = RegionAccess.LAYOUT.size + MULTI_DATA_BYTES
    if not count or (len(payload) - _COUNT.size) // stride < count:
        raise RemoteProtocolError(
            errno.EINVAL, f"REGION_WRITE_MULTI of {count} writes in {len(payload)} bytes"
        )
    writes = []
    for start in range(_COUNT.size, _COUNT.size + count * stride, stride):
        offset, region, size = RegionAccess.LAYOUT.unpack_from(payload, start)
        if size > MULTI_DATA_BYTES:
            raise RemoteProtocolError(errno.EINVAL, f"REGION_WRITE_MULTI with a write of {size} bytes")
        data = start + RegionAccess.LAYOUT.size
        writes.append(RegionAccess(region, offset, size, payload[data : data + size]))
    return tuple(writes)


def encode_multi_reply(count: int) -> bytes:
    """How many writes were done."""
    return _COUNT.pack(count)


def decode_multi_reply(payload: bytes) -> int:
    """How many writes were done."""
    (count,) = unpack(_COUNT, payload, "REGION_WRITE_MULTI's reply")
    return int(count)
