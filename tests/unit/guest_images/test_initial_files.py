# SPDX-License-Identifier: MIT
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_images import build, initial_files
from guest_images.errors import ImageError
from guest_images.testkit import DirectoryArchive, RememberingProgress


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "main.c").write_text('#include "word.h"\nint main(void) { return WORD; }\n')
    (folder / "word.h").write_text("#define WORD 7\n")
    monkeypatch.setattr(initial_files, "AGENT", folder)
    return folder


@pytest.fixture(autouse=True)
def busybox(archive: DirectoryArchive) -> None:
    archive.add("trixie", "busybox-static", "1:1.37.0-6+b9", {"usr/bin/busybox": b"the busybox"})
    archive.publish("trixie", "trixie-backports")


def unpacked(archive: Path, directory: Path) -> Path:
    directory.mkdir()
    command = ["cpio", "-id", "--quiet", "init", "bin/*", "tmp"]
    subprocess.run(command, input=archive.read_bytes(), cwd=directory, check=True)
    return directory


def test_the_agent_is_init_and_busybox_is_the_shell(
    agent: Path, progress: RememberingProgress, tmp_path: Path
) -> None:
    archive = build.initramfs(progress)
    root = unpacked(archive, tmp_path / "root")
    assert subprocess.run([str(root / "init")], check=False).returncode == 7
    assert (root / "bin" / "busybox").read_bytes() == b"the busybox"
    assert (root / "bin" / "sh").readlink() == Path("busybox")
    listed = subprocess.run(
        ["cpio", "-t", "--quiet"], input=archive.read_bytes(), capture_output=True, check=True
    )
    assert {"dev/console", "proc", "sys", "run", "tmp"} <= set(listed.stdout.decode().split())


def test_the_agent_needs_no_library_of_the_guest(
    agent: Path, progress: RememberingProgress, tmp_path: Path
) -> None:
    root = unpacked(build.initramfs(progress), tmp_path / "root")
    assert b"PT_INTERP" not in (root / "init").read_bytes()
    headers = subprocess.run(
        ["readelf", "-l", str(root / "init")], capture_output=True, text=True, check=True
    ).stdout
    assert "INTERP" not in headers


def test_it_is_built_once_and_again_when_a_source_changes(
    agent: Path, progress: RememberingProgress, program: Callable[[str, str], Path]
) -> None:
    first = build.initramfs(progress)
    program("apt-get", "exit 100")  # no network from here on
    built = len(progress.lines)
    assert build.initramfs(progress) == first
    assert build.cached_initramfs() == first
    assert len(progress.lines) == built
    (agent / "word.h").write_text("#define WORD 8\n")
    assert build.cached_initramfs() is None
    second = build.initramfs(progress)
    assert second != first
    assert first.exists()
    assert second.read_bytes() != first.read_bytes()


def test_the_same_sources_give_the_same_bytes(
    agent: Path, progress: RememberingProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.initramfs(progress).read_bytes()
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "another"))
    assert build.initramfs(progress).read_bytes() == first


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("int main(void) { return 0 }\n", "error: expected"),
        ("int main(void) { int unused; return 0; }\n", "unused"),
    ],
)
def test_a_mistake_in_the_agent_is_one_line_with_the_compilers_first_error(
    agent: Path, progress: RememberingProgress, cache_root: Path, source: str, reason: str
) -> None:
    (agent / "main.c").write_text(source)
    with pytest.raises(ImageError, match=rf"^the agent does not compile: main\.c:1:.*{reason}") as caught:
        build.initramfs(progress)
    assert "\n" not in str(caught.value)
    assert list((cache_root / "initramfs").iterdir()) == []


def test_a_checkout_without_agent_is_said(agent: Path, progress: RememberingProgress) -> None:
    for path in agent.iterdir():
        path.unlink()
    with pytest.raises(ImageError, match="has no agent"):
        build.initramfs(progress)
    assert build.cached_initramfs() is None


def test_without_a_compiler_nothing_is_taken_to_be_cached(
    agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert build.cached_initramfs() is None
