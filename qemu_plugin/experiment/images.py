# SPDX-License-Identifier: MIT
"""What a guest boots from: kernels by name or path, and the initial file system with the next kernel in it."""

from dataclasses import dataclass
from pathlib import Path

from guest_images import build, cpio, pins
from guest_images.progress import Progress
from qemu_plugin.errors import BenchError
from qemu_plugin.experiment import plugin
from qemu_plugin.experiment.plugin import Plugin
from qemu_plugin.experiment.spec import Guest
from qemu_plugin.machine.runtime import QemuRuntime, find_or_install

NEXT_KERNEL = "boot/next"
"""Where the agent finds the kernel to load, in the initial file system."""


@dataclass(frozen=True, slots=True)
class Images:
    """Everything a run needs from the cache, found or built."""

    qemu: QemuRuntime
    kernel: build.KernelImage
    next_kernel: build.KernelImage
    initramfs: Path
    plugin: Plugin

    def write_initrd(self, path: Path) -> None:
        """Write the initial file system followed by a second archive with the next kernel.

        The kernel unpacks archives one after another.
        Source: linux Documentation/driver-api/early-userspace/buffer-format.rst.
        """
        with path.open("wb") as out:
            out.write(self.initramfs.read_bytes())
            out.write(b"\0" * (-out.tell() % 512))
            out.write(cpio.archive(cpio.files({NEXT_KERNEL: self.next_kernel.image.read_bytes()})))


def prepare(guest: Guest, progress: Progress) -> Images:
    """Find, fetch or build what `guest` names. ImageError or BenchError say what is missing and what to do."""
    kernel = _kernel(guest.kernel, progress)
    next_kernel = _kernel(guest.next_kernel, progress) if guest.next_kernel else kernel
    qemu = find_or_install(progress)
    return Images(
        qemu=qemu,
        kernel=kernel,
        next_kernel=next_kernel,
        initramfs=build.initramfs(progress),
        plugin=plugin.choose(guest, qemu, [kernel, next_kernel], progress),
    )


def _kernel(name_or_path: str, progress: Progress) -> build.KernelImage:
    """A kernel of the recipes by its name, or a user's image by its path."""
    if name_or_path in pins.kernel_names():
        return build.kernel(name_or_path, progress)
    path = Path(name_or_path)
    if not path.exists() and "/" not in name_or_path:
        raise BenchError(
            f"no kernel is called {name_or_path!r}; known: {', '.join(pins.kernel_names())}, or a bzImage's path"
        )
    return build.kernel_from_path(path)
