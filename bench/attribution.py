# SPDX-License-Identifier: MIT
"""How much longer a guest takes to boot with the TCG plugin than without: QEMU's start to the agent's hello.

Boots with and without alternate, so that a busy host slows both; the ratio is the median of the pairs'.
"""

import asyncio
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.table import Figure
from guest_images.progress import SilentProgress
from qemu_plugin.experiment import spec
from qemu_plugin.experiment.images import prepare
from qemu_plugin.experiment.runner import live_update
from qemu_plugin.experiment.spec import Experiment

PAIRS: Final = {"live-update": 7, "plain-kexec": 5}
"""Experiments, for their kernels: luscope's own and a distribution's."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Boot:
    """Wall time, and what QEMU's threads took of the CPUs in it."""

    wall_s: float
    cpu_s: float


def figures(directory: Path) -> list[Figure]:
    """The ratio for each kernel, of wall time and of CPU time."""
    found = []
    for name, pairs in PAIRS.items():
        plain, attributed = _boots(spec.load(name), pairs, directory)
        walls = [a.wall_s / b.wall_s for a, b in zip(attributed, plain, strict=True)]
        cpus = [a.cpu_s / b.cpu_s for a, b in zip(attributed, plain, strict=True)]
        seconds = f"{statistics.median(boot.wall_s for boot in plain):.2f} s without. target 1.15"
        found += [
            Figure(f"{name}, boot", f"{statistics.median(walls):.2f}", f"{_spread(walls)}; {seconds}"),
            Figure(f"{name}, QEMU's CPU time", f"{statistics.median(cpus):.2f}", _spread(cpus)),
        ]
    return found


def _boots(experiment: Experiment, pairs: int, directory: Path) -> tuple[list[Boot], list[Boot]]:
    without = replace(experiment, guest=replace(experiment.guest, attribution=False))
    plain: list[Boot] = []
    attributed: list[Boot] = []
    for pair in range(pairs + 1):
        # Each first in turn, and the first pair, which warms the file cache, not counted.
        order = [(without, plain), (experiment, attributed)]
        for number, (chosen, into) in enumerate(reversed(order) if pair % 2 else order):
            boot = asyncio.run(_boot(chosen, directory / f"{experiment.name}-{pair}-{number}"))
            if pair:
                into.append(boot)
    return plain, attributed


async def _boot(experiment: Experiment, out: Path) -> Boot:
    images = prepare(experiment.guest, SilentProgress())
    if experiment.guest.attribution and images.plugin.library is None:
        raise RuntimeError(f"nothing to measure: {images.plugin.reason}")
    async with live_update(experiment, images, out=out) as run:
        await run.phase("normal")
        wall_s = (time.monotonic_ns() - run.bench.qemu_started_ns) / 1e9
        return Boot(wall_s, _cpu_s(run.bench.qemu_pid))


def _cpu_s(pid: int) -> float:
    """Source: proc(5), stat: utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _spread(ratios: list[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} pairs"
