# SPDX-License-Identifier: MIT
"""What an event costs in C, stamped by the clock and not."""

from pathlib import Path
from typing import Final

from qemu_plugin.native._core import lib

from bench.table import Figure
from qemu_plugin.native.recording import RecordingWriter

COUNT: Final = 1_000_000
ROUNDS: Final = 3


def figures(directory: Path) -> list[Figure]:
    """Nanoseconds for each event, the best of three rounds."""
    recording = RecordingWriter.create(
        directory / "events.lus", {"schema": 1}, capacity=COUNT * 2 * ROUNDS + 4096, extent=COUNT
    )
    best = {}
    for with_clock in (1, 0):
        rounds = []
        for _ in range(ROUNDS):
            recording.reserve()
            rounds.append(lib.recording_bench(recording.raw, COUNT, with_clock) / COUNT)
        best[with_clock] = min(rounds)
    if recording.dropped:
        raise RuntimeError(f"{recording.dropped} events were dropped: the figures are not of recording")
    return [
        Figure("event with its clock reading", f"{best[1]:.1f} ns"),
        Figure("event alone", f"{best[0]:.1f} ns"),
    ]
