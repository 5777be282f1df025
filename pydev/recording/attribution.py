# SPDX-License-Identifier: MIT
"""Who made a config write: the call stack that the TCG plugin saw, symbolised and named for people."""

from dataclasses import dataclass
from typing import Final

_ACCESSORS: Final = (
    # linux arch/x86/pci, drivers/pci/access.c, ecam.c: the ways into config space, not the reasons for it
    "pci_conf1_write", "pci_mmcfg_write", "raw_pci_write", "pci_write", "pci_bus_write_config_",
    "pci_write_config_", "pci_user_write_config_", "pci_generic_config_write", "pci_ecam_",
    "pcie_capability_write_", "pcie_capability_clear_and_set_", "pcie_capability_set_", "pcie_capability_clear_",
    "pci_clear_and_set_config_dword", "write_pci_config",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attribution:
    """One config write's author."""

    kernel: str
    """`outgoing`, `incoming`, `firmware` or `unknown`."""
    frames: tuple[str, ...]
    """Symbols, innermost first; `name [module]` in a module. Empty where nothing could be symbolised."""
    cpu: int
    pc: int
    """Guest virtual address of the instruction."""
    note: str | None = None
    """Why the stack ends before its bottom."""

    @property
    def function(self) -> str | None:
        """The function to name: the innermost that is no mere accessor of config space."""
        for frame in self.frames:
            if not frame.startswith(_ACCESSORS):
                return frame
        return self.frames[0] if self.frames else None
