# SPDX-License-Identifier: MIT
"""The plugin's records as they lie in a recording: each write or jump with its writer's raw stack."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.recording.format import (
    CONTINUATION_BYTES,
    CONTINUATION_OFFSET,
    PLUGIN_STACK,
    RECORD_BYTES,
    Kind,
    Mark,
)
from qemu_plugin.attribution.unwind import RawStack

Records = npt.NDArray[Any]

_WAY_SHIFT: Final = 16  # of `aux` (pydev/recording/format.py PLUGIN_WRITE)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """One PLUGIN_WRITE or PLUGIN_JUMP."""

    slot: int
    t_ns: int
    is_jump: bool
    way: int
    raw: RawStack

    @property
    def is_kernel(self) -> bool:
        """Whether the instruction is in the upper half of the address space, which is the kernel's."""
        return bool(self.raw.pc >> 63)


def witnessed(records: Records) -> Iterator[Witnessed]:
    """The plugin's writes and jumps, in the order of their slots; `records` are all from slot 0 on.

    A record whose chain is cut short is left out: the recording's reader says so.
    """
    kinds = records["kind"]
    slots = np.flatnonzero((kinds == Kind.PLUGIN_WRITE) | (kinds == Kind.PLUGIN_JUMP))
    heads = records[slots]
    payload = records.view(np.uint8).reshape(-1, RECORD_BYTES)[:, CONTINUATION_OFFSET:]
    columns = (heads[name].tolist() for name in ("seq", "kind", "t_ns", "size", "extra", "aux"))
    for slot, seq, kind, t_ns, size, pc, aux in zip(slots.tolist(), *columns, strict=True):
        end = slot + 1 + -(-size // CONTINUATION_BYTES)
        chain = payload[slot + 1 : end].tobytes()[:size]
        is_whole = bool((kinds[slot + 1 : end] == Kind.CONTINUATION).all())
        if seq != slot + 1 or not is_whole or size < PLUGIN_STACK.itemsize or len(chain) < size:
            continue
        rsp, rbp = np.frombuffer(chain, dtype=PLUGIN_STACK, count=1)[0].item()
        raw = RawStack(pc, rsp, rbp, chain[PLUGIN_STACK.itemsize :])
        yield Witnessed(slot, t_ns, kind == Kind.PLUGIN_JUMP, aux >> _WAY_SHIFT, raw)


def frozen_at(records: Records) -> list[int]:
    """When the host acknowledged each last line of an outgoing kernel's agent, in ns, ascending."""
    is_mark = (records["kind"] == Kind.MARK) & (records["value"] == Mark.FROZEN_ACKNOWLEDGED)
    return sorted(records["t_ns"][is_mark].tolist())
