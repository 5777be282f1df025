# SPDX-License-Identifier: MIT
"""The TCG plugin as QEMU is told of it: the compiled file and its arguments. `plugin/*.c` is what it does."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qemu_plugin.attribution.symbols import KernelSymbols

MODULE: Final = "qemu_plugin.attribution._plugin"
"""Where setup.py puts the shared object. It is QEMU's to load, not Python's."""
MOST_KERNELS: Final = 4  # plugin/plugin.h KERNELS_MAX


@dataclass(frozen=True, slots=True)
class KernelAddresses:
    """What the plugin looks for in a kernel: half-open ranges of link addresses; (0, 0) where unknown."""

    port_writer: tuple[int, int]
    """linux arch/x86/pci/direct.c pci_conf1_write"""
    ecam_writer: tuple[int, int]
    """linux arch/x86/pci/mmconfig_64.c pci_mmcfg_write"""
    jump: int
    """linux arch/x86/kernel/machine_kexec_64.c machine_kexec; 0 where unknown"""


UNKNOWN: Final = KernelAddresses((0, 0), (0, 0), 0)
"""Of a kernel without names: the plugin then looks at every store that has the form of an ECAM writer's."""


def library() -> Path | None:
    """The compiled plugin, or None where this installation has none."""
    found = importlib.util.find_spec(MODULE)
    return Path(found.origin) if found is not None and found.origin is not None else None


def addresses(symbols: KernelSymbols) -> KernelAddresses:
    """The plugin's addresses in the kernel that `symbols` are of."""
    jump = symbols.address_range("machine_kexec")
    return KernelAddresses(
        port_writer=symbols.address_range("pci_conf1_write") or (0, 0),
        ecam_writer=symbols.address_range("pci_mmcfg_write") or (0, 0),
        jump=jump[0] if jump is not None else 0,
    )


def option(plugin: Path, recording: Path, kernels: Sequence[KernelAddresses]) -> str:
    """The value of QEMU's `-plugin` that has `plugin` append to `recording`; both paths absolute.

    Source: QEMU docs/about/emulation.rst, "TCG Plugins"; a comma in a value is written twice.
    """
    words = [_escaped(plugin), f"recording={_escaped(recording)}"]
    words += [f"kernel={_kernel(kernel)}" for kernel in kernels[:MOST_KERNELS]]
    return ",".join(words)


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")


def _kernel(kernel: KernelAddresses) -> str:
    ranges = (f"{begin:x}-{end:x}" for begin, end in (kernel.port_writer, kernel.ecam_writer))
    return ":".join((*ranges, f"{kernel.jump:x}"))
