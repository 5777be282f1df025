# SPDX-License-Identifier: MIT
"""Kernels built here: from Debian's source package with a fragment and patches, or from a user's tree.

The unpacked and patched tree stays in the cache with its objects; what is used of it, a few megabytes, is a
separate entry whose name is a digest of all that decides the image's bits.
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from guest_images import build_tools, cache, debian, kernel_build, kernel_image, pins
from guest_images.command import CommandError, run
from guest_images.errors import ImageError
from guest_images.kernel_image import KernelImage
from guest_images.progress import Progress

_RECIPES = Path(__file__).parent / "kernel"
_OVERLAID = {".c", ".h", ""}  # sources, Kconfig and Makefile; not what is about them


def cached(name: str) -> KernelImage | None:
    """Return the kernel `name` if the cache has it for the present fragment, patches and compiler."""
    tree = _tree(name)
    if tree is None:
        return None
    try:
        directory = _entry(name, tree)
    except CommandError:  # no compiler: it cannot be said which image is the present one
        return None
    return kernel_image.load(name, directory) if directory.is_dir() else None


def kernel(name: str, progress: Progress) -> KernelImage:
    """Return the kernel `name`, built from its source package, or from another kernel's tree and patches.

    Raises:
        ImageError: a tool is missing, the source cannot be fetched, or it does not build.
    """
    if found := cached(name):
        return found
    needs = {**build_tools.KERNEL, **({"patch": "patch"} if _patches(name) else {})}
    build_tools.require(needs, f"building the kernel {name}", progress)
    with cache.locked(f"build-{name}", progress):
        sources = _tree(name) or _new_tree(name, progress)
        directory = _entry(name, sources)
        if not directory.is_dir():
            tree = kernel_build.Tree(sources, sources / "o")
            kernel_build.build(tree, _fragments(name), name, progress)
            identity = _identity(name, sources)
            cache.install(directory, lambda staging: _collect(tree, staging, identity), progress)
    image = kernel_image.load(name, directory)
    progress.done(f"kernel {name}: built from {image.identity['source']}")
    return image


def users_kernel(source: Path, progress: Progress) -> KernelImage:
    """Return the kernel of a user's tree, configured like `luo` as far as the tree has the symbols.

    `series.config` is asked for too, and the fragment `$LUSCOPE_LINUX_CONFIG` if it is set; what the tree
    refuses is said and kept in the identity. The tree is not written to; its objects stay in the cache, so
    that the next build is an incremental one.

    Raises:
        ImageError: `source` is not a clean kernel tree, or it does not build.
    """
    sources = source.expanduser().resolve()
    if not (sources / "Kbuild").is_file() or not (sources / "arch" / "x86").is_dir():
        raise ImageError(f"LUSCOPE_LINUX_SOURCE={source} is not a kernel tree: set it to the top of one")
    if (sources / ".config").exists() or (sources / "include" / "config").exists():
        raise ImageError(
            f"{sources} was built in place and so cannot be built elsewhere: run make mrproper in it,"
            f" or set LUSCOPE_LINUX_SOURCE to a clean checkout (git -C {sources} worktree add ../clean)"
        )
    build_tools.require(build_tools.KERNEL, f"building {sources}", progress)
    place = f"{sources.name}-{hashlib.sha256(str(sources).encode()).hexdigest()[:8]}"
    objects = cache.root() / "objects" / place
    _require_buildable_path(sources)
    _require_buildable_path(objects)
    with cache.locked(f"build-{place}", progress):
        tree = kernel_build.Tree(sources, objects)
        refused = kernel_build.build(tree, _users_fragments(), place, progress, is_strict=False)
        tools = kernel_build.toolchain()
        identity = {"source": str(sources), "gcc": tools.gcc, "ld": tools.ld, "refused": "; ".join(refused)}
        directory = cache.root() / "kernel" / f"source-{place}-{kernel_image.digest(tree.image)[:16]}"
        cache.install(directory, lambda staging: _collect(tree, staging, identity), progress)
    image = kernel_image.load("luo", directory)
    without = f", without what it does not have ({'; '.join(refused)})" if refused else ""
    progress.done(f"kernel luo: built from {sources}{without}")
    return image


def _users_fragments() -> list[Path]:
    fragments = [*_fragments("luo"), _RECIPES / "series.config"]
    if extra := os.environ.get("LUSCOPE_LINUX_CONFIG"):
        if not Path(extra).is_file():
            raise ImageError(
                f"LUSCOPE_LINUX_CONFIG={extra} is not a file: set it to a kernel configuration fragment"
            )
        fragments.append(Path(extra))
    return fragments


def _entry(name: str, sources: Path) -> Path:
    key = kernel_build.key(
        kernel_build.asked(_fragments(name)),
        _source_version(sources),
        [*_patches(name), *(source for source, _ in _overlay(name))],
        kernel_build.toolchain(),
    )
    return cache.root() / "kernel" / f"{name}-{key}"


def _identity(name: str, sources: Path) -> dict[str, str]:
    tools = kernel_build.toolchain()
    return {
        "source": f"{_base_pin(name).names[0]} {_source_version(sources)}",
        "package": _source_version(sources),
        "patches": " ".join(patch.name for patch in _patches(name)),
        "gcc": tools.gcc,
        "ld": tools.ld,
        "key": _entry(name, sources).name.rpartition("-")[2],
    }


def _collect(tree: kernel_build.Tree, directory: Path, identity: dict[str, str]) -> None:
    tree.copy_artefacts(directory)
    kernel_image.store(directory, tree.release(), identity)


# What a recipe consists of. A kernel `based_on` another has the other's patches before its own.


def _base_pin(name: str) -> pins.Pin:
    pin = pins.kernel(name)
    return _base_pin(pin.based_on) if pin.based_on else pin


def _fragments(name: str) -> list[Path]:
    pin = pins.kernel(name)
    return [*(_fragments(pin.based_on) if pin.based_on else []), *(_RECIPES / file for file in pin.fragments)]


def _own_patches(name: str) -> list[Path]:
    return sorted((_RECIPES / "patches" / name).glob("*.patch"))


def _patches(name: str) -> list[Path]:
    based_on = pins.kernel(name).based_on
    return [*(_patches(based_on) if based_on else []), *_own_patches(name)]


def _overlay(name: str) -> list[tuple[Path, Path]]:
    """The files that are put into the tree: where each is, and where it goes (relative to the tree)."""
    return [
        (file, Path(target) / file.name)
        for folder, target in pins.kernel(name).overlay
        for file in sorted((_RECIPES.parent / folder).iterdir())
        if file.is_file() and file.suffix in _OVERLAID
    ]


# A tree is called NAME-VERSION-PATCHES; a version has no hyphen in its upstream part here, but a Debian
# revision.


def _tree(name: str) -> Path | None:
    """Return the newest tree of kernel `name` that has the present patches."""
    trees = (cache.root() / "tree").glob(f"{name}-[0-9]*-{_patches_digest(name)}")
    return max(trees, key=lambda tree: tree.stat().st_mtime, default=None)


def _source_version(tree: Path) -> str:
    version = re.fullmatch(r".*?-(\d.*)-[0-9a-f]{8}", tree.name)
    assert version is not None, f"{tree} is not named as _new_tree names trees"
    return version[1]


def _patches_digest(name: str) -> str:
    files = [*_patches(name), *(source for source, _ in _overlay(name))]
    joined = b"".join(file.name.encode() + file.read_bytes() for file in files)
    return hashlib.sha256(joined).hexdigest()[:8]


def _new_tree(name: str, progress: Progress) -> Path:
    _require_buildable_path(cache.root())
    based_on = pins.kernel(name).based_on
    return _derived_tree(name, based_on, progress) if based_on else _unpacked_tree(name, progress)


def _require_buildable_path(path: Path) -> None:
    # linux Makefile: "source directory cannot contain spaces or colons"
    if re.search(r"[\s:]", str(path)):
        raise ImageError(f"a kernel cannot be built in {path}: use a path without spaces and colons")


def _unpacked_tree(name: str, progress: Progress) -> Path:
    pin = pins.kernel(name)
    cache.require_space(pin.room_mib << 20, f"building the kernel {name}")
    apt, (package, *_) = debian.find(pin, pins.suites(), progress)

    def fill(staging: Path) -> None:
        progress.step(f"downloading {package.name} {package.version}")
        with tempfile.TemporaryDirectory(dir=staging) as unpacked:
            root = Path(unpacked)
            debian.unpack(apt.download([package], root, progress), root, progress)
            tarball = next(root.glob("usr/src/linux-source-*.tar.*"))
            progress.step(f"unpacking {tarball.name}")
            run(["tar", "-C", str(staging), "--strip-components=1", "-xf", str(tarball)], progress)
        kernel_build.apply(_own_patches(name), staging, progress)

    target = cache.root() / "tree" / f"{name}-{package.directory_version}-{_patches_digest(name)}"
    return cache.install(target, fill, progress)


def _derived_tree(name: str, based_on: str, progress: Progress) -> Path:
    """Copy the tree of `based_on` with its objects, and patch it: make builds only what the patches touch."""
    kernel(based_on, progress)
    base = _tree(based_on)
    assert base is not None, f"the kernel {based_on} was built just now"
    cache.require_space(pins.kernel(name).room_mib << 20, f"building the kernel {name}")
    target = cache.root() / "tree" / f"{name}-{_source_version(base)}-{_patches_digest(name)}"

    def fill(staging: Path) -> None:
        progress.step(f"copying the tree of {based_on} for {name}")
        with cache.locked(f"build-{based_on}", progress):
            sources = [str(path) for path in base.iterdir() if path.name != "o"]
            # patch(1) replaces a file rather than writing into it, so that sources can be links; objtool does
            # not.
            run(["cp", "-a", "--link", *sources, str(staging)], progress)
            run(["cp", "-a", "--reflink=auto", str(base / "o"), str(staging)], progress)
        kernel_build.relocate(staging / "o", base, target)
        kernel_build.apply(_own_patches(name), staging, progress)
        for source, destination in _overlay(name):
            (staging / destination).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, staging / destination)

    installed = cache.install(target, fill, progress)
    for outdated in (cache.root() / "tree").glob(f"{name}-[0-9]*"):
        if outdated != installed:  # 200 MB of objects each, and made anew in seconds
            shutil.rmtree(outdated, ignore_errors=True)
    return installed
