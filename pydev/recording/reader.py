# SPDX-License-Identifier: MIT
"""Reads a recording's bytes: prologue, header, records, trailer, and every reason to distrust them.

A file beyond reading raises RecordingError. A file that can be read but does not prove itself whole is
returned with its `problems`: no judgement from it may be PASS. What the records mean is `timeline`'s.
Layout: `pydev.recording.format`.
"""

import json
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.errors import RecordingError
from pydev.recording.format import HEADER_OFFSET, MAGIC, PAGE_BYTES, PROLOGUE, RECORD, RECORD_BYTES, VERSION

Records = npt.NDArray[np.void]
Json = dict[str, Any]

SCHEMA: Final = 1
_PIECE: Final = 1 << 19
"""Records that are checked in one go: their pages are let go again before the next."""
_FIELDS: Final = dict(PROLOGUE.fields or {})
_USED: Final = np.zeros(PAGE_BYTES, dtype=bool)
for _dtype, _offset, *_ in _FIELDS.values():
    _USED[_offset : _offset + _dtype.itemsize] = True


@dataclass(frozen=True, slots=True)
class Recording:
    """One file: its two JSON objects, its published records in slot order, what is wrong with it."""

    path: Path
    header: Json
    trailer: Json | None
    records: Records
    """RECORD items, read-only, holes left out."""
    head: int
    """Slots claimed, as the prologue says."""
    dropped: int
    holes: int
    problems: tuple[str, ...]
    _mapping: mmap.mmap | None = None

    def forget(self) -> None:
        """Let the file's pages go that were looked at; they come back from the file when they are needed."""
        if self._mapping is not None:
            self._mapping.madvise(mmap.MADV_DONTNEED)

    @property
    def complete(self) -> bool:
        """Whether the file proves that nothing is missing from it."""
        return not self.problems


def read(path: str | Path) -> Recording:
    """The recording at `path`, mapped and not copied; RecordingError where it is none or beyond reading."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            if size < PAGE_BYTES:
                raise RecordingError(
                    f"{path}: {size} bytes are too few for a recording's {PAGE_BYTES}-byte prologue"
                )
            data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from error
    return _Parser(path, data, size).recording()


class _Parser:
    """The steps of `read`, in file order; `problems` grows as they find them."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size = path, data, size
        self.problems: list[str] = []
        prologue = np.frombuffer(data, dtype=PROLOGUE, count=1)[0]
        self.field = {name: int(prologue[name]) for name in _FIELDS if name != "magic"}
        self.magic = bytes(data[: len(MAGIC)])

    def recording(self) -> Recording:
        self._check_identity()
        header = self._header()
        trailer = self._trailer()
        records, holes = self._records(trailer)
        if self.field["dropped"]:
            self.problems.append(f"{self.field['dropped']} events were dropped")
        return Recording(
            path=self.path,
            header=header,
            trailer=trailer,
            records=records,
            head=self.field["head"],
            dropped=self.field["dropped"],
            holes=holes,
            problems=tuple(self.problems),
            _mapping=self.data,
        )

    def _check_identity(self) -> None:
        if self.magic != MAGIC:
            raise RecordingError(f"{self.path}: not a recording (it begins {self.magic!r}, not {MAGIC!r})")
        if self.field["version"] != VERSION:
            raise RecordingError(
                f"{self.path}: recording version {self.field['version']}, this reads {VERSION}"
            )
        if self.field["record_bytes"] != RECORD_BYTES:
            raise RecordingError(
                f"{self.path}: records of {self.field['record_bytes']} bytes, not {RECORD_BYTES}"
            )
        page = np.frombuffer(self.data, dtype=np.uint8, count=PAGE_BYTES)
        if page[~_USED].any():
            self.problems.append("the prologue's unused bytes are not zero")

    def _header(self) -> Json:
        begin, count, records = (self.field[n] for n in ("header_offset", "header_bytes", "records_offset"))
        if begin != HEADER_OFFSET or begin + count > min(self.size, records) or records % RECORD_BYTES:
            raise RecordingError(
                f"{self.path}: a header of {count} bytes at {begin} and records at {records} do not fit "
                f"a file of {self.size} bytes"
            )
        raw = self.data[begin : begin + count]
        if zlib.crc32(raw) != self.field["header_crc32"]:
            raise RecordingError(f"{self.path}: the header's CRC-32 is wrong")
        header = _json_object(raw)
        if header is None:
            raise RecordingError(f"{self.path}: the header is not a JSON object")
        if header.get("schema") != SCHEMA:
            raise RecordingError(f"{self.path}: header schema {header.get('schema')!r}, this reads {SCHEMA}")
        if _has_bits(self.data, begin + count, min(records, self.size)):
            self.problems.append("the bytes between header and records are not zero")
        return header

    def _trailer(self) -> Json | None:
        begin, count = self.field["trailer_offset"], self.field["trailer_bytes"]
        if not count:
            self.problems.append("there is no trailer: the recording was never closed")
            return None
        if begin < self.field["records_offset"] or begin + count > self.size:
            self.problems.append(
                f"a trailer of {count} bytes at {begin} does not fit a file of {self.size} bytes"
            )
            return None
        if begin + count != self.size:
            self.problems.append(f"{self.size - begin - count} bytes follow the trailer")
        raw = self.data[begin : begin + count]
        if zlib.crc32(raw) != self.field["trailer_crc32"]:
            self.problems.append("the trailer's CRC-32 is wrong")
            return None
        trailer = _json_object(raw)
        if trailer is None:
            self.problems.append("the trailer is not a JSON object")
        return trailer

    def _records(self, trailer: Json | None) -> tuple[Records, int]:
        begin, head, capacity = (self.field[n] for n in ("records_offset", "head", "capacity"))
        end = self.field["trailer_offset"] if trailer is not None else self.size
        room = max(0, end - begin) // RECORD_BYTES
        count = min(head, room, capacity)
        if count < head:
            self.problems.append(f"{head} events were claimed and the file holds {count}")
        if trailer is not None and _has_bits(self.data, begin + count * RECORD_BYTES, end):
            self.problems.append("there are events past the head")
        records: Records = (
            np.frombuffer(self.data, dtype=RECORD, count=count, offset=begin) if count else _none()
        )
        published = np.empty(count, dtype=np.bool_)
        crc32 = 0
        for first in range(0, count, _PIECE):
            piece = records[first : first + _PIECE]
            published[first : first + _PIECE] = piece["seq"] == np.arange(
                first + 1, first + 1 + len(piece), dtype=np.uint64
            )
            crc32 = zlib.crc32(piece.view(np.uint8).data, crc32)
            self.data.madvise(mmap.MADV_DONTNEED)
        holes = count - int(np.count_nonzero(published))
        if holes:
            self.problems.append(f"{holes} of {count} claimed slots were never published")
        self._check_against(trailer, crc32, holes)
        return (records[published] if holes else records), holes

    def _check_against(self, trailer: Json | None, crc32: int, holes: int) -> None:
        if trailer is None:
            return
        actual = {"events": self.field["head"], "dropped": self.field["dropped"], "holes": holes}
        for name, value in actual.items():
            if trailer.get(name) != value:
                self.problems.append(f"the trailer says {name} {trailer.get(name)!r}, the file {value}")
        if _crc_number(trailer.get("crc32")) != crc32:
            self.problems.append("the records' CRC-32 is not the trailer's")


def _has_bits(data: mmap.mmap, begin: int, end: int) -> bool:
    """Whether any byte of a span is not zero."""
    if end <= begin:
        return False
    return bool(np.frombuffer(data, dtype=np.uint8, count=end - begin, offset=begin).any())


def _none() -> Records:
    return np.empty(0, dtype=RECORD)


def _crc_number(value: object) -> int | None:
    """A CRC-32 as JSON carries it: a number, or hexadecimal digits."""
    if isinstance(value, str):
        try:
            return int(value, 16)
        except ValueError:
            return None
    return value if isinstance(value, int) else None


def _json_object(raw: bytes) -> Json | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
