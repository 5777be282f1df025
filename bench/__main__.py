# SPDX-License-Identifier: MIT
"""Prints every group of figures; arguments name groups."""

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.table import render

GROUPS: Final = {
    "region_access": "Region accesses (ratio of a bare C ping-pong on the same CPU)",
    "events": "Recording",
    "streams": "Stream programs",
    "copies": "DMA by a model",
    "verify_speed": "A verdict on ten million events",
    "attribution": "Booting with the TCG plugin (ratio of booting without)",
}


def main(names: list[str]) -> int:
    """Measure and print; 2 where a name is no group."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    for name in names or GROUPS:
        # Memory, not a disk: what is measured is the bench, not its disk.
        shm = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as directory:
            group = importlib.import_module(f"bench.{name}")
            print(render(GROUPS[name], group.figures(Path(directory))), flush=True)
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
