# SPDX-License-Identifier: MIT
"""A QEMU is asked once whether it loads the plugin, and asked again when it, or the plugin, is another."""

import shlex
import subprocess
from pathlib import Path

import pytest

from guest_images.testkit import RememberingProgress
from qemu_plugin.machine import plugin_trial


@pytest.fixture(autouse=True)
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plug,in.so"
    path.write_bytes(b"plugin")
    return path


def qemu(tmp_path: Path, says: str, name: str = "qemu") -> tuple[str, ...]:
    """A program that writes down how it was called and says something on standard error."""
    path = tmp_path / name
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nprintf %s {shlex.quote(says)} >&2\nexit 1\n')
    path.chmod(0o755)
    return (str(path), "-L", "/firmware")


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_a_qemu_that_loads_the_plugin_is_asked_once(tmp_path: Path, plugin: Path) -> None:
    argv = qemu(tmp_path, f"{plugin_trial.LOADED.decode()}\nqemu: Could not load plugin: -1\n")
    assert plugin_trial.refusal(argv, plugin, RememberingProgress()) is None
    assert plugin_trial.refusal(argv, plugin, RememberingProgress()) is None
    escaped = str(plugin).replace(",", ",,")
    assert calls(tmp_path) == [f"-L /firmware -machine none -display none -plugin {escaped}"]


def test_a_refusal_is_told_in_qemus_words_and_remembered(tmp_path: Path, plugin: Path) -> None:
    reason = "qemu: Could not load plugin: plugin requires version 8, but this QEMU supports only 7"
    argv = qemu(tmp_path, f"warning\n{reason}\n")
    assert plugin_trial.refusal(argv, plugin, RememberingProgress()) == reason
    assert plugin_trial.refusal(argv, plugin, RememberingProgress()) == reason
    assert len(calls(tmp_path)) == 1


def test_another_qemu_or_another_plugin_is_asked_again(tmp_path: Path, plugin: Path) -> None:
    progress = RememberingProgress()
    assert plugin_trial.refusal(qemu(tmp_path, "no"), plugin, progress) == "no"
    assert plugin_trial.refusal(qemu(tmp_path, "never"), plugin, progress) == "never"
    plugin.write_bytes(b"another")
    plugin_trial.refusal(qemu(tmp_path, "never"), plugin, progress)
    assert len(calls(tmp_path)) == 3


def test_a_qemu_that_hangs_is_not_remembered(
    tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch, cache_root: Path
) -> None:
    def hang(argv: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(argv, 30)

    monkeypatch.setattr("subprocess.run", hang)
    reason = plugin_trial.refusal(("/q",), plugin, RememberingProgress())
    assert reason is not None
    assert "said nothing" in reason
    assert not list((cache_root / "plugin").glob("*"))


def test_where_nothing_can_be_remembered_it_is_asked_all_the_same(
    tmp_path: Path, plugin: Path, cache_root: Path
) -> None:
    cache_root.write_text("a file where the cache would be")
    assert plugin_trial.refusal(qemu(tmp_path, "no"), plugin, RememberingProgress()) == "no"


def test_a_program_that_is_not_there_is_a_reason(plugin: Path) -> None:
    assert plugin_trial.attempt(("/no/such/qemu",), plugin) == "No such file or directory"
