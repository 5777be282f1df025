# SPDX-License-Identifier: MIT
"""Prints how long loading, judging and reporting a recording takes: `python bench/verify_speed.py [RECORDING]`.

Without a recording: a synthetic one of 150,000 events.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pydev.continuity import load_policy, load_timeline, verify
from pydev.recording.format import RECORD, Kind
from pydev.recording.reader import read
from pydev.recording.writer import RecordingBuilder
from pydev.report import render_text, verdict_json
from pydev.testkit.story import EP0, Story, at

EVENTS = 150_000
REPEATS = 7


def padded(path: Path) -> None:
    """The clean story, filled up with interrupts of the streaming endpoint and reference ticks."""
    path.write_bytes(Story().to_bytes())
    whole = read(path)
    filler = np.zeros(EVENTS - len(whole.records), dtype=RECORD)
    filler["kind"] = Kind.INTERRUPT
    filler["function"] = EP0
    filler["t_ns"] = np.linspace(at(130), at(280), len(filler)).astype(np.uint64)
    builder = RecordingBuilder(whole.header)
    builder.append_batch(np.concatenate((whole.records, filler)))
    trailer = {k: v for k, v in (whole.trailer or {}).items() if k not in ("crc32", "events")}
    builder.write(path, trailer)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "r.lus"
        if len(sys.argv) <= 1:
            padded(path)
        seconds = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            timeline = load_timeline(path)
            verdict = verify(timeline, load_policy("series"))
            render_text(timeline, verdict)
            verdict_json(verdict)
            seconds.append(time.perf_counter() - begin)
    print(
        f"{len(timeline.records)} events: {verdict.outcome}, best {min(seconds):.3f} s, worst {max(seconds):.3f} s"
    )


if __name__ == "__main__":
    main()
