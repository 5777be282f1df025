# SPDX-License-Identifier: MIT
"""A model's DMA write of 64 KiB, recorded, as a ratio of a plain memcpy of as much; both called from Python."""

import fcntl
import mmap
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qemu_plugin.native._core import ffi, lib

from bench.decided import DecidedEndpoint
from bench.table import Figure
from pydev.ports import Gate
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client

SIZE_BYTES: Final = 64 << 10
BATCH: Final = 400
PAIRS: Final = 60


def figures(directory: Path) -> list[Figure]:
    """Both copy the same source to memory of the same kind, in turn."""
    recording = RecordingWriter.create(
        directory / "copies.lus", {"schema": 1}, capacity=1 << 20, extent=1 << 18
    )
    path = directory / "copies.sock"
    with EndpointServer(DecidedEndpoint(), path, recording=recording) as server, Client(path) as client:
        client.dma_map(0, SIZE_BYTES, lent := _memory())
        os.close(lent)
        server.port.set_gate(Gate.INTERRUPTS_OFF)
        plain = _memory()
        target = ffi.from_buffer("uint8_t[]", mmap.mmap(plain, SIZE_BYTES))
        os.close(plain)
        source, engine = ffi.new("uint8_t[]", SIZE_BYTES), server.engine.raw
        ratios = []
        for _ in range(PAIRS):
            copied_s = _seconds(lambda: ffi.memmove(target, source, SIZE_BYTES))
            written_s = _seconds(lambda: lib.engine_dma_write(engine, 0, source, SIZE_BYTES))
            ratios.append(copied_s / written_s)
            recording.reserve()
        if lib.engine_dma_write(engine, 0, source, SIZE_BYTES):
            raise RuntimeError("the writes were refused: the figure is not of copies")
    if recording.dropped:
        raise RuntimeError(f"{recording.dropped} events were dropped: the figure is not of recording")
    low, middle, high = statistics.quantiles(ratios, n=4)
    return [
        Figure("DMA write of 64 KiB", f"{middle:.2f}", f"of memcpy ({low:.2f} to {high:.2f}); target 0.95")
    ]


def _memory() -> int:
    fd = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def _seconds(copy: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(BATCH):
        copy()
    return time.perf_counter() - began
