# SPDX-License-Identifier: MIT
"""Kernels from sources whose Makefile plays kbuild's part: it configures, and says what it built."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_images import build, kernel_build, pins, source_kernel
from guest_images.errors import ImageError
from guest_images.pins import Pin
from guest_images.testkit import DirectoryArchive, RememberingProgress

# Like kbuild: objects go to O=; `..` names the sources when O is inside them; only what changed is built.
MAKEFILE = """\
ifeq ($(SUB),)
allnoconfig bzImage:
\t@mkdir -p $(O)
\t@$(MAKE) -C $(O) -f $(CURDIR)/Makefile SUB=1 SRC=$(if $(filter o,$(O)),..,$(CURDIR)) $@
else
allnoconfig:
\tgrep -v CONFIG_REFUSED $(KCONFIG_ALLCONFIG) > .config
\tmkdir -p include/config
\techo 7.3.4 > include/config/kernel.release
bzImage: System.map
\tmkdir -p arch/x86/boot
\tcat one.o two.o > arch/x86/boot/bzImage
System.map: one.o two.o
\tcat $^ > $@
%.o: $(SRC)/%.c
\t@echo "CC $*" && ! grep -n 'error:' $<
\techo "$$(cat $<) $(KBUILD_BUILD_TIMESTAMP) $(KBUILD_BUILD_USER)@$(KBUILD_BUILD_HOST)" > $@
endif
"""

PATCH = """\
--- a/two.c
+++ b/two.c
@@ -1 +1 @@
-two
+{}
"""


@pytest.fixture(autouse=True)
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two kernels: `luo`, and `luo-pci` which is luo with a patch and one more symbol."""
    folder = tmp_path / "recipes"
    (folder / "patches" / "luo-pci").mkdir(parents=True)
    (folder / "luo.config").write_text("CONFIG_A=y\n")
    (folder / "series.config").write_text("CONFIG_REFUSED_SERIES=y\n")
    (folder / "pci.config").write_text("CONFIG_PCI=y\n")
    (folder / "patches" / "luo-pci" / "0001-two.patch").write_text(PATCH.format("patched"))
    known = {
        "luo": Pin(("linux-source-7.3",), "7.3", "7.4~", 1, ("luo.config",)),
        "luo-pci": Pin((), "0", None, 1, ("pci.config",), "luo"),
    }
    monkeypatch.setattr(source_kernel, "_RECIPES", folder)
    monkeypatch.setattr(pins, "kernel", known.__getitem__)
    monkeypatch.setattr("guest_images.build_tools.KERNEL", {"make": "make"})
    return folder


@pytest.fixture
def source_package(archive: DirectoryArchive) -> DirectoryArchive:
    files = {"Makefile": MAKEFILE, "one.c": "one\n", "two.c": "two\n", "Kbuild": ""}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tarball:
        for name, text in files.items():
            info = tarfile.TarInfo(f"linux-source-7.3/{name}")
            info.size = len(text)
            info.mtime = 1
            tarball.addfile(info, io.BytesIO(text.encode()))
    path = "usr/src/linux-source-7.3.tar.xz"
    archive.add("trixie-backports", "linux-source-7.3", "7.3.4-1~bpo13+1", {path: packed.getvalue()})
    archive.publish("trixie", "trixie-backports")
    return archive


def compiled(progress: RememberingProgress) -> list[str]:
    return [line.split()[1] for line in progress.lines if line.startswith("CC ")]


def test_a_kernel_is_built_once_and_then_taken_from_the_cache(
    source_package: DirectoryArchive, progress: RememberingProgress, program: Callable[[str, str], Path]
) -> None:
    assert source_kernel.cached("luo") is None
    made = source_kernel.kernel("luo", progress)
    assert (made.name, made.release, made.package) == ("luo", "7.3.4", "7.3.4-1~bpo13+1")
    assert made.identity["source"] == "linux-source-7.3 7.3.4-1~bpo13+1"
    assert compiled(progress) == ["one", "two"]
    assert sorted(path.name for path in made.image.parent.iterdir()) == [
        "System.map",
        "bzImage",
        "config",
        "identity.json",
    ]
    program("apt-get", "exit 100")  # no network
    assert source_kernel.kernel("luo", RememberingProgress()) == made
    assert source_kernel.cached("luo") == made


def test_who_builds_and_when_does_not_reach_the_image(
    source_package: DirectoryArchive, progress: RememberingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KBUILD_BUILD_USER", "me")
    monkeypatch.setenv("KBUILD_BUILD_TIMESTAMP", "now")
    monkeypatch.setenv("MAKEFLAGS", " -- KBUILD_BUILD_USER=me KBUILD_BUILD_HOST=here O=elsewhere")
    image = source_kernel.kernel("luo", progress).image.read_text()
    assert "2026-01-01 00:00:00 UTC luscope@luscope" in image


def test_a_changed_fragment_is_another_entry_built_on_from_the_same_tree(
    source_package: DirectoryArchive, progress: RememberingProgress, recipes: Path
) -> None:
    first = source_kernel.kernel("luo", progress)
    (recipes / "luo.config").write_text("# a comment decides nothing\nCONFIG_A=y\n")
    assert source_kernel.cached("luo") == first
    (recipes / "luo.config").write_text("CONFIG_A=y\nCONFIG_B=y\n")
    assert source_kernel.cached("luo") is None
    again = RememberingProgress()
    second = source_kernel.kernel("luo", again)
    assert second.image.parent != first.image.parent
    assert first.image.exists()
    assert compiled(again) == []
    assert not any("downloading" in step for step in again.steps)


def test_a_symbol_that_is_dropped_stops_the_build_and_is_named(
    source_package: DirectoryArchive, progress: RememberingProgress, recipes: Path
) -> None:
    (recipes / "luo.config").write_text("CONFIG_A=y\nCONFIG_REFUSED=y\n")
    with pytest.raises(ImageError, match="does not take its configuration: CONFIG_REFUSED is n, asked for y"):
        source_kernel.kernel("luo", progress)
    assert compiled(progress) == []


def test_a_build_that_fails_says_the_first_error_and_where_the_log_is_and_can_be_repaired(
    source_package: DirectoryArchive, progress: RememberingProgress, cache_root: Path
) -> None:
    source_kernel.kernel("luo", RememberingProgress())
    (tree,) = (cache_root / "tree").iterdir()
    (entry,) = (cache_root / "kernel").iterdir()
    for path in entry.iterdir():
        path.unlink()
    entry.rmdir()
    (tree / "two.c").write_text("two.c:1: error: expected ';'\n")
    with pytest.raises(ImageError) as caught:
        source_kernel.kernel("luo", progress)
    assert "error: expected ';'" in str(caught.value)
    assert str(cache_root / "logs" / "kernel-luo.log") in str(caught.value)
    assert not entry.exists()
    (tree / "two.c").write_text("two\n")
    assert source_kernel.kernel("luo", progress).image.parent == entry


def test_a_kernel_based_on_another_compiles_only_what_its_patches_touch(
    source_package: DirectoryArchive, progress: RememberingProgress, cache_root: Path
) -> None:
    luo = source_kernel.kernel("luo", RememberingProgress())
    made = source_kernel.kernel("luo-pci", progress)
    assert compiled(progress) == ["two"]
    assert "patched" in made.image.read_text()
    assert made.identity["patches"] == "0001-two.patch"
    assert made.identity["source"] == luo.identity["source"]
    assert {"CONFIG_A=y", "CONFIG_PCI=y"} <= set((made.image.parent / "config").read_text().split())
    # and the kernel that it is based on is as it was
    (base,) = (cache_root / "tree").glob("luo-7*")
    (patched,) = (cache_root / "tree").glob("luo-pci-7*")
    assert (patched / "one.c").samefile(base / "one.c")  # its sources take no second gigabyte
    assert (base / "two.c").read_text() == "two\n"
    assert source_kernel.kernel("luo", progress) == luo
    assert kernel_build.Tree(base, base / "o").image.read_bytes() == luo.image.read_bytes()


def test_a_changed_patch_starts_from_the_unpatched_tree_again(
    source_package: DirectoryArchive, progress: RememberingProgress, recipes: Path
) -> None:
    first = source_kernel.kernel("luo-pci", RememberingProgress())
    (recipes / "patches" / "luo-pci" / "0001-two.patch").write_text(PATCH.format("otherwise"))
    second = source_kernel.kernel("luo-pci", progress)
    assert "otherwise" in second.image.read_text()
    assert second.image != first.image
    assert compiled(progress) == ["two"]


def test_a_patch_that_does_not_apply_leaves_no_tree(
    source_package: DirectoryArchive, progress: RememberingProgress, recipes: Path, cache_root: Path
) -> None:
    (recipes / "patches" / "luo-pci" / "0001-two.patch").write_text(
        PATCH.replace("-two", "-three").format("x")
    )
    with pytest.raises(ImageError, match=r"0001-two\.patch does not apply: .*FAILED"):
        source_kernel.kernel("luo-pci", progress)
    assert [path.name[:5] for path in (cache_root / "tree").iterdir()] == ["luo-7"]


def test_a_cache_path_that_kbuild_cannot_use_is_refused_before_the_download(
    source_package: DirectoryArchive,
    progress: RememberingProgress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(ImageError, match="without spaces"):
        source_kernel.kernel("luo", progress)
    assert progress.steps == []


@pytest.fixture
def users_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tree = tmp_path / "linux"
    (tree / "arch" / "x86").mkdir(parents=True)
    for name, text in {"Makefile": MAKEFILE, "one.c": "one\n", "two.c": "two\n", "Kbuild": ""}.items():
        (tree / name).write_text(text)
    monkeypatch.setenv("LUSCOPE_LINUX_SOURCE", str(tree))
    return tree


def snapshot(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]}


def test_a_users_tree_is_built_without_being_written_to(
    users_tree: Path, progress: RememberingProgress
) -> None:
    before = snapshot(users_tree)
    made = build.kernel("luo", progress)
    assert snapshot(users_tree) == before
    assert (made.name, made.package) == ("luo", None)
    assert made.identity["source"] == str(users_tree)


def test_a_users_change_is_built_incrementally(users_tree: Path, progress: RememberingProgress) -> None:
    first = build.kernel("luo", RememberingProgress())
    (users_tree / "two.c").write_text("changed\n")
    later = users_tree.stat().st_mtime + 10
    os.utime(users_tree / "two.c", (later, later))
    second = build.kernel("luo", progress)
    assert compiled(progress) == ["two"]
    assert "changed" in second.image.read_text()
    assert "changed" not in first.image.read_text()


def test_what_a_users_tree_does_not_have_is_said_and_recorded(
    users_tree: Path, progress: RememberingProgress
) -> None:
    made = build.kernel("luo", progress)
    assert made.identity["refused"] == "CONFIG_REFUSED_SERIES is n, asked for y"
    assert "CONFIG_REFUSED_SERIES is n, asked for y" in progress.ends[-1]


def test_a_users_own_fragment_is_added(
    users_tree: Path, progress: RememberingProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.config").write_text("CONFIG_MINE=y\n")
    monkeypatch.setenv("LUSCOPE_LINUX_CONFIG", str(tmp_path / "mine.config"))
    made = build.kernel("luo", progress)
    assert "CONFIG_MINE=y" in (made.image.parent / "config").read_text()
    monkeypatch.setenv("LUSCOPE_LINUX_CONFIG", str(tmp_path / "absent.config"))
    with pytest.raises(ImageError, match="is not a file"):
        build.kernel("luo", progress)


def test_a_tree_that_was_built_in_place_is_refused_with_both_ways_out(
    users_tree: Path, progress: RememberingProgress
) -> None:
    (users_tree / ".config").write_text("")
    with pytest.raises(ImageError, match=r"make mrproper .* worktree add"):
        build.kernel("luo", progress)


def test_a_path_that_is_no_kernel_tree_is_refused(
    tmp_path: Path, progress: RememberingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUSCOPE_LINUX_SOURCE", str(tmp_path / "nowhere"))
    with pytest.raises(ImageError, match="is not a kernel tree"):
        build.kernel("luo", progress)


def test_an_unknown_kernel_is_answered_with_the_known_ones(progress: RememberingProgress) -> None:
    with pytest.raises(ImageError, match="no kernel is called 'lua': name one of luo, luo-pci, debian"):
        build.kernel("lua", progress)


def key(
    asked: dict[str, str] | None = None,
    source: str = "7.3.4-1",
    patches: list[Path] | None = None,
    gcc: str = "gcc 12",
    ld: str = "ld 2.40",
) -> str:
    return kernel_build.key(
        asked or {"CONFIG_A": "y"}, source, patches or [], kernel_build.Toolchain(gcc, ld)
    )


def test_everything_that_decides_an_images_bits_is_in_its_key(tmp_path: Path) -> None:
    (tmp_path / "a.patch").write_text("1")
    (tmp_path / "b.patch").write_text("2")
    a, b = tmp_path / "a.patch", tmp_path / "b.patch"
    keys = [
        key(),
        key({"CONFIG_A": "n"}),
        key(source="7.3.4-2"),
        key(gcc="gcc 14"),
        key(ld="ld 2.44"),
        key(patches=[a]),
        key(patches=[a, b]),
        key(patches=[b, a]),
    ]
    assert len(set(keys)) == len(keys)
    assert key({"CONFIG_A": "y", "CONFIG_B": "n"}) == key({"CONFIG_B": "n", "CONFIG_A": "y"})
    (tmp_path / "a.patch").write_text("changed")
    assert key(patches=[a]) != keys[5]


def test_the_identity_is_readable_json(
    source_package: DirectoryArchive, progress: RememberingProgress
) -> None:
    made = source_kernel.kernel("luo", progress)
    identity = json.loads((made.image.parent / "identity.json").read_text())
    assert identity == made.identity
    assert made.image.parent.name == f"luo-{identity['key']}"


def test_the_commands_of_copied_objects_name_their_new_place(tmp_path: Path) -> None:
    old, new = tmp_path / "old tree", tmp_path / "new"
    kept = {
        "a/.one.o.cmd": f"cmd := gcc {old}/one.c\n",
        ".two.o.cmd": "cmd := gcc ../two.c\n",
        "a/one.o": str(old),
    }
    for name, text in kept.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_text(text)
        os.utime(new / name, (1, 1))
    kernel_build.relocate(new, old, new)
    assert (new / "a/.one.o.cmd").read_text() == f"cmd := gcc {new}/one.c\n"
    assert (new / ".two.o.cmd").stat().st_mtime == 1  # what names nothing is left alone
    assert (new / "a/one.o").read_text() == str(old)
