# SPDX-License-Identifier: MIT
"""A cache of one's own for every test, and what several tests arrange."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guest_images.testkit import DirectoryArchive, RememberingProgress


@pytest.fixture(autouse=True)
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test here may see or change the user's cache."""
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "cache"))
    for name in ("LUSCOPE_QEMU", "LUSCOPE_LINUX_SOURCE", "LUSCOPE_LINUX_CONFIG", "LUSCOPE_DEBIAN_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def progress() -> RememberingProgress:
    return RememberingProgress()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryArchive:
    """An empty archive, which is also the one that the host, a bookworm, is said to use."""
    made = DirectoryArchive(tmp_path / "archive")
    made.directory.mkdir()
    monkeypatch.setattr("guest_images.apt_sources.mirror", lambda: made.source)
    monkeypatch.setattr("guest_images.apt_sources.host_codename", lambda: "bookworm")
    return made


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Put a shell script on PATH, before everything else."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=":")

    def put(name: str, script: str) -> Path:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put
