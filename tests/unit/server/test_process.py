# SPDX-License-Identifier: MIT
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pydev.recording.format import Kind
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.vfio_user.client import Client

DEADLINE_S = 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
NONSENSE = {"index": 0, "model": "nonsense", "socket": "x/y"}
COMMAND = [sys.executable, "-m", "qemu_plugin.server"]


def specification(directory: Path, recording: Path | None, models: tuple[str, ...] = ("stream",)) -> Path:
    endpoints = [
        {
            "index": 3 + index,
            "model": model,
            "options": {},
            "socket": str(directory / "s" / f"ep{index}.sock"),
        }
        for index, model in enumerate(models)
    ]
    path = directory / "spec.json"
    path.write_text(json.dumps({"recording": recording and str(recording), "endpoints": endpoints}))
    return path


@contextmanager
def running(spec: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    process = subprocess.Popen(
        [*COMMAND, str(spec)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def end_of_input(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None


def test_every_endpoint_is_listening_when_the_line_says_so_and_records_under_its_index(
    tmp_path: Path, recording: RecordingWriter
) -> None:
    with running(specification(tmp_path, recording.path, ("stream", "scratch"))) as (process, line):
        for index, path in enumerate(line["listening"]):
            with Client(Path(path)) as client:
                assert client.read(7, 0, 2) == 0x1DE5, index
        end_of_input(process)
        assert process.wait(DEADLINE_S) == 0
    records = recording.view(0, recording.head)
    reads = records[records["kind"] == Kind.REGION_READ]
    assert reads["function"].tolist() == [3, 4]
    assert (records["kind"] == Kind.REFERENCE).any()
    assert recording.close({})["holes"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly_with_a_client_connected(tmp_path: Path, number: int) -> None:
    path = tmp_path / "s" / "ep0.sock"
    with running(specification(tmp_path, None)) as (process, _), Client(path) as client:
        client.read(0, 0)
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
    assert not path.exists()


def test_the_process_does_not_outlive_its_parent(tmp_path: Path) -> None:
    spec = specification(tmp_path, None)
    program = (
        "import subprocess, sys, os\n"
        "pipe = subprocess.PIPE\n"
        f"child = subprocess.Popen({[*COMMAND, str(spec)]!r}, stdin=pipe, stdout=pipe)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, timeout=DEADLINE_S, check=False
    )
    pid = int(parent.stdout)
    turn = threading.Event()
    for _ in range(DEADLINE_S * 100):
        if not is_running(pid):
            return
        turn.wait(0.01)
    raise AssertionError(f"process {pid} still runs {DEADLINE_S} s after its parent was killed")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a server specification"),
        ('{"recording": null}', "endpoints"),
        (json.dumps({"recording": None, "endpoints": [NONSENSE]}), "nonsense"),
    ],
)
def test_a_wrong_specification_is_one_line_and_status_2(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    done = subprocess.run(
        [*COMMAND, str(tmp_path / "spec.json")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_starting_imports_no_numpy() -> None:
    program = "import sys, qemu_plugin.server.process; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=False).returncode == 0
