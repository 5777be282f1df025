# SPDX-License-Identifier: MIT
"""Which QEMU is chosen, with shell scripts in QEMU's place and the real apt on an archive in a directory."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_images.errors import ImageError
from guest_images.progress import SilentProgress
from guest_images.testkit import DirectoryArchive, RememberingProgress
from qemu_plugin.errors import BenchError, UsageError
from qemu_plugin.machine import runtime

DEBIAN = "1:11.1.3+ds-1~bpo13+1"
NAME = "qemu-system-x86_64"


def script(version: str, *, has_device: bool = True, debian: str = "") -> str:
    said = f"QEMU emulator version {version}" + (f" (Debian {debian})" if debian else "")
    answer = (
        "echo 'vfio-user-pci options:'"
        if has_device
        else "echo \"Device 'vfio-user-pci' not found\" >&2; exit 1"
    )
    return f"""#!/bin/sh
while [ $# -gt 0 ]; do case "$1" in
-L) shift ;;
--version) echo '{said}'; echo Copyright; exit 0 ;;
-device) [ "$2" = vfio-user-pci,help ] || exit 2; {answer}; exit 0 ;;
*) exit 3 ;;
esac; shift; done
exit 4
"""


# What ld-linux does, as far as it matters here: run the program after its own options.
LINKER = b'#!/bin/sh\n[ "$1" = --library-path ] || exit 5\n[ -d "$2" ] || exit 6\nshift 2\nexec "$@"\n'


@pytest.fixture(autouse=True)
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LUSCOPE_QEMU", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("shutil.which", lambda name: None)
    return tmp_path / "cache"


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make a QEMU of a script."""

    def write(text: str) -> Path:
        path = tmp_path / NAME
        path.write_text(text)
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryArchive:
    made = DirectoryArchive(tmp_path / "archive")
    made.directory.mkdir()
    monkeypatch.setattr("guest_images.apt_sources.mirror", lambda: made.source)
    monkeypatch.setattr("guest_images.apt_sources.host_codename", lambda: "bookworm")
    return made


def publish(archive: DirectoryArchive, qemu: str, linker: bytes = LINKER) -> None:
    archive.add("trixie", "qemu-system-x86", "1:10.0.13+ds-0+deb13u1", {f"usr/bin/{NAME}": b"too old"})
    archive.add("trixie", "libc6", "2.41-12", {"usr/lib64/ld-linux-x86-64.so.2": linker})
    archive.add("trixie-backports", "seabios", "1.17.0-1", {"usr/share/seabios/bios.bin": b"bios"})
    files = {
        f"usr/bin/{NAME}": qemu.encode(),
        "usr/lib/x86_64-linux-gnu/libone.so": b"",
        "usr/share/qemu/linuxboot_dma.bin": b"",
        "usr/share/doc/qemu/changelog": b"",
    }
    archive.add("trixie-backports", "qemu-system-x86", DEBIAN, files, "libc6, seabios")
    archive.publish("trixie", "trixie-backports")


def on_path(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: str(path) if name == NAME else None)


def test_the_users_choice_comes_before_everything(
    put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = put(script("10.1.0"))
    on_path(monkeypatch, Path("/usr/bin/false"))
    monkeypatch.setenv("LUSCOPE_QEMU", str(chosen))
    found = runtime.find()
    assert found == runtime.QemuRuntime((str(chosen),), "10.1.0", None, f"LUSCOPE_QEMU={chosen}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (script("10.0.8"), "it is QEMU 10.0.8, and vfio-user-pci came with 10.1"),
        (script("9.2.0"), "it is QEMU 9.2.0"),
        (script("11.1.3", has_device=False), "built without vfio-user-pci"),
        ("#!/bin/sh\necho something else\n", "'something else' and not its QEMU version"),
        ("#!/bin/sh\necho 'cannot load libfoo.so' >&2; exit 127\n", "cannot load libfoo.so"),
    ],
)
def test_a_users_choice_that_will_not_do_is_an_error_with_the_reason_and_no_other_is_taken(
    put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setenv("LUSCOPE_QEMU", str(put(text)))
    with pytest.raises(UsageError, match=rf"^LUSCOPE_QEMU=\S+ will not do: .*{reason}"):
        runtime.find_or_install(SilentProgress())


def test_a_users_choice_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUSCOPE_QEMU", "/nowhere/qemu")
    with pytest.raises(UsageError, match=r"/nowhere/qemu does not run: .*No such file"):
        runtime.find()


def test_a_system_qemu_that_will_do_is_used(
    put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(script("11.1.3", debian=DEBIAN))
    on_path(monkeypatch, path)
    assert runtime.find() == runtime.QemuRuntime((str(path),), "11.1.3", DEBIAN, f"PATH: {path}")


def test_a_system_qemu_that_is_too_old_is_passed_over_for_an_installed_one(
    put: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, archive: DirectoryArchive
) -> None:
    on_path(monkeypatch, put(script("7.2.22", debian="1:7.2+dfsg-7")))
    assert runtime.find() is None
    publish(archive, script("11.1.3"))
    assert runtime.find_or_install(SilentProgress()).version == "11.1.3"


def test_the_newest_package_with_all_it_depends_on_is_unpacked_and_tried(
    archive: DirectoryArchive, cache_root: Path
) -> None:
    publish(archive, script("11.1.3", debian=DEBIAN))
    progress = RememberingProgress()
    installed = runtime.find_or_install(progress)
    root = cache_root / "qemu" / "11.1.3+ds-1~bpo13+1"
    assert installed.argv == (
        f"{root}/usr/lib64/ld-linux-x86-64.so.2",
        "--library-path",
        f"{root}/usr/lib/x86_64-linux-gnu",
        f"{root}/usr/bin/{NAME}",
        "-L",
        f"{root}/usr/share/qemu",
        "-L",
        f"{root}/usr/share/seabios",
    )
    assert (installed.version, installed.package) == ("11.1.3", DEBIAN)
    assert runtime.probe(installed.argv, installed.origin) == installed
    assert not (root / "usr/share/doc").exists()
    assert list(root.rglob("*.deb")) == []


def test_an_installed_qemu_is_found_again_without_network(
    archive: DirectoryArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(archive, script("11.1.3"))
    installed = runtime.find_or_install(SilentProgress())

    def no_network() -> None:
        raise ImageError("asked for the mirror")

    monkeypatch.setattr("guest_images.apt_sources.mirror", no_network)
    assert runtime.find_or_install(SilentProgress()) == installed


@pytest.mark.parametrize(
    ("qemu", "linker", "reason"),
    [
        (script("11.1.3", has_device=False), LINKER, "built without vfio-user-pci"),
        (script("11.1.3"), b"#!/bin/sh\necho 'Illegal instruction'; exit 132\n", "does not run"),
    ],
)
def test_a_package_that_does_not_run_here_is_not_installed(
    archive: DirectoryArchive, cache_root: Path, qemu: str, linker: bytes, reason: str
) -> None:
    publish(archive, qemu, linker)
    with pytest.raises(BenchError, match=rf"none could be installed: .* will not do: .*{reason}"):
        runtime.find_or_install(SilentProgress())
    assert list((cache_root / "qemu").iterdir()) == []
    assert runtime.find() is None


def test_no_package_in_the_range_is_one_line(archive: DirectoryArchive) -> None:
    archive.add("trixie", "qemu-system-x86", "1:10.0.13+ds-0+deb13u1", {})
    archive.publish("trixie", "trixie-backports")
    with pytest.raises(
        BenchError, match=r"no QEMU >= 10\.1 .* has no qemu-system-x86 of version 10\.1 or newer"
    ) as caught:
        runtime.find_or_install(SilentProgress())
    assert "\n" not in str(caught.value)


def test_a_package_without_dynamic_linker_is_refused(archive: DirectoryArchive) -> None:
    archive.add("trixie-backports", "qemu-system-x86", DEBIAN, {f"usr/bin/{NAME}": b""})
    archive.publish("trixie", "trixie-backports")
    with pytest.raises(BenchError, match=r"has no ld-linux-x86-64\.so\.2"):
        runtime.find_or_install(SilentProgress())


def test_a_cache_path_that_a_library_path_cannot_hold_is_refused(
    archive: DirectoryArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(archive, script("11.1.3"))
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "a:b"))
    with pytest.raises(BenchError, match="without ':'"):
        runtime.find_or_install(SilentProgress())


def test_two_set_ups_at_once_install_one_qemu(archive: DirectoryArchive, cache_root: Path) -> None:
    publish(archive, script("11.1.3"))
    context = multiprocessing.get_context("fork")

    def set_up() -> None:
        assert runtime.find_or_install(SilentProgress()).version == "11.1.3"

    processes = [context.Process(target=set_up) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in (cache_root / "qemu").iterdir()] == ["11.1.3+ds-1~bpo13+1"]


def test_of_several_in_the_cache_the_newest_is_taken(cache_root: Path, archive: DirectoryArchive) -> None:
    publish(archive, script("11.1.3"))
    runtime.find_or_install(SilentProgress())
    (newest,) = (cache_root / "qemu").iterdir()
    older = cache_root / "qemu" / "10.1"
    older.mkdir()
    (older / "luscope.json").write_text('{"version": "10.1.4", "package": "1:10.1.4"}')
    (cache_root / "qemu" / ".12.0.unfinished").mkdir()
    found = runtime.find()
    assert found is not None
    assert found.origin == f"cache: {newest}"
