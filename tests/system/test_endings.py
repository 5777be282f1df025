# SPDX-License-Identifier: MIT
"""However a run ends, the user is told why in a line, the exit status says whose fault it was, nothing is left."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.recording.timeline import load_timeline
from qemu_plugin.experiment import bench, sockets, spec
from qemu_plugin.experiment.runner import LiveUpdate
from qemu_plugin.pytest_plugin import LiveUpdateFactory

LUSCOPE = [sys.executable, "-m", "qemu_plugin.cli"]
BASE = spec.shipped()["unpatched"].read_text()
WAIT_S = 60


def luscope(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LUSCOPE, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def variant(tmp_path: Path, old: str, new: str, more: str = "") -> Path:
    assert old in BASE
    path = tmp_path / "variant.toml"
    path.write_text(BASE.replace(old, new) + more)
    return path


def test_a_guest_that_does_not_boot_is_the_benchs_failure_and_shows_its_console(tmp_path: Path) -> None:
    experiment = variant(
        tmp_path, "memory_mib = 256", 'memory_mib = 256\ncommand_line = "rdinit=/nothing init=/nothing"'
    )
    result = luscope("run", experiment, "--out", "run", cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    assert "last console lines" in result.stderr
    assert "Kernel panic" in result.stderr


def test_a_file_that_is_no_kernel_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(b"\0" * 4096)
    result = luscope("run", "--kernel", "./bzImage", cwd=tmp_path)
    assert result.returncode in (2, 3)
    assert "bzImage" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("phase", "status", "outcome"), [("prepared", 4, "UNKNOWN"), ("frozen", 1, "FAIL")])
def test_a_guest_that_hangs_is_given_up_at_the_deadline(
    tmp_path: Path, phase: str, status: int, outcome: str
) -> None:
    more = f'\n[deadlines]\ncommand_s = 2\nupdate_s = 2\n[[step]]\nphase = "{phase}"\nqmp = {{ execute = "stop" }}\n'
    result = luscope("run", variant(tmp_path, "[guest]", "[guest]", more), "--out", "run", cwd=tmp_path)
    assert result.returncode == status, result.stderr + result.stdout
    assert f"phase reached: {phase}" in result.stderr
    assert json.loads((tmp_path / "run/verdict.json").read_text())["outcome"] == outcome


def test_an_unknown_experiment_is_the_users_mistake(tmp_path: Path) -> None:
    result = luscope("run", "unpached", cwd=tmp_path)
    assert result.returncode == 2
    assert "did you mean 'unpatched'?" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_run_that_is_none_cannot_be_verified(tmp_path: Path) -> None:
    result = luscope("verify", ".", cwd=tmp_path)
    assert result.returncode == 2
    assert "no run is here" in result.stderr


@pytest.mark.asyncio
async def test_a_server_that_is_killed_leaves_a_readable_recording_and_no_verdict(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update("unpatched") as run:
        await run.phase("prepared")
        os.kill(_server(run), signal.SIGKILL)
        verdict = await run.finish()
    assert verdict.outcome == "UNKNOWN", run.run.report.read_text()
    assert run.loss is not None
    assert "server" in run.loss
    assert "SIGKILL" in run.loss
    assert len(load_timeline(run.run.recording).records) > 1000


def _server(run: LiveUpdate) -> int:
    server = run.bench._server
    assert server is not None
    return server.process.pid


@pytest.mark.asyncio
async def test_a_machine_that_is_killed_after_freezing_has_failed(live_update: LiveUpdateFactory) -> None:
    async with live_update("unpatched") as run:
        await run.phase("frozen")
        qemu = run.bench._qemu
        assert qemu is not None
        qemu.process.kill()
        verdict = await run.finish()
    assert verdict.outcome == "FAIL"
    assert run.loss is not None
    assert "QEMU was killed by SIGKILL" in run.loss


def _start(tmp_path: Path) -> subprocess.Popen[str]:
    """`luscope run` in the background, its guest in normal operation."""
    process = subprocess.Popen(
        [*LUSCOPE, "run", "--out", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run/agent.jsonl"
    deadline = time.monotonic() + WAIT_S
    while not (log.exists() and b"hello" in log.read_bytes()) and process.poll() is None:
        assert time.monotonic() < deadline, "no hello from the guest"
        os.sched_yield()
    return process


def _gone(pids: set[int]) -> bool:
    return all(
        not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text() for pid in pids
    )


def test_control_c_ends_everything_and_keeps_what_was_recorded(
    tmp_path: Path, descendants: Callable[[int], set[int]]
) -> None:
    process = _start(tmp_path)
    below = descendants(process.pid)
    assert len(below) >= 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert _gone(below)
    timeline = load_timeline(tmp_path / "run/recording.lus")
    assert any("interrupted" in reason for reason in timeline.trailer["incomplete"])


def test_a_runner_that_is_killed_takes_its_machine_with_it(
    tmp_path: Path, descendants: Callable[[int], set[int]]
) -> None:
    before = set(Path(tempfile.gettempdir()).glob("luscope-*"))
    process = _start(tmp_path)
    below = descendants(process.pid)
    process.kill()
    process.communicate(timeout=WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while not _gone(below):
        assert time.monotonic() < deadline, f"left running: {below}"
    assert len(load_timeline(tmp_path / "run/recording.lus").records) > 1000
    assert luscope("verify", "run", cwd=tmp_path).returncode == 4
    mine = sockets.create_folder()  # as the next run does: it removes what the killed one left
    assert set(Path(tempfile.gettempdir()).glob("luscope-*")) - before == {mine}
    shutil.rmtree(mine)


@pytest.mark.asyncio
async def test_a_full_disk_costs_events_and_with_them_the_verdict(
    live_update: LiveUpdateFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RecordingWriter.reserve finds no room, as the file may not grow any more (RLIMIT_FSIZE)."""
    import resource

    monkeypatch.setattr(bench, "EXTENT_EVENTS", 1 << 13)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with live_update("unpatched") as run:
        await run.phase("prepared")
        resource.setrlimit(resource.RLIMIT_FSIZE, (run.run.recording.stat().st_size, hard))
        try:
            verdict = await run.finish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert verdict.outcome != "PASS"
    assert not verdict.as_expected
    assert run.loss is not None
    assert "no room" in run.loss
    document = json.loads(run.run.verdict.read_text())
    assert document["recording"]["dropped"] > 0
    assert not document["recording"]["complete"]
    complete = next(rule for rule in document["rules"] if rule["id"] == "RECORD-COMPLETE")
    assert complete["outcome"] == "UNKNOWN"


def test_an_absent_emulator_is_named_with_what_to_do(tmp_path: Path) -> None:
    environment = {**os.environ, "LUSCOPE_QEMU": str(tmp_path / "no-such-qemu")}
    result = subprocess.run(
        [*LUSCOPE, "run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert re.search("no-such-qemu", result.stderr)
    assert "Traceback" not in result.stderr
