# SPDX-License-Identifier: MIT
import errno
import json
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pydev.recording.format import (
    CONTINUATION_OFFSET,
    HEADER_OFFSET,
    MAGIC,
    NO_FUNCTION,
    PROLOGUE,
    RECORD,
    Kind,
)
from qemu_plugin.native.recording import RecordingWriter

HEADER = {"schema": 1, "functions": []}


def create(path: Path, extent: int = 4096, capacity: int = 1 << 16) -> RecordingWriter:
    return RecordingWriter.create(path, HEADER, capacity=capacity, extent=extent)


def parse(path: Path) -> tuple[Any, npt.NDArray[Any], dict[str, Any]]:
    """Prologue, records, trailer: read by the format alone."""
    data = path.read_bytes()
    prologue = np.frombuffer(data, PROLOGUE, 1)[0]
    records = np.frombuffer(data, RECORD, int(prologue["head"]), int(prologue["records_offset"]))
    start, size = int(prologue["trailer_offset"]), int(prologue["trailer_bytes"])
    trailer = data[start : start + size]
    assert zlib.crc32(trailer) == prologue["trailer_crc32"]
    assert start + size == len(data)
    return prologue, records, json.loads(trailer)


def test_a_closed_recording_has_header_records_and_trailer_where_the_prologue_says(tmp_path: Path) -> None:
    writer = create(tmp_path / "r.lus")
    writer.append(Kind.MARK, t_ns=5, value=3)
    writer.append(
        Kind.DMA_WRITE, function=2, flags=1, error=4, size=64, region=9, address=1, value=2, extra=3, aux=4
    )
    writer.close({"qemu": "11.1"})

    prologue, records, trailer = parse(tmp_path / "r.lus")
    header = (tmp_path / "r.lus").read_bytes()[HEADER_OFFSET:][: int(prologue["header_bytes"])]
    assert prologue["magic"] == MAGIC
    assert json.loads(header) == HEADER
    assert zlib.crc32(header) == prologue["header_crc32"]
    assert records[0].tolist() == (1, 5, Kind.MARK, NO_FUNCTION, 0, 0, 0, 0, 0, 3, 0, 0)
    assert records[1].tolist()[2:] == (Kind.DMA_WRITE, 2, 1, 4, 64, 9, 1, 2, 3, 4)
    assert records[1]["t_ns"] > 0
    assert trailer["qemu"] == "11.1"
    assert (trailer["events"], trailer["dropped"], trailer["holes"]) == (2, 0, 0)
    assert trailer["crc32"] == zlib.crc32(records.tobytes())


@pytest.mark.parametrize("size", [0, 1, 39, 40, 41, 80, 1000])
def test_a_text_is_followed_by_as_many_continuations_as_it_needs(tmp_path: Path, size: int) -> None:
    writer = create(tmp_path / "r.lus")
    text = bytes(range(256)) * 4
    writer.append_text(Kind.CONSOLE, text[:size], t_ns=7)
    writer.append(Kind.MARK)
    writer.close({})

    _, records, _ = parse(tmp_path / "r.lus")
    chain = records[1:-1]
    assert (records[0]["kind"], records[0]["size"], records[0]["t_ns"]) == (Kind.CONSOLE, size, 7)
    assert len(chain) == -(-size // 40)
    assert all(chain["kind"] == Kind.CONTINUATION)
    assert b"".join(record.tobytes()[CONTINUATION_OFFSET:] for record in chain)[:size] == text[:size]
    assert records[-1]["kind"] == Kind.MARK


def test_a_batch_is_appended_in_order_with_its_own_times(tmp_path: Path) -> None:
    writer = create(tmp_path / "r.lus")
    batch = np.zeros(3, RECORD)
    batch["kind"], batch["t_ns"] = Kind.TRACE_WRITE, [30, 10, 20]

    assert writer.append_batch(batch) == 3
    writer.close({})

    _, records, _ = parse(tmp_path / "r.lus")
    assert records["t_ns"].tolist() == [30, 10, 20]
    assert records["seq"].tolist() == [1, 2, 3]


def test_events_beyond_the_reserved_extent_are_dropped_counted_and_leave_no_hole(tmp_path: Path) -> None:
    writer = create(tmp_path / "r.lus", extent=2048)
    limit = writer.limit
    appended = sum(writer.append(Kind.MARK) for _ in range(limit))

    trailer = writer.close({})

    assert 0 < appended < limit
    assert trailer["events"] == appended
    assert trailer["dropped"] == limit - appended
    assert trailer["holes"] == 0


def test_reserving_keeps_an_extent_ahead_of_the_writers(tmp_path: Path) -> None:
    writer = create(tmp_path / "r.lus", extent=2048)

    for _ in range(8):
        assert all(writer.append(Kind.MARK) for _ in range(1024))
        writer.reserve()

    assert writer.dropped == 0
    assert writer.limit >= writer.head + 2048


def test_the_capacity_is_never_exceeded(tmp_path: Path) -> None:
    writer = create(tmp_path / "r.lus", extent=2048, capacity=3000)
    for _ in range(4000):
        writer.append(Kind.MARK)
        writer.reserve()
    assert writer.limit == 3000
    assert writer.head <= 3000
    assert writer.head + writer.dropped == 4000


def test_writers_in_several_threads_and_processes_leave_neither_hole_nor_duplicate(tmp_path: Path) -> None:
    path = tmp_path / "r.lus"
    writer = create(path, extent=1 << 15)
    program = (
        "import sys, pathlib\n"
        "from qemu_plugin.native.recording import RecordingWriter\n"
        "writer = RecordingWriter.attach(pathlib.Path(sys.argv[1]))\n"
        "for number in range(2000): writer.append(18, function=int(sys.argv[2]), value=number)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(index)], env=_environment())
        for index in range(2)
    ]
    threads = [
        threading.Thread(
            target=lambda i=i: [writer.append(Kind.MARK, function=i, value=n) for n in range(2000)]
        )
        for i in (2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(30) for process in processes] == [0, 0]

    trailer = writer.close({})

    _, records, _ = parse(path)
    assert (trailer["events"], trailer["holes"], trailer["dropped"]) == (8000, 0, 0)
    for function in range(4):
        assert records[records["function"] == function]["value"].tolist() == list(range(2000))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_what_a_killed_writer_published_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.lus"
    writer = create(path)
    program = (
        "import sys, os, pathlib\n"
        "from qemu_plugin.native.recording import RecordingWriter\n"
        "writer = RecordingWriter.attach(pathlib.Path(sys.argv[1]))\n"
        "[writer.append(18, value=n) for n in range(100)]\n"
        "os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=_environment(), timeout=30, check=False
    )

    trailer = writer.close({})

    assert process.returncode == -9
    assert (trailer["events"], trailer["holes"]) == (100, 0)


def test_an_attached_writer_may_neither_reserve_nor_close(tmp_path: Path) -> None:
    create(tmp_path / "r.lus")
    attached = RecordingWriter.attach(tmp_path / "r.lus")
    with pytest.raises(PermissionError):
        attached.reserve()
    with pytest.raises(PermissionError):
        attached.close({})


def test_attaching_to_a_closed_recording_or_another_file_is_refused(tmp_path: Path) -> None:
    closed = create(tmp_path / "r.lus")
    closed.close({})
    (tmp_path / "other").write_bytes(bytes(8192))
    for name in ("r.lus", "other"):
        with pytest.raises(OSError, match=name) as caught:
            RecordingWriter.attach(tmp_path / name)
        assert caught.value.errno == errno.EINVAL


def test_an_event_after_the_end_is_dropped(tmp_path: Path) -> None:
    writer = create(tmp_path / "r.lus")
    writer.append(Kind.MARK)
    writer.close({})
    assert not writer.append(Kind.MARK)
    assert not writer.append_text(Kind.NOTE, b"{}")
    assert parse(tmp_path / "r.lus")[2]["events"] == 1


def test_a_recording_that_cannot_be_made_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        create(tmp_path / "missing" / "r.lus")
