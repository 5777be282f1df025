# SPDX-License-Identifier: MIT
"""What a story's agent says: a line with its CRC, and what it finds in its pages."""

import json
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from pydev.endpoints.payload import SLOTS_PER_PAGE


def agent_line(members: dict[str, Any]) -> bytes:
    """A line of the agent channel, with its CRC."""
    body = json.dumps(members, separators=(",", ":"))[:-1].encode()
    return body + b',"crc":"%08x"}' % zlib.crc32(body)


def check_members(memory: npt.NDArray[np.uint64]) -> dict[str, Any]:
    """What the agent's `check` says of pages, shape (slots, 8)."""
    runs: list[list[int]] = []
    for slot, sequence in enumerate(memory[:, 7].tolist()):
        last = runs[-1] if runs else None
        if last is not None and sequence == (last[2] + last[1] if last[2] else 0):
            last[1] += 1
        else:
            runs.append([slot, 1, sequence])
    pages = memory.astype("<u8").reshape(-1, SLOTS_PER_PAGE * 8)
    crcs = [f"{zlib.crc32(page.tobytes()):08x}" for page in pages]
    return {"slots": runs, "bad": [], "bad_count": 0, "page_crc32": crcs}
