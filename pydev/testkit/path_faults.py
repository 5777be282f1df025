# SPDX-License-Identifier: MIT
"""Planted faults of the rules about a preserved endpoint's way to memory, its addresses and its interrupts.

`faults` puts them among the others.
"""

from collections.abc import Callable
from typing import Final

from pydev.recording.format import Kind
from pydev.testkit.story import DOORBELL, EP0, SWEEP, UP1, Story
from pydev.testkit.story_addresses import BRIDGE_CONTROL, COMMAND, PORT_COMMAND, shut_decode, size_bars
from pydev.testkit.story_interrupts import msi_story, pinned_story

_EP0_PINNED: Final = 0x506


def clear_bridge_under_traffic(story: Story) -> None:
    """As `pci_clear_master` does to a switch port, for five transactions."""
    story.write(173, UP1, COMMAND, PORT_COMMAND & ~4, tag="fault", by="pci_clear_master")
    story.write(178, UP1, COMMAND, PORT_COMMAND)


def size_preserved_bars(story: Story) -> None:
    """As `pci_read_bases` does to every endpoint at every boot."""
    size_bars(story, SWEEP + 12)


def shut_port(story: Story) -> None:
    """As `pci_read_bases` does to every port at every boot."""
    shut_decode(story, SWEEP + 5, UP1)


def forward_vga(story: Story) -> None:
    """As `pci_set_vga_state` does on the way to a display that the arbiter has chosen, and takes back."""
    story.write(SWEEP + 5, UP1, BRIDGE_CONTROL, 0x0A, tag="fault", by="pci_set_vga_state")
    story.write(SWEEP + 6, UP1, BRIDGE_CONTROL, 0x02, by="pci_set_vga_state")


def leave_port_interrupts(story: Story) -> None:
    """The root port's MSI-X stays enabled over the jump."""
    story.remove_tag("port msix off")


def unmask_intx(story: Story) -> None:
    """As `do_pci_enable_device` does to a function with a pin, once MSI-X is off; its driver disables it again."""
    story.write(SWEEP + 25, EP0, COMMAND, _EP0_PINNED & ~0x400, tag="fault", by="do_pci_enable_device")
    story.write(SWEEP + 27, EP0, COMMAND, _EP0_PINNED, by="pci_intx")
    story.reconnect()


def leave_msi_enabled(story: Story) -> None:
    """The incoming kernel never clears MSI Enable."""
    story.remove_tag("msi off")
    story.reconnect()


def enable_unmasked(story: Story) -> None:
    """MSI-X enabled anew without the function mask."""
    for event in story.tagged("msix anew"):
        for name in ("value", "aux"):
            is_whole = event.kind == Kind.REGION_WRITE or name == "value"
            event.fields[name] = event.fields[name] & ~0x4000 if is_whole else event.fields.get(name, 0)
    story.reconnect()


def interrupt_between_kernels(story: Story) -> None:
    """The device raises a vector while the incoming kernel looks for devices, and MSI-X is as it was."""
    story.add(SWEEP + 4.5, Kind.INTERRUPT, function=EP0, region=2, address=0, value=1, tag="fault")


def write_before_probe(story: Story) -> None:
    """As a fixup does that takes a device from firmware: a write to its registers before any driver is there."""
    ring = {"region": 0, "address": DOORBELL, "size": 4, "value": 0xFF}
    story.add(SWEEP + 14, Kind.REGION_WRITE, function=EP0, tag="fault", **ring)


PATH_FAULTS: Final[dict[str, Callable[[Story], None]]] = {
    "UPSTREAM-FORWARDING": clear_bridge_under_traffic,
    "BAR-SIZING": size_preserved_bars,
    "BRIDGE-WINDOWS": shut_port,
    "VGA-FORWARDING": forward_vga,
    "PORT-INTERRUPT": leave_port_interrupts,
    "INTX-DISABLE": unmask_intx,
    "MSI-TAKEOVER": leave_msi_enabled,
    "MSIX-SEQUENCE": enable_unmasked,
    "STRAY-INTERRUPT": interrupt_between_kernels,
    "EARLY-MMIO": write_before_probe,
}
PATH_CLEAN: Final[dict[str, Callable[[], Story]]] = {"INTX-DISABLE": pinned_story, "MSI-TAKEOVER": msi_story}
SHOWN_BY_NO_FAULT: Final = {
    "INTX-DISABLE": "no model has an interrupt pin, and without one nothing can escape",
    "MSI-TAKEOVER": "no model has MSI: they have MSI-X",
}
"""What no fault of the planted kernel fails, and why."""
