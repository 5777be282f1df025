# SPDX-License-Identifier: MIT
"""Who writes config space in a story: call stacks as linux 7.3 has them, by the moment of the write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pydev.recording.format import PLUGIN_STACK

_WORDS: Final = {1: "byte", 2: "word", 4: "dword"}
_ECAM_FROM: Final = 0x100
_SYSCALL: Final = ("do_syscall_64", "entry_SYSCALL_64_after_hwframe")
_INIT: Final = ("do_one_initcall", "kernel_init_freeable", "kernel_init", "ret_from_fork_asm")

# linux kernel/kexec_core.c, drivers/base/core.c, drivers/pci/pci-driver.c
SHUTDOWN_STACK: Final = (
    "pci_clear_master", "pci_device_shutdown", "device_shutdown", "kernel_restart_prepare", "kernel_kexec",
    "__do_sys_reboot", *_SYSCALL,
)  # fmt: skip
JUMP_STACK: Final = ("machine_kexec", "kernel_kexec", "__do_sys_reboot", *_SYSCALL)
# linux drivers/pci/probe.c
ENUMERATION: Final = (
    "pci_setup_device", "pci_scan_single_device", "pci_scan_slot", "pci_scan_child_bus_extend",
    "acpi_pci_root_create", "pci_acpi_scan_root", "acpi_pci_root_add", "acpi_scan_init", "acpi_init", *_INIT,
)  # fmt: skip
DRIVER: Final = ("lu_stream_ioctl [lu_stream]", "__x64_sys_ioctl", *_SYSCALL)


@dataclass(frozen=True, slots=True)
class Writer:
    """The author of a plugin record, as its STACK will say."""

    kernel: str
    frames: tuple[str, ...]
    """Innermost first; `name [module]`."""
    note: str | None = None

    def members(self, number: int) -> dict[str, object]:
        """The members of the STACK record."""
        return {
            "id": number,
            "kernel": self.kernel,
            "frames": [_frame(frame, 16 * depth) for depth, frame in enumerate(self.frames)],
            "note": self.note,
        }


def _frame(frame: str, offset: int) -> list[object]:
    symbol, _, module = frame.partition(" ")
    return [symbol, offset, module.strip("[]") or None]


def accessors(offset: int, width: int) -> tuple[str, ...]:
    """The ways into config space, innermost first (linux arch/x86/pci, drivers/pci/access.c)."""
    way = ("pci_mmcfg_write",) if offset >= _ECAM_FROM else ("pci_conf1_write",)
    word = _WORDS.get(width, "dword")
    return (*way, "pci_write", f"pci_bus_write_config_{word}", f"pci_write_config_{word}")


def writer_of(kernel: str, reason: Sequence[str], offset: int, width: int) -> Writer:
    """The author of one config write: the accessors, and what called them; firmware has no symbols."""
    if kernel == "firmware":
        return Writer(kernel, (), "firmware has no symbols")
    return Writer(kernel, (*accessors(offset, width), *reason))


def raw_stack(depth: int) -> bytes:
    """What the plugin copies: the stack pointers, then as many words as there are frames."""
    pointers = np.array((0xFFFFC90000013D00, 0xFFFFC90000013D40), dtype=PLUGIN_STACK)
    words = np.arange(depth, dtype="<u8") * 16 + 0xFFFFFFFF81000000
    return pointers.tobytes() + words.tobytes()
