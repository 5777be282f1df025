# SPDX-License-Identifier: MIT
"""Negotiation (VFIOU 'VERSION')."""

import errno
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.header import DATA_MAX_BYTES, FDS_MAX

MAJOR: Final = 0
MINOR: Final = 1
DMA_MAPS_MAX: Final = 65535
PAGE_SIZES: Final = 4096

SERVER_CAPABILITIES: Final[Mapping[str, Any]] = {
    "max_msg_fds": FDS_MAX,
    "max_data_xfer_size": DATA_MAX_BYTES,
    "max_dma_maps": DMA_MAPS_MAX,
    "pgsizes": PAGE_SIZES,
    "write_multiple": True,
}
CLIENT_CAPABILITIES: Final[Mapping[str, Any]] = SERVER_CAPABILITIES

_NUMBERS: Final = struct.Struct("<HH")


@dataclass(frozen=True, slots=True)
class Version:
    """Two u16, then a JSON object with `capabilities`, ended by a NUL; the JSON is optional."""

    major: int = MAJOR
    minor: int = MINOR
    capabilities: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The payload's bytes."""
        text = json.dumps({"capabilities": dict(self.capabilities)}, separators=(",", ":"))
        return _NUMBERS.pack(self.major, self.minor) + text.encode() + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> "Version":
        """The message in `payload`; RemoteProtocolError with EINVAL where it is none."""
        if len(payload) < _NUMBERS.size:
            raise RemoteProtocolError(errno.EINVAL, f"VERSION of {len(payload)} bytes")
        major, minor = _NUMBERS.unpack_from(payload)
        text = payload[_NUMBERS.size :].rstrip(b"\0")
        if not text:
            return cls(major, minor)
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError(errno.EINVAL, f"VERSION's data is not JSON: {error}") from error
        capabilities = data.get("capabilities", {}) if isinstance(data, dict) else None
        if not isinstance(capabilities, dict):
            raise RemoteProtocolError(errno.EINVAL, "VERSION's data is not an object with capabilities")
        return cls(major, minor, capabilities)


def answer(proposed: Version) -> Version:
    """The server's answer: same major, no higher minor, no capability that was not proposed.

    RemoteProtocolError with EINVAL where the major is another. The limits are the server's own, and are
    stated whether or not the client stated its: VFIOU gives each a default that is not ours.
    """
    if proposed.major != MAJOR:
        raise RemoteProtocolError(errno.EINVAL, f"client speaks major version {proposed.major}, not {MAJOR}")
    capabilities = dict(SERVER_CAPABILITIES)
    if proposed.capabilities.get("write_multiple") is not True:
        del capabilities["write_multiple"]
    return Version(MAJOR, min(proposed.minor, MINOR), capabilities)
