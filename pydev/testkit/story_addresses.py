# SPDX-License-Identifier: MIT
"""What a kernel does to addresses in a story: BARs sized with decode off, windows closed for a moment."""

from typing import TYPE_CHECKING, Final

from pydev.testkit.story_header import EP0

if TYPE_CHECKING:
    from pydev.testkit.story import Story

COMMAND: Final = 0x04
BAR0: Final = 0x10
IO_WINDOW: Final = 0x1C
MEMORY_WINDOW: Final = 0x20
PREF_WINDOW: Final = 0x24
PREF_BASE_UPPER32: Final = 0x28
IO_UPPER16: Final = 0x30
BRIDGE_CONTROL: Final = 0x3E
EP0_ADDRESS: Final = 0xFE000000
EP0_COMMAND: Final = 0x106
PORT_COMMAND: Final = 0x107
WINDOW: Final = 0xFE00FE00
"""The memory window of every port above: fe000000h to fe0fffffh."""
CLOSED: Final = 0x0000FFF0
IO_CLOSED: Final = 0x00F0


def size_bars(story: "Story", ms: float) -> None:
    """As `pci_read_bases` does to the preserved endpoint: decode off, BAR 0 sized, decode on."""
    story.write(ms, EP0, COMMAND, EP0_COMMAND & ~2, tag="fault")
    story.write(ms + 0.2, EP0, BAR0, 0xFFFFFFFF, 4, after=0xFFFFC000)
    story.write(ms + 0.4, EP0, BAR0, EP0_ADDRESS, 4)
    story.write(ms + 0.6, EP0, COMMAND, EP0_COMMAND)
    story.reconnect()


def shut_decode(story: "Story", ms: float, bridge: int) -> None:
    """As `pci_read_bases` does to a port: memory and I/O decode off and on."""
    story.write(ms, bridge, COMMAND, PORT_COMMAND & ~3, tag="fault")
    story.write(ms + 0.5, bridge, COMMAND, PORT_COMMAND)
