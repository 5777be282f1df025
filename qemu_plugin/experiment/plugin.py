# SPDX-License-Identifier: MIT
"""Whether a run's config writes are attributed: by QEMU's TCG plugin where there can be one, else why not."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from guest_images.kernel_image import KernelImage
from guest_images.progress import Progress
from qemu_plugin.attribution import plugin
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.loading import load_symbols
from qemu_plugin.attribution.plugin import KernelAddresses
from qemu_plugin.experiment.spec import Guest
from qemu_plugin.machine import plugin_trial
from qemu_plugin.machine.runtime import QemuRuntime


@dataclass(frozen=True, slots=True)
class Plugin:
    """The plugin that a run's QEMU loads, or why it loads none."""

    library: Path | None
    reason: str | None = None
    kernels: tuple[KernelAddresses, ...] = ()

    def option(self, recording: Path) -> str | None:
        """The value of QEMU's `-plugin`, None without a plugin."""
        return plugin.option(self.library, recording, self.kernels) if self.library is not None else None


def choose(guest: Guest, qemu: QemuRuntime, kernels: Iterable[KernelImage], progress: Progress) -> Plugin:
    """The plugin for a run of `guest` on `qemu`, which is to find its way in `kernels`.

    A kernel without names is run all the same: its writes are seen, its jump is not.
    """
    if not guest.attribution:
        return Plugin(None, "switched off")
    if guest.accelerator != "tcg":
        return Plugin(None, f"accelerator {guest.accelerator}: only TCG runs plugins")
    library = plugin.library()
    if library is None:
        return Plugin(None, "the plugin is not compiled: install luscope again")
    refusal = plugin_trial.refusal(qemu.argv, library, progress)
    if refusal is not None:
        return Plugin(None, f"QEMU {qemu.version} does not load the plugin: {refusal}")
    return Plugin(library, None, tuple(dict.fromkeys(map(_addresses, kernels))))


def _addresses(kernel: KernelImage) -> KernelAddresses:
    try:
        return plugin.addresses(load_symbols(kernel.image, kernel.system_map))
    except AttributionError:
        return plugin.UNKNOWN  # said after the run, where the names are wanted for the stacks
