# SPDX-License-Identifier: MIT
"""A story's guest telling what its kernel believes: the agent's `state`, of a kernel that is right about all of it."""

from typing import Any, Final

from pydev.recording.format import Flag, Kind
from pydev.testkit.story import BUS_ABOVE, BUSES, DEVFN, EP0, EP1, Story
from pydev.units import bdf_text

TAG: Final = "state"
STATE_MS: Final = 293
"""Behind finish, and behind the dump there."""
_BAR0: Final = {EP0: 0xFE000000, EP1: 0xFE004000}
_BAR_BYTES: Final = 0x4000
_WINDOW: Final = [14, 0xFE000000, 0x100000, 0x200]
"""The memory window of every port: linux include/linux/pci.h PCI_BRIDGE_MEM_WINDOW, IORESOURCE_MEM."""
_MEMORY_BAR: Final = 0x40200  # linux include/linux/ioport.h IORESOURCE_MEM | IORESOURCE_SIZEALIGN


def state_story() -> Story:
    """A clean update after which the guest is asked."""
    story = Story()
    tell_state(story)
    return story


def tell_state(story: Story, ms: float = STATE_MS) -> dict[int, dict[str, Any]]:
    """Have the guest asked, and answer; returns what it says of each function, which a test may change."""
    said = {
        index: {"bdf": _bdf(index), "enable": 1, "power": "D0", "irq": 0, "ari": 0} for index in BUS_ABOVE
    }
    for endpoint, address in _BAR0.items():
        said[endpoint] |= {"driver": "luscope-stream", "resources": [[0, address, _BAR_BYTES, _MEMORY_BAR]]}
    for bridge, (_, secondary, _) in BUSES.items():
        said[bridge] |= {
            "driver": "pcieport",
            "resources": [_WINDOW],
            "secondary": secondary,
        }
    said[EP0] |= {"msix": [30, 31], "ari": 1}
    story.host(ms - 1, "state", TAG, bdfs=" ".join(_bdf(index) for index in BUS_ABOVE))
    story.agent(ms, TAG, re=_commands(story, ms), ok=True, report="state", functions=list(said.values()))
    return said


def _bdf(index: int) -> str:
    return f"0000:{bdf_text(BUS_ABOVE[index] << 8 | DEVFN[index])}"


def _commands(story: Story, ms: float) -> int:
    """The number of the host's last line before a moment: each boot counts from 1."""
    until_ns = story.header["started_ns"] + round(ms * 1_000_000)
    lines = [event for event in story.events if event.kind == Kind.AGENT and event.t_ns <= until_ns]
    hellos = [event.t_ns for event in lines if (event.members or {}).get("event") == "hello"]
    boot_ns = max(hellos)
    return sum(line.t_ns > boot_ns and bool(line.fields["flags"] & Flag.TO_GUEST) for line in lines)
