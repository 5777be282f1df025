# SPDX-License-Identifier: MIT
"""What the README shows works as it is written there."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from guest_images.progress import SilentProgress
from pydev.endpoints import load
from pydev.recording.format import Kind
from pydev.recording.timeline import load_timeline
from pydev.testkit import Bench
from pydev.units import Iova
from qemu_plugin.experiment import spec
from qemu_plugin.machine.runtime import find_or_install

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
WAIT_S = 60


def block(language: str, beginning: str) -> str:
    """The one code block of the README in which `beginning` occurs."""
    found = [
        text
        for kind, text in re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
        if kind == language and beginning in text
    ]
    assert len(found) == 1
    return str(found[0])


def test_the_experiment_of_the_readme_can_be_loaded() -> None:
    experiment = spec.parse(block("toml", "two-preserved"), "README.md")
    assert experiment.endpoints[0].preserve


def test_a_users_test_on_the_fixture_passes_outside_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(block("python", "live_update"))
    result = subprocess.run(
        [str(Path(sys.executable).with_name("pytest")), "test_mine.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


def test_the_endpoint_of_the_readme_copies_and_raises_its_interrupt(tmp_path: Path) -> None:
    text = block("python", "class Copier")
    assert len([line for line in text.splitlines() if line.strip()]) <= 40
    (tmp_path / "copier.py").write_text(text)
    model = load(f"{tmp_path / 'copier.py'}:Copier")
    registers: dict[str, Any] = {register.name: register for register in model.bars[0].registers}
    bench = Bench(model())
    bench.enable()
    bench.memory.map(0x1000, 0x2000)
    bench.memory.write(Iova(0x1000), b"heartbeat")
    bench.write(registers["SOURCE"].iova, 0x1000)
    bench.write(registers["DESTINATION"].iova, 0x2000)
    bench.write(registers["DOORBELL"].size, 9)
    assert bench.memory.read(Iova(0x2000), 9) == b"heartbeat"
    assert registers["STATUS"](bench.read(registers["STATUS"])).done == 1


def test_an_endpoint_served_alone_is_found_by_qemu_on_the_readmes_command_line(tmp_path: Path) -> None:
    (tmp_path / "copier.py").write_text(block("python", "class Copier"))
    served = block("sh", "luscope serve").replace(".venv/bin/luscope", f"{sys.executable} -m qemu_plugin.cli")
    words = shlex.split(served.replace("/run/user/1000/luscope", str(tmp_path / "private")))
    server = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        assert "listens at" in server.stderr.readline()
        assert (tmp_path / "private").stat().st_mode & 0o077 == 0
        buses = _query_pci(tmp_path)
    finally:
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=WAIT_S)
    assert server.returncode == 0, said
    assert "0 dropped" in said
    assert f'"vendor": {0x1DE5}' in buses
    assert f'"device": {0x4C02}' in buses
    timeline = load_timeline(tmp_path / "copier.lus")
    assert len(timeline.of_kind(Kind.REGION_READ)) > 10
    assert not (tmp_path / "private/copier.sock").exists()


def _query_pci(tmp_path: Path) -> str:
    """The reply that shows the endpoint: the firmware has found it."""
    text = block("sh", "qemu-system-x86_64").replace("/run/user/1000/luscope", str(tmp_path / "private"))
    words = shlex.split(text.replace("\\\n", " "))[1:]
    argv = [*find_or_install(SilentProgress()).argv, *words, "-qmp", "stdio", "-serial", "none"]
    machine = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert machine.stdin is not None
    assert machine.stdout is not None
    try:
        deadline = time.monotonic() + WAIT_S
        machine.stdin.write('{"execute": "qmp_capabilities"}\n')
        while time.monotonic() < deadline:
            machine.stdin.write('{"execute": "query-pci"}\n')
            machine.stdin.flush()
            answer = machine.stdout.readline()
            if '"ep0"' in answer:  # listed as soon as the firmware has numbered the bus below the port
                return answer
        raise AssertionError("the firmware never showed the endpoint")
    finally:
        machine.kill()
        machine.communicate()
