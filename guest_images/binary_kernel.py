# SPDX-License-Identifier: MIT
"""Kernels that Debian built: the image out of the package, nothing else of it."""

import re
import shutil
import tempfile
from pathlib import Path

from guest_images import bzimage, cache, debian, kernel_image, pins
from guest_images.errors import ImageError
from guest_images.kernel_image import KernelImage
from guest_images.progress import Progress


def cached(name: str) -> KernelImage | None:
    """Return the newest kernel `name` in the cache, or None."""
    entries = (cache.root() / "kernel").glob(f"{name}-*/identity.json")
    newest = max(entries, key=lambda path: path.stat().st_mtime, default=None)
    return kernel_image.load(name, newest.parent) if newest is not None else None


def kernel(name: str, progress: Progress) -> KernelImage:
    """Return the kernel `name`: the image that the newest package in its pin's range depends on.

    Raises:
        ImageError: it cannot be fetched.
    """
    if found := cached(name):
        return found
    pin = pins.kernel(name)
    cache.require_space(pin.room_mib << 20, f"fetching the kernel {name}")
    apt, (package, *_) = debian.find(pin, pins.suites(), progress)
    matched = re.search(r"(linux-image-\S+) \(= ([^)]+)\)", apt.depends(package))
    if matched is None:
        raise ImageError(f"{package.name} {package.version} names no kernel: change guest_images/images.toml")
    binary = debian.Package(matched[1], matched[2], package.suite)

    def fill(staging: Path) -> None:
        progress.step(f"downloading {binary.name} {binary.version}")
        with tempfile.TemporaryDirectory(dir=staging) as unpacked:
            root = Path(unpacked)
            debian.unpack(apt.download([binary], root, progress), root, progress)
            shutil.copy2(next(root.glob("boot/vmlinuz-*")), staging / "bzImage")
            shutil.copy2(next(root.glob("boot/config-*")), staging / "config")
        release = bzimage.read_header(staging / "bzImage").release
        identity = {"source": f"{binary.name} {binary.version}", "package": binary.version}
        kernel_image.store(staging, release, identity)

    directory = cache.install(cache.root() / "kernel" / f"{name}-{binary.directory_version}", fill, progress)
    image = kernel_image.load(name, directory)
    progress.done(f"kernel {name}: fetched")
    return image
