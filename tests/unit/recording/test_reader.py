# SPDX-License-Identifier: MIT
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pydev.errors import RecordingError
from pydev.recording.format import PROLOGUE, RECORD_BYTES, Kind, Mark
from pydev.recording.reader import read
from pydev.recording.writer import RecordingBuilder

HEADER = {"schema": 1, "functions": []}


def recording(trailer: dict[str, object] | None = None) -> bytes:
    builder = RecordingBuilder(HEADER)
    builder.append(Kind.MARK, t_ns=10, value=int(Mark.MACHINE_RUNNING))
    builder.append_text(Kind.CONSOLE, b"x" * 100, t_ns=11)
    builder.append(Kind.MARK, t_ns=12, value=int(Mark.QEMU_EXITED))
    return builder.to_bytes(trailer)


def field(data: bytes, name: str) -> int:
    return int(np.frombuffer(data, dtype=PROLOGUE, count=1)[0][name])


def with_field(data: bytes, name: str, value: int) -> bytes:
    prologue = np.frombuffer(data, dtype=PROLOGUE, count=1).copy()
    prologue[name] = value
    return prologue.tobytes() + data[PROLOGUE.itemsize :]


def save(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "r.lus"
    path.write_bytes(data)
    return path


def test_what_the_writer_wrote_is_read_back_whole(tmp_path: Path) -> None:
    found = read(save(tmp_path, recording()))
    assert found.problems == ()
    assert found.complete
    assert found.head == len(found.records) == 6
    assert found.records["kind"].tolist()[:2] == [Kind.MARK, Kind.CONSOLE]


def test_an_empty_recording_is_readable(tmp_path: Path) -> None:
    found = read(save(tmp_path, RecordingBuilder(HEADER).to_bytes()))
    assert found.complete
    assert len(found.records) == 0


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: b"", "too few"),
        (lambda d: d[:4000], "too few"),
        (lambda d: b"LUSCOPA\n" + d[8:], "not a recording"),
        (lambda d: with_field(d, "version", 2), "version 2"),
        (lambda d: with_field(d, "record_bytes", 32), "32 bytes"),
        (lambda d: with_field(d, "header_offset", 8192), "do not fit"),
        (lambda d: with_field(d, "header_bytes", 1 << 40), "do not fit"),
        (lambda d: with_field(d, "records_offset", 4096), "do not fit"),
        (lambda d: d[:4096] + b"[" + d[4097:], "header's CRC-32"),
    ],
)
def test_a_file_beyond_reading_says_why(tmp_path: Path, spoil: Callable[[bytes], bytes], says: str) -> None:
    with pytest.raises(RecordingError, match=says):
        read(save(tmp_path, spoil(recording())))


def test_a_missing_file_is_a_recording_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        read(tmp_path / "absent.lus")


def test_a_header_of_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="schema 2"):
        read(save(tmp_path, RecordingBuilder({"schema": 2}).to_bytes()))


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def unpublished(data: bytes) -> bytes:
    at = field(data, "records_offset") + RECORD_BYTES
    return data[:at] + bytes(8) + data[at + 8 :]


def past_the_head(data: bytes) -> bytes:
    return with_field(data, "head", field(data, "head") - 1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: d[:-1], "does not fit"),
        (lambda d: d[: field(d, "trailer_offset")], "does not fit"),
        (lambda d: d[: field(d, "trailer_offset") - 70], "the file holds"),
        (lambda d: d + b"more", "follow the trailer"),
        (lambda d: flipped(d, len(d) - 5), "trailer's CRC-32"),
        (lambda d: flipped(d, field(d, "records_offset") + 20), "records' CRC-32"),
        (lambda d: with_field(d, "trailer_bytes", 0), "never closed"),
        (lambda d: with_field(d, "dropped", 3), "3 events were dropped"),
        (lambda d: with_field(d, "head", 10**9), "were claimed"),
        (lambda d: flipped(d, 100), "unused bytes"),
        (unpublished, "never published"),
        (past_the_head, "past the head"),
        (past_the_head, "trailer says events"),
    ],
)
def test_a_damaged_file_is_read_and_not_trusted(
    tmp_path: Path, spoil: Callable[[bytes], bytes], says: str
) -> None:
    found = read(save(tmp_path, spoil(recording())))
    assert not found.complete
    assert any(says in problem for problem in found.problems), found.problems


def test_the_published_records_around_a_hole_are_kept(tmp_path: Path) -> None:
    found = read(save(tmp_path, unpublished(recording())))
    assert found.holes == 1
    assert len(found.records) == 5


@pytest.mark.parametrize("name", ["events", "dropped", "holes", "crc32"])
def test_a_trailer_that_disagrees_with_the_file_is_a_problem(tmp_path: Path, name: str) -> None:
    assert not read(save(tmp_path, recording({name: 77}))).complete


def test_a_crc_may_be_written_in_hexadecimal(tmp_path: Path) -> None:
    import json

    data = recording()
    crc32 = json.loads(data[field(data, "trailer_offset") :])["crc32"]
    assert read(save(tmp_path, recording({"crc32": f"{crc32:08x}"}))).complete
