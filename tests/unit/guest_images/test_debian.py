# SPDX-License-Identifier: MIT
"""apt itself, on an archive in a directory: no network, but real lists, real resolution, real packages."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_images import debian
from guest_images.apt_sources import Source
from guest_images.command import capture
from guest_images.debian import AptRoot, Package
from guest_images.errors import ImageError
from guest_images.pins import Pin, Suites
from guest_images.testkit import DirectoryArchive, RememberingProgress

SUITES = Suites("trixie", "trixie-backports", ("bookworm",))


def pin(name: str, at_least: str = "1", below: str | None = None) -> Pin:
    return Pin((name,), at_least, below, 1)


@pytest.fixture
def filled(archive: DirectoryArchive) -> DirectoryArchive:
    """`tool` in two suites; the newer one needs a library of its own suite, which needs one of the base."""
    archive.add("trixie", "tool", "1:10.0.13+ds-0+deb13u1", {"usr/bin/tool": b"old"})
    archive.add("trixie", "libbase", "2.41-12", {"usr/lib/libbase": b"base"})
    archive.add("trixie", "unrelated", "1", {"usr/bin/unrelated": b""})
    archive.add(
        "trixie-backports", "tool", "1:11.1.3+ds-1~bpo13+1", {"usr/bin/tool": b"new"}, "libnew (>= 2)"
    )
    archive.add("trixie", "libnew", "1", {"usr/lib/libold": b"lib"})
    archive.add("trixie-backports", "libnew", "2", {"usr/lib/libnew": b"lib"}, "libbase")
    archive.publish("trixie", "trixie-backports")
    return archive


def test_the_newest_version_in_the_range_is_found_with_its_suite(
    filled: DirectoryArchive, progress: RememberingProgress
) -> None:
    assert debian.find(pin("tool", "10.1"), SUITES, progress)[1] == [
        Package("tool", "1:11.1.3+ds-1~bpo13+1", "trixie-backports")
    ]
    assert debian.find(pin("tool", "10.0", "11~"), SUITES, progress)[1] == [
        Package("tool", "1:10.0.13+ds-0+deb13u1", "trixie")
    ]


def test_versions_are_ordered_as_debian_orders_them(
    archive: DirectoryArchive, progress: RememberingProgress
) -> None:
    for version in ("1:9.9-1", "1:10.0~rc1-1", "1:10.0-1", "2-1"):
        archive.add("trixie", "tool", version, {})
    archive.publish("trixie", "trixie-backports")
    assert debian.find(pin("tool"), SUITES, progress)[1][0].version == "1:10.0-1"
    assert debian.find(pin("tool", "1", "10.0"), SUITES, progress)[1][0].version == "1:10.0~rc1-1"
    assert debian.find(pin("tool", "1", "10.0~"), SUITES, progress)[1][0].version == "1:9.9-1"


@pytest.mark.parametrize("wanted", [pin("tool", "12"), pin("tool", "1", "10~"), pin("absent")])
def test_nothing_in_the_range_is_one_line_with_range_suites_and_mirror(
    filled: DirectoryArchive, progress: RememberingProgress, wanted: Pin
) -> None:
    with pytest.raises(ImageError) as caught:
        debian.find(wanted, SUITES, progress)
    message = str(caught.value)
    assert wanted.names[0] in message
    assert wanted.at_least in message
    assert "trixie, trixie-backports" in message
    assert str(filled.directory) in message


def test_a_closure_is_what_the_package_depends_on_and_nothing_else(
    filled: DirectoryArchive, progress: RememberingProgress, tmp_path: Path
) -> None:
    apt, packages = debian.find(pin("tool", "10.1"), SUITES, progress)
    root, debs = tmp_path / "root", tmp_path / "debs"
    archives = apt.download_closure(packages, debs, progress)
    debian.unpack(archives, root, progress)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert files == ["usr/bin/tool", "usr/lib/libbase", "usr/lib/libnew"]
    assert (root / "usr/bin/tool").read_bytes() == b"new"
    assert list(debs.glob("*.deb")) == []


def test_one_package_is_fetched_without_what_it_depends_on(
    filled: DirectoryArchive, progress: RememberingProgress, tmp_path: Path
) -> None:
    apt, packages = debian.find(pin("tool", "10.1"), SUITES, progress)
    (archive,) = apt.download(packages, tmp_path, progress)
    assert archive.name.startswith("tool_")
    assert apt.depends(packages[0]) == "libnew (>= 2)"


def test_the_hosts_dpkg_and_lists_are_not_touched(
    filled: DirectoryArchive, progress: RememberingProgress, cache_root: Path
) -> None:
    watched = [Path("/var/lib/dpkg/status"), Path("/var/lib/apt/lists"), Path("/var/cache/apt")]
    before = [path.stat().st_mtime_ns for path in watched if path.exists()]
    debian.find(pin("tool"), SUITES, progress)
    assert [path.stat().st_mtime_ns for path in watched if path.exists()] == before
    assert (cache_root / "apt").is_dir()


def test_lists_are_fetched_again_when_they_are_old_and_not_before(
    filled: DirectoryArchive, progress: RememberingProgress
) -> None:
    apt = AptRoot(("trixie", "trixie-backports"), filled.source)
    apt.update(progress)
    apt.update(progress)
    assert len(progress.steps) == 1
    (stamp,) = Path(os.environ["LUSCOPE_CACHE"]).glob("apt/*/fetched")
    hour_ago = time.time() - 3600
    os.utime(stamp, (hour_ago, hour_ago))
    apt.update(progress)
    assert len(progress.steps) == 2


def test_a_package_that_has_left_the_mirror_makes_the_next_set_up_ask_again(
    filled: DirectoryArchive, progress: RememberingProgress, tmp_path: Path
) -> None:
    apt, packages = debian.find(pin("tool", "10.1"), SUITES, progress)
    for deb in (filled.directory / "pool").glob("tool_*"):
        deb.unlink()
    with pytest.raises(ImageError, match="cannot download tool from file:"):
        apt.download(packages, tmp_path, progress)
    asked = len(progress.steps)
    apt.update(progress)
    assert len(progress.steps) == asked + 1


def test_a_suite_that_the_mirror_does_not_have_is_said(
    archive: DirectoryArchive, progress: RememberingProgress
) -> None:
    archive.publish("trixie")
    with pytest.raises(
        ImageError, match=r"package lists of trixie and trixie-backports from file:.*: it has no such suite"
    ):
        AptRoot(("trixie", "trixie-backports"), archive.source).update(progress)


def test_an_archive_that_is_not_trusted_is_refused(
    filled: DirectoryArchive, progress: RememberingProgress
) -> None:
    untrusted = Source(("deb",), filled.source.uris, (), ("main",), {})
    with pytest.raises(ImageError, match="its signature cannot be checked"):
        AptRoot(("trixie",), untrusted).update(progress)


def test_a_changed_package_is_not_unpacked(
    filled: DirectoryArchive, progress: RememberingProgress, tmp_path: Path
) -> None:
    apt, packages = debian.find(pin("tool", "10.1"), SUITES, progress)
    for deb in (filled.directory / "pool").glob("tool_*"):
        data = bytearray(deb.read_bytes())
        data[-1] ^= 1
        deb.write_bytes(data)
    with pytest.raises(ImageError, match="cannot download tool"):
        apt.download(packages, tmp_path, progress)


def test_a_damaged_archive_is_one_line(progress: RememberingProgress, tmp_path: Path) -> None:
    damaged = tmp_path / "x_1_amd64.deb"
    damaged.write_bytes(b"no archive")
    with pytest.raises(ImageError, match=r"cannot unpack x_1_amd64\.deb: "):
        debian.unpack([damaged], tmp_path / "root", progress)


def test_hooks_pins_and_a_default_release_of_the_host_have_no_say(
    filled: DirectoryArchive, progress: RememberingProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooked = tmp_path / "hooked"
    (tmp_path / "preferences").write_text("Package: libnew\nPin: version *\nPin-Priority: -1\n")
    (tmp_path / "apt.conf").write_text(
        f'APT::Update::Post-Invoke {{ "touch {hooked}"; }};\n'
        'APT::Default-Release "bookworm";\n'
        f'Dir::Etc::preferences "{tmp_path}/preferences";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    apt, packages = debian.find(pin("tool", "10.1"), SUITES, progress)
    assert len(apt.download_closure(packages, tmp_path / "debs", progress)) == 3
    assert len(apt.download(packages, tmp_path, progress)) == 1
    assert not hooked.exists()
    assert "proxy.example" in capture([*apt._apt("apt-config"), "dump", "Acquire::http::Proxy"])


def test_a_cache_path_with_spaces_is_no_trouble_for_apt(
    filled: DirectoryArchive, progress: RememberingProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "my cache"))
    apt, packages = debian.find(pin("tool", "10.1"), SUITES, progress)
    assert len(apt.download_closure(packages, tmp_path / "my debs", progress)) == 3


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("1:11.1.3+ds-1~bpo13+1", "11.1.3+ds"),
        ("7.3.4-1~bpo13+1", "7.3.4"),
        ("7.3~rc7-1~exp1", "7.3~rc7"),
        ("6.12.107", "6.12.107"),
        ("2:1.2-3-4", "1.2-3"),
    ],
)
def test_the_upstream_version_is_what_lies_between_epoch_and_revision(version: str, upstream: str) -> None:
    assert debian.upstream_version(version) == upstream


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("  Temporary failure resolving 'mirror.example'", "check the network"),
        ("  Could not connect to mirror.example:80 (192.0.2.1), connection timed out", "check the network"),
        ("  Connection failed [IP: 192.0.2.1 80]", "check the network"),
        ("E: The repository 'http://m/debian trixie Release' does not have a Release file.", "no such suite"),
        (
            "  The following signatures couldn't be verified: NO_PUBKEY 6ED0E7B82643E131",
            "debian-archive-keyring",
        ),
        ("E: You don't have enough free space in /c/archives/.", "disk is full"),
        ("E: Failed to fetch http://m/x.deb  404  Not Found [IP: 192.0.2.1 80]", "no longer there"),
        ("E: Something new", "E: Something new"),
        ("", "apt said nothing"),
    ],
)
def test_what_apt_says_is_explained_with_what_to_do(line: str, meaning: str) -> None:
    assert meaning in debian.explanation(["Reading package lists...", line] if line else [])


def test_an_unreachable_mirror_is_one_line(
    progress: RememberingProgress, archive: DirectoryArchive, program: Callable[[str, str], Path]
) -> None:
    program("apt-get", 'echo "Err:1 http://m trixie InRelease"; echo "  Could not resolve \'m\'"; exit 100')
    with pytest.raises(ImageError) as caught:
        debian.find(pin("tool"), SUITES, progress)
    assert "\n" not in str(caught.value)
    assert "check the network" in str(caught.value)
    assert caught.value.details[-1] == "  Could not resolve 'm'"


def test_what_is_not_known_is_quoted_from_apts_first_error() -> None:
    lines = [
        "E: Failed to fetch http://m/dists/trixie/InRelease  403  Forbidden",
        "E: Some index files failed to download.",
    ]
    assert debian.explanation(lines) == lines[0]
