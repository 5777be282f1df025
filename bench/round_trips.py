# SPDX-License-Identifier: MIT
"""A server in a process of its own, and its round trips compared with a bare ping-pong's of the same sizes.

Client and both servers share one CPU, so that a round trip is two switches and nothing waits for a sleeping
core. The client loop is the same C for both; batches alternate, and the ratio is the median of the pairs'.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.pingpong import Message, Rounds, bare
from bench.table import Figure
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.vfio_user.client import Client

BATCH: Final = 2000
PAIRS: Final = 40
WARM_UP: Final = 2


@dataclass(frozen=True, slots=True)
class Served:
    """A server under measurement."""

    client: Client
    pid: int
    recording: RecordingWriter

    def user_seconds(self) -> float:
        """CPU time that the server has spent outside the kernel so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")  # proc(5): utime


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """This process, and what it starts, on one CPU."""
    previous = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(previous)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, previous)


@contextlib.contextmanager
def served(directory: Path, model: str) -> Iterator[Served]:
    """The server of one endpoint, recording, with a client connected; RuntimeError if it lost an event."""
    path, spec = directory / "access.lus", directory / "access.json"
    recording = RecordingWriter.create(path, {"schema": 1}, capacity=1 << 22, extent=1 << 20)
    endpoint = {"index": 0, "model": model, "socket": str(directory / "access.sock")}
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
            yield Served(client, process.pid, recording)
        process.stdin.close()
    if recording.dropped:
        raise RuntimeError(f"{recording.dropped} events were dropped: the figures are not of recording")


def compare(server: Served, name: str, messages: Sequence[Message], target: str) -> Figure:
    """Rounds of these messages, served and bare."""
    rounds = Rounds(messages)
    ratios, spent_ns = [], []
    user_s = server.user_seconds()
    with bare(messages) as socket:
        for pair in range(WARM_UP + PAIRS):
            server.recording.reserve()
            bare_ns = rounds.call_ns(socket, BATCH)
            served_ns = rounds.call_ns(server.client.socket.fileno(), BATCH)
            if pair >= WARM_UP:
                ratios.append(bare_ns / served_ns)
                spent_ns.append(served_ns / BATCH)
    user_us = (server.user_seconds() - user_s) * 1e6 / (BATCH * (WARM_UP + PAIRS) * len(messages))
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Figure(
        name,
        f"{middle:.2f}",
        f"of bare C ({low:.2f} to {high:.2f}); {statistics.median(spent_ns) / 1000:.1f} us, "
        f"{user_us:.2f} us user a message; target {target}",
    )
