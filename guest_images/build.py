# SPDX-License-Identifier: MIT
"""What a guest boots: kernels and its initial file system, each made once and then taken from the cache."""

import os
from pathlib import Path

from guest_images import binary_kernel, initial_files, kernel_image, pins, source_kernel
from guest_images.errors import ImageError
from guest_images.initial_files import initramfs
from guest_images.kernel_image import KernelImage
from guest_images.progress import Progress

__all__ = [
    "KERNELS",
    "KernelImage",
    "Progress",
    "cached_initramfs",
    "cached_kernel",
    "initramfs",
    "kernel",
    "kernel_from_path",
]

kernel_from_path = kernel_image.from_path
cached_initramfs = initial_files.cached

KERNELS = pins.kernel_names()
"""The names that `kernel` knows."""


def kernel(name: str, progress: Progress) -> KernelImage:
    """Return the kernel `name` of `images.toml`, built or fetched if the cache does not have it.

    With `$LUSCOPE_LINUX_SOURCE` the kernel `luo` is that tree, built incrementally each time.

    Raises:
        ImageError: no such kernel, or it cannot be made.
    """
    _require_known(name)
    if name == "luo" and (tree := os.environ.get("LUSCOPE_LINUX_SOURCE")):
        return source_kernel.users_kernel(Path(tree), progress)
    if pins.kernel(name).is_built:
        return source_kernel.kernel(name, progress)
    return binary_kernel.kernel(name, progress)


def cached_kernel(name: str) -> KernelImage | None:
    """Return the kernel `name` if the cache has it; nothing is fetched or built.

    Raises:
        ImageError: no such kernel.
    """
    _require_known(name)
    return source_kernel.cached(name) if pins.kernel(name).is_built else binary_kernel.cached(name)


def _require_known(name: str) -> None:
    if name not in KERNELS:
        known = ", ".join(KERNELS)
        raise ImageError(f"no kernel is called {name!r}: name one of {known}, or the path of a bzImage")
