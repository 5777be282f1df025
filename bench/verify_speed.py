# SPDX-License-Identifier: MIT
"""How long a verdict on ten million events takes, and how much memory: `python -m bench.verify_speed [RECORDING]`.

Each figure is of a fresh process that loads, judges and reports as `luscope verify` does. Its memory is the most
that was ever resident, less what it held before it opened the recording: interpreter, numpy, rules.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.table import Figure

EVENTS: Final = 10_000_000
RUNS: Final = 3


def figures(directory: Path) -> list[Figure]:
    """The best of three runs on a synthetic update of ten million events."""
    path = directory / "long.lus"
    try:
        # Its memory is another process's: a child inherits how much its parent once held.
        subprocess.run([sys.executable, "-m", "bench.long_recording", str(path), str(EVENTS)], check=True)
        return of(path)
    finally:
        path.unlink(missing_ok=True)


def of(path: Path) -> list[Figure]:
    """The figures of one recording."""
    size = path.stat().st_size
    runs = [_run(path) for _ in range(RUNS)]
    best = min(runs, key=lambda run: run["seconds"])
    ratio = max(run["resident_bytes"] for run in runs) / size
    seconds = best["seconds"]
    return [
        Figure(
            "judged and reported",
            f"{seconds:.2f} s",
            f"{best['events']:,} events, {best['outcome']}; {best['events'] / seconds / 1e6:.1f} M/s. target 5 s",
        ),
        Figure("  of it loading", f"{best['loading_s']:.2f} s"),
        Figure("memory", f"{ratio:.2f}", f"of the file's {size / 1e6:.0f} MB. target 1.5"),
    ]


def _run(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.verify_speed", "--measure", str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if found["outcome"] != "PASS":
        raise RuntimeError(f"{path}: the verdict is {found['outcome']}: the figures are not of rules at work")
    return found


def measure(path: Path) -> dict[str, Any]:
    """Judge a recording in this process: seconds, bytes, events, outcome."""
    from pydev.continuity import load_policy, load_timeline, verify
    from pydev.report import render_text, verdict_json

    policy = load_policy("series")
    before, begin = _most_resident_bytes(), time.perf_counter()
    timeline = load_timeline(path)
    loaded = time.perf_counter()
    verdict = verify(timeline, policy)
    render_text(timeline, verdict)
    json.dumps(verdict_json(verdict))
    return {
        "seconds": time.perf_counter() - begin,
        "loading_s": loaded - begin,
        "resident_bytes": _most_resident_bytes() - before,
        "events": verdict.events,
        "outcome": verdict.outcome,
    }


def _most_resident_bytes() -> int:
    """This program's own high-water mark (getrusage's is inherited from whoever started it: linux fs/exec.c)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main(words: list[str]) -> None:
    """Measure and print; without a recording, of a synthetic one."""
    if words[:1] == ["--measure"]:
        print(json.dumps(measure(Path(words[1]))))
        return
    from bench.table import render

    with tempfile.TemporaryDirectory() as folder:
        found = of(Path(words[0])) if words else figures(Path(folder))
    print(render("A verdict", found))


if __name__ == "__main__":
    main(sys.argv[1:])
