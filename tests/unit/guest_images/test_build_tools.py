# SPDX-License-Identifier: MIT
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_images import build_tools, prerequisites
from guest_images.errors import ImageError
from guest_images.testkit import RememberingProgress


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it."""
    directory = tmp_path / "nothing"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def put(directory: Path, name: str, script: str = "exit 0") -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_a_machine_that_can_build_misses_nothing() -> None:
    assert build_tools.missing({**build_tools.AGENT, **build_tools.PYTHON}) == []


def test_a_bare_machine_misses_everything(bare: Path) -> None:
    assert build_tools.missing(build_tools.KERNEL) == list(build_tools.KERNEL)


def test_a_user_is_told_what_is_missing_and_the_command_in_one_line(
    user: None, bare: Path, progress: RememberingProgress
) -> None:
    for name in ("gcc", "make", "ld", "bc", "lz4", "perl", "xz", "tar", "cmp"):
        put(bare, name)
    with pytest.raises(ImageError) as caught:
        build_tools.require(build_tools.KERNEL, "building the kernel luo", progress)
    assert str(caught.value) == (
        "building the kernel luo needs flex, bison: run as root: apt-get install flex bison"
    )


def test_a_header_or_library_is_missing_when_the_compiler_cannot_use_it(
    program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    program("gcc", 'for word; do [ "$word" = -static ] && exit 1; done; exit 0')
    assert build_tools.missing(["libelf.h", "libc.a"]) == ["libc.a"]


def test_one_package_is_named_once(user: None, bare: Path, progress: RememberingProgress) -> None:
    with pytest.raises(ImageError, match=r"apt-get install gcc libc6-dev$"):
        build_tools.require({"gcc": "gcc", "libc.a": "libc6-dev", "cc1": "gcc"}, "a test", progress)


def test_root_has_it_installed(
    bare: Path, progress: RememberingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    put(
        bare,
        "apt-get",
        f'echo "$@" >> {bare}/asked; printf "#!/bin/sh\\n" > {bare}/flex; /bin/chmod +x {bare}/flex',
    )
    build_tools.require({"flex": "flex"}, "a test", progress)
    assert (bare / "asked").read_text() == "install -y --no-install-recommends flex\n"
    assert progress.steps == ["installing flex, needed for a test"]


def test_root_with_old_package_lists_has_them_updated_once(
    bare: Path, progress: RememberingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    put(
        bare,
        "apt-get",
        f'echo "$1" >> {bare}/asked; [ "$1" = update ] && : > {bare}/fresh && exit 0;'
        f' [ -e {bare}/fresh ] || exit 100; printf "#!/bin/sh\\n" > {bare}/flex; /bin/chmod +x {bare}/flex',
    )
    build_tools.require({"flex": "flex"}, "a test", progress)
    assert (bare / "asked").read_text().split() == ["install", "update", "install"]


def test_root_whose_apt_fails_is_told_why(
    bare: Path, progress: RememberingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    put(bare, "apt-get", "echo 'E: Unable to locate package flex'; exit 100")
    with pytest.raises(ImageError, match=r"apt-get install flex failed: E: Unable to locate package flex"):
        build_tools.require({"flex": "flex"}, "a test", progress)


def test_the_set_up_asks_for_everything_at_once_while_there_is_no_kernel(
    user: None, bare: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(build_tools._INTERPRETER, "ensurepip", lambda: False)
    assert prerequisites.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    for package in ("python3-venv", "gcc", "flex", "libelf-dev", "libc6-dev"):
        assert package in said[0]


def test_the_set_up_asks_for_no_kernel_tools_once_there_is_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "flex" in prerequisites.guest_needs()
    monkeypatch.setattr("guest_images.source_kernel.cached", lambda name: object())
    assert "flex" not in prerequisites.guest_needs()
    assert "gcc" in prerequisites.guest_needs()
    monkeypatch.setenv("LUSCOPE_LINUX_SOURCE", "/a/tree")
    assert "flex" in prerequisites.guest_needs()
