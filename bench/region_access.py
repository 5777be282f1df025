# SPDX-License-Identifier: MIT
"""Round trips of 4-byte region accesses with recording on, as a ratio of a bare C ping-pong's.

Client and server share one CPU, so that a round trip is two switches and nothing waits for a sleeping core.
The client loop is the same C for both; batches alternate, and the ratio is the median of the pairs'.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.pingpong import library
from bench.table import Figure
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.vfio_user.client import Client
from qemu_plugin.vfio_user.header import HEADER_BYTES, Command, command
from qemu_plugin.vfio_user.region import RegionAccess

BATCH: Final = 2000
PAIRS: Final = 40
ACCESS_BYTES: Final = HEADER_BYTES + RegionAccess.LAYOUT.size
PASSIVE_OFFSET: Final = 0x58  # the stream endpoint's MARK: read and written without a model
TRAPPED_OFFSET: Final = 0x30  # SEQUENCE: decided in Python

READ: Final = command(1, Command.REGION_READ, RegionAccess(0, PASSIVE_OFFSET, 4).encode())
WRITE: Final = command(2, Command.REGION_WRITE, RegionAccess(0, PASSIVE_OFFSET, 4, b"mark").encode())
TRAPPED: Final = command(3, Command.REGION_READ, RegionAccess(0, TRAPPED_OFFSET, 4).encode())


def figures(directory: Path) -> list[Figure]:
    """Reads and writes that C answers, and reads that Python decides."""
    previous = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(previous)})
    try:
        with _server(directory) as client:
            return [
                _compare(client, "4-byte read, recorded", READ, ACCESS_BYTES + 4, "target 0.85"),
                _compare(client, "4-byte write, recorded", WRITE, ACCESS_BYTES, "target 0.85"),
                _compare(client, "4-byte read decided in Python", TRAPPED, ACCESS_BYTES + 4, ""),
            ]
    finally:
        os.sched_setaffinity(0, previous)


@contextlib.contextmanager
def _server(directory: Path) -> Iterator[Client]:
    path, spec = directory / "access.lus", directory / "access.json"
    recording = RecordingWriter.create(path, {"schema": 1}, capacity=1 << 21, extent=1 << 20)
    endpoint = {"index": 0, "model": "stream", "socket": str(directory / "access.sock")}
    spec.write_text(
        json.dumps({"recording": str(path), "endpoints": [endpoint], "reference_period_us": 1_000_000})
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "qemu_plugin.server", str(spec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        with Client(directory / "access.sock") as client:
            client.socket.settimeout(None)
            yield client
        process.stdin.close()
    if recording.dropped:
        raise RuntimeError(f"{recording.dropped} events were dropped: the figures are not of recording")


@contextlib.contextmanager
def _bare(request_bytes: int, reply_bytes: int) -> Iterator[int]:
    ours, theirs = socket.socketpair()
    with ours:
        arguments = [str(theirs.fileno()), str(request_bytes), str(reply_bytes)]
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.pingpong", *arguments], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        with process:
            yield ours.fileno()
            ours.shutdown(socket.SHUT_RDWR)


def _compare(client: Client, name: str, request: bytes, reply_bytes: int, note: str) -> Figure:
    lib: Any = library().lib
    ratios, served = [], []
    with _bare(len(request), reply_bytes) as bare:
        for pair in range(PAIRS + 2):
            bare_ns = lib.pingpong_call(bare, request, len(request), reply_bytes, BATCH)
            served_ns = lib.pingpong_call(client.socket.fileno(), request, len(request), reply_bytes, BATCH)
            if min(bare_ns, served_ns) < 0:
                raise OSError(-min(bare_ns, served_ns), f"{name}: the round trips broke off")
            if pair >= 2:
                ratios.append(bare_ns / served_ns)
                served.append(served_ns / BATCH)
    microseconds = statistics.median(served) / 1000
    return Figure(
        name, f"{statistics.median(ratios):.2f}", f"of bare C; {microseconds:.1f} us each. {note}".strip()
    )
