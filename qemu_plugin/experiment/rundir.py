# SPDX-License-Identifier: MIT
"""A run's directory: what is in it, and how a new one is named."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from qemu_plugin.errors import UsageError


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of one run. Everything a later `luscope verify` needs is here."""

    path: Path

    @property
    def experiment(self) -> Path:
        """The experiment as it was given."""
        return self.path / "experiment.toml"

    @property
    def policy(self) -> Path:
        """The policy that it is judged by, with its files of rules beside it; absent for a shipped one."""
        return self.path / "policy" / "policy.toml"

    @property
    def recording(self) -> Path:
        """Every event."""
        return self.path / "recording.lus"

    @property
    def verdict(self) -> Path:
        """`verdict.json`."""
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        """The text for people."""
        return self.path / "report.txt"

    @property
    def console_log(self) -> Path:
        """The guest's serial console, as it came."""
        return self.path / "console.log"

    @property
    def trace_log(self) -> Path:
        """QEMU's trace of config accesses."""
        return self.path / "trace.log"

    @property
    def qemu_log(self) -> Path:
        """QEMU's own words."""
        return self.path / "qemu.log"

    @property
    def server_log(self) -> Path:
        """The endpoint server's own words."""
        return self.path / "server.log"

    @property
    def agent_log(self) -> Path:
        """Both directions of the agent channel, one JSON object a line."""
        return self.path / "agent.jsonl"


def create(name: str, out: Path | None) -> RunDirectory:
    """A new, empty run directory: `out`, or `runs/NAME-TIME` below the working directory.

    UsageError where it cannot be made or already holds a recording: a run never overwrites another.
    """
    path = out if out is not None else _unused(Path("runs"), name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be made the run's directory: {error.strerror}") from error
    run = RunDirectory(path.absolute())
    if run.recording.exists():
        raise UsageError(f"{path}: already holds a recording; give another --out")
    if not os.access(path, os.W_OK):
        raise UsageError(f"{path}: not writable")
    return run


def _unused(parent: Path, name: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = parent / f"{name}-{stamp}"
    number = 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{stamp}-{number}"
    return path


def opened(path: Path) -> RunDirectory:
    """The run at `path`, which may also be the recording itself. UsageError where there is none."""
    folder = path.parent if path.is_file() else path
    run = RunDirectory(folder.absolute())
    if not run.recording.is_file():
        raise UsageError(f"{path}: no run is here (no {run.recording.name})")
    return run
