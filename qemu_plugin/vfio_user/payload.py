# SPDX-License-Identifier: MIT
"""Reading a payload that may be too short."""

import errno
import struct
from typing import Any

from qemu_plugin.errors import RemoteProtocolError


def unpack(layout: struct.Struct, payload: bytes, what: str) -> tuple[Any, ...]:
    """The fields at the payload's beginning; RemoteProtocolError with EINVAL where they are cut off."""
    if len(payload) < layout.size:
        raise RemoteProtocolError(errno.EINVAL, f"{what} of {len(payload)} bytes, not {layout.size}")
    return layout.unpack_from(payload)
