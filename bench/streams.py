# SPDX-License-Identifier: MIT
"""Stream programs with recording: how many transactions a second, and how late on a grid."""

import fcntl
import os
import statistics
import time
from pathlib import Path
from typing import Final

import numpy as np
from qemu_plugin.native._core import ffi, lib

from bench.table import Figure
from pydev.endpoints.stream import StreamEndpoint
from pydev.ports import Gate, StreamProgram
from pydev.recording.format import RECORD, RECORD_BYTES, Flag, Kind
from pydev.units import Iova
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.native.stream import NativeStream
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client

RING_PAGES: Final = 64
FREE_RUNNING_S: Final = 0.3
GRID_S: Final = 1.0
GRIDS_NS: Final = (10_000, 100_000)


def figures(directory: Path) -> list[Figure]:
    """Free-running first: every transaction is late, so none waits."""
    recording = RecordingWriter.create(
        directory / "streams.lus", {"schema": 1}, capacity=1 << 24, extent=1 << 23
    )
    socket = directory / "streams.sock"
    with EndpointServer(StreamEndpoint(), socket, recording=recording) as server, Client(socket) as client:
        ram = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(ram, RING_PAGES * 4096)
        _seal(ram)
        client.dma_map(0, RING_PAGES * 4096, ram)
        os.close(ram)
        server.port.set_gate(Gate.INTERRUPTS_OFF)
        return [
            _free_running(server, recording),
            *(_grid(server, recording, period_ns) for period_ns in GRIDS_NS),
        ]


def _seal(ram: int) -> None:
    fcntl.fcntl(ram, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)


def _program(period_ns: int) -> StreamProgram:
    pages = tuple(Iova(4096 * page) for page in range(RING_PAGES))
    return StreamProgram(engine=0, pages=pages, period_ns=period_ns, generation=1)


def _free_running(server: EndpointServer, recording: RecordingWriter) -> Figure:
    stream = NativeStream(server.engine, _program(1))
    began = time.monotonic()
    stream.start()
    time.sleep(FREE_RUNNING_S)
    stream.stop()
    elapsed = time.monotonic() - began
    stream.join()
    _check(recording)
    return Figure(
        "free-running, recorded", f"{stream.status().written / elapsed / 1e6:.1f} M/s", "64 bytes each"
    )


def _grid(server: EndpointServer, recording: RecordingWriter, period_ns: int) -> Figure:
    first = recording.head
    stream = NativeStream(server.engine, _program(period_ns))
    stream.start()
    time.sleep(GRID_S)
    stream.stop()
    stream.join()
    _check(recording)
    data = ffi.buffer(lib.recording_records(recording.raw), recording.head * RECORD_BYTES)
    records = np.frombuffer(data, RECORD)[first:]
    start = records[records["kind"] == Kind.ENGINE_PAGE]["t_ns"][-1]
    written = records[(records["kind"] == Kind.DMA_WRITE) & (records["flags"] == Flag.STREAM)]
    late = written["t_ns"].astype(np.int64) - int(start) - np.arange(len(written)) * period_ns
    p99 = statistics.quantiles(late.tolist(), n=100)[98]
    return Figure(
        f"{period_ns // 1000} us grid, lateness p50",
        f"{float(np.median(late)) / 1000:.1f} us",
        f"p99 {p99 / 1000:.1f} us, max {late.max() / 1000:.0f} us, {len(written)} transactions, none skipped",
    )


def _check(recording: RecordingWriter) -> None:
    recording.reserve()
    if recording.dropped:
        raise RuntimeError(f"{recording.dropped} events were dropped: the figures are not of recording")
