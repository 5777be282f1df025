# SPDX-License-Identifier: MIT
"""Writes a whole, closed recording from memory: for synthetic timelines, mutations and imports.

The live writer (shared memory, many processes, reserved extents) is `qemu_plugin.native`; both write the
layout of `pydev.recording.format`, and a test compares them.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pydev.recording.format import (
    CONTINUATION_BYTES,
    CONTINUATION_OFFSET,
    HEADER_OFFSET,
    MAGIC,
    NO_FUNCTION,
    PAGE_BYTES,
    PROLOGUE,
    RECORD,
    RECORD_BYTES,
    VERSION,
    Kind,
)
from pydev.recording.reader import Records


class RecordingBuilder:
    """Collects events in the order of their slots and writes them as a closed recording."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.header = header
        self._chunks: list[bytes] = []
        self._head = 0

    @property
    def head(self) -> int:
        """Slots used so far."""
        return self._head

    def append(
        self,
        kind: int,
        *,
        t_ns: int,
        function: int = NO_FUNCTION,
        flags: int = 0,
        error: int = 0,
        size: int = 0,
        region: int = 0,
        address: int = 0,
        value: int = 0,
        extra: int = 0,
        aux: int = 0,
    ) -> None:
        """One event in the next slot; fields as `format.Kind` says."""
        item = (self._head + 1, t_ns, kind, function, flags, error, size, region, address, value, extra, aux)
        self._chunks.append(np.array(item, dtype=RECORD).tobytes())
        self._head += 1

    def append_text(
        self, kind: Kind, text: bytes, *, t_ns: int, function: int = NO_FUNCTION, flags: int = 0
    ) -> None:
        """A text event and the continuation records that hold its bytes, in adjoining slots."""
        self.append_chain(kind, text, t_ns=t_ns, function=function, flags=flags)

    def append_chain(
        self, kind: Kind, payload: bytes, *, t_ns: int, function: int = NO_FUNCTION, **fields: int
    ) -> None:
        """An event of a chained kind, and the continuation records that hold its bytes, in adjoining slots."""
        self.append(kind, t_ns=t_ns, function=function, size=len(payload), **fields)
        for begin in range(0, len(payload), CONTINUATION_BYTES):
            self.append(Kind.CONTINUATION, t_ns=t_ns, function=function)
            part = payload[begin : begin + CONTINUATION_BYTES].ljust(CONTINUATION_BYTES, b"\0")
            self._chunks[-1] = self._chunks[-1][:CONTINUATION_OFFSET] + part

    def append_batch(self, records: Records) -> None:
        """Records of dtype RECORD, in their order; `seq` is filled in here."""
        batch = records.copy()
        batch["seq"] = np.arange(self._head + 1, self._head + 1 + len(batch), dtype=np.uint64)
        self._chunks.append(batch.tobytes())
        self._head += len(batch)

    def records(self) -> Records:
        """What was appended so far, as an array of RECORD."""
        return np.frombuffer(b"".join(self._chunks), dtype=RECORD)

    def to_bytes(self, trailer: dict[str, Any] | None = None) -> bytes:
        """The file's bytes; events, dropped, holes and crc32 are added to `trailer` where it has none."""
        header = json.dumps(self.header, separators=(",", ":")).encode()
        records_offset = -(-(HEADER_OFFSET + len(header)) // PAGE_BYTES) * PAGE_BYTES
        records = b"".join(self._chunks)
        whole = {"events": self._head, "dropped": 0, "holes": 0, "crc32": zlib.crc32(records)}
        tail = json.dumps(whole | (trailer or {}), separators=(",", ":")).encode()
        prologue = np.zeros((), dtype=PROLOGUE)
        values = {
            "magic": MAGIC, "version": VERSION, "record_bytes": RECORD_BYTES,
            "header_offset": HEADER_OFFSET, "header_bytes": len(header), "header_crc32": zlib.crc32(header),
            "records_offset": records_offset, "capacity": self._head, "head": self._head, "limit": self._head,
            "trailer_offset": records_offset + len(records), "trailer_bytes": len(tail),
            "trailer_crc32": zlib.crc32(tail),
        }  # fmt: skip
        for name, value in values.items():
            prologue[name] = value
        return prologue.tobytes() + header.ljust(records_offset - HEADER_OFFSET, b"\0") + records + tail

    def write(self, path: str | Path, trailer: dict[str, Any] | None = None) -> None:
        """Put the closed recording at `path`."""
        Path(path).write_bytes(self.to_bytes(trailer))
