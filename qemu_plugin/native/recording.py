# SPDX-License-Identifier: MIT
"""The recording's writer: shared memory that the core, the TCG plugin and Python append to alike.

`pydev/recording/format.py` has the layout. A writer claims slots with an atomic add and never one that has no
reserved file space; what finds none is counted as dropped.
"""

import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qemu_plugin.native._core import ffi, lib

if TYPE_CHECKING:
    import numpy as np

NO_FUNCTION = 0xFFFF  # pydev/recording/format.py; not imported, as that needs numpy


def check(result: int, what: str) -> None:
    """Turn -errno into an OSError that says what failed."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


class RecordingWriter:
    """One process's hold on a recording; made by `create` or `attach`."""

    def __init__(self, raw: Any, path: Path, *, is_owner: bool) -> None:
        self.raw = ffi.gc(raw, lib.recording_destroy)
        self.path = path
        self.is_owner = is_owner

    @classmethod
    def create(
        cls, path: Path, header: Mapping[str, Any], *, capacity: int = 1 << 26, extent: int = 1 << 18
    ) -> Self:
        """A new recording at `path`, with room for `capacity` records of which `extent` are reserved.

        OSError where the file cannot be made or the first extent not be reserved.
        """
        text = json.dumps(header, separators=(",", ":")).encode()
        out = ffi.new("recording **")
        result = lib.recording_create(
            os.fsencode(path), text, len(text), zlib.crc32(text), capacity, extent, out
        )
        check(result, f"recording {path} with {extent} slots reserved")
        return cls(out[0], Path(path), is_owner=True)

    @classmethod
    def attach(cls, path: Path) -> Self:
        """Another process's recording, still open; this writer may neither reserve nor close.

        OSError with EINVAL where the file is no recording of this version, or closed.
        """
        out = ffi.new("recording **")
        check(lib.recording_attach(os.fsencode(path), out), f"attaching to recording {path}")
        return cls(out[0], Path(path), is_owner=False)

    def reserve(self) -> None:
        """Keep one extent reserved and prefaulted ahead of `head`.

        Where the disk is full the limit stays, and events beyond it count as dropped: no exception.
        """
        if not self.is_owner:
            raise PermissionError(f"{self.path}: only the writer that created a recording reserves space")
        lib.recording_reserve(self.raw)

    def prefault(self) -> None:
        """Touch what the owner has reserved since the last call, so that no append of this process faults."""
        lib.recording_prefault(self.raw)

    def append(
        self,
        kind: int,
        *,
        t_ns: int | None = None,
        function: int = NO_FUNCTION,
        flags: int = 0,
        error: int = 0,
        size: int = 0,
        region: int = 0,
        address: int = 0,
        value: int = 0,
        extra: int = 0,
        aux: int = 0,
    ) -> bool:
        """Append one event, stamped now unless `t_ns` is given; False where it was dropped."""
        event = (t_ns or 0, kind, function, flags, error, size, region, address, value, extra, aux)
        return bool(lib.recording_append(self.raw, ffi.new("struct event *", event)) == 0)

    def append_text(
        self, kind: int, text: bytes, *, t_ns: int | None = None, function: int = NO_FUNCTION, flags: int = 0
    ) -> bool:
        """Append a text event with its continuation records, in one claim; False where it was dropped."""
        event = ffi.new("struct event *", (t_ns or 0, kind, function, flags))
        return bool(lib.recording_append_text(self.raw, event, text, len(text)) == 0)

    def append_batch(self, records: "np.ndarray[Any, Any]") -> int:
        """Append an array of RECORD, all or none; `seq` is filled in. Returns how many were appended."""
        if records.dtype.itemsize != ffi.sizeof("struct event") + 8 or not records.flags.c_contiguous:
            raise ValueError(f"a contiguous array of RECORD is needed, not {records.dtype}")
        data = ffi.from_buffer(records.view("u1"))
        result = lib.recording_append_batch(self.raw, data, len(records))
        return len(records) if result == 0 else 0

    def view(self, begin: int, end: int) -> "np.ndarray[Any, Any]":
        """Slots `begin` to `end` as an array of RECORD, shared with the writers: `seq` 0 is not published."""
        import numpy as np

        from pydev.recording.format import RECORD

        end = min(end, self.limit)
        buffer = ffi.buffer(lib.recording_records(self.raw) + begin * 64, max(end - begin, 0) * 64)
        return np.frombuffer(buffer, dtype=RECORD)

    @property
    def head(self) -> int:
        """Slots claimed so far."""
        return int(lib.recording_head(self.raw))

    @property
    def limit(self) -> int:
        """Slots that have file space."""
        return int(lib.recording_limit(self.raw))

    @property
    def dropped(self) -> int:
        """Events that found no slot."""
        return int(lib.recording_dropped(self.raw))

    def close(self, trailer: Mapping[str, Any]) -> dict[str, Any]:
        """Write the trailer, cut the file to its end and return the trailer as written.

        Other writers must have finished: an event that one of them claimed and has not published is a hole,
        and claims from now on are dropped.
        """
        if not self.is_owner:
            raise PermissionError(f"{self.path}: only the writer that created a recording closes it")
        events = lib.recording_seal(self.raw)
        with memoryview(ffi.buffer(lib.recording_records(self.raw), events * 64)) as records:
            crc32 = zlib.crc32(records)
        whole = {
            **trailer,
            "events": events,
            "dropped": self.dropped,
            "holes": lib.recording_holes(self.raw),
            "crc32": crc32,
            "closed_ns": time.monotonic_ns(),
        }
        text = json.dumps(whole, separators=(",", ":")).encode()
        check(lib.recording_finish(self.raw, text, len(text), zlib.crc32(text)), f"closing {self.path}")
        return whole
