# SPDX-License-Identifier: MIT
"""Clean stories of an endpoint that has what the plain one lacks: an interrupt pin, or MSI."""

from typing import Final

from pydev.pci.msi import Msi
from pydev.recording.format import CONFIG_REGION, Kind
from pydev.testkit.story import BUS_ABOVE, DEVFN, EP0, SWEEP, Event, Story, at

_COMMAND: Final = 0x04
_INTX_DISABLE: Final = 0x400
_INTERRUPT_PIN: Final = 0x3D
_MSI: Final = 0xE0
MSI_CONTROL: Final = _MSI + 2
MSI_ON: Final = 0x81


def pinned_story() -> Story:
    """The preserved endpoint has INTA, kept down by INTX_DISABLE as Linux leaves it where MSI-X is in use."""
    story = Story()
    entry = story.header["functions"][EP0]
    config = bytearray.fromhex(entry["config"])
    config[_INTERRUPT_PIN] = 1
    entry["config"] = config.hex()
    for event in story.events:
        if event.t_ns >= at(120.5) and _is_command(event):
            for name in ("value", "aux"):
                if name in event.fields and (name == "value" or event.kind == Kind.REGION_WRITE):
                    event.fields[name] |= _INTX_DISABLE
    story.reconnect()
    return story


def _is_command(event: Event) -> bool:
    """Whether this is a write of the preserved endpoint's COMMAND, by whichever witness."""
    if event.fields.get("address") != _COMMAND:
        return False
    if event.kind == Kind.PLUGIN_WRITE:
        return event.fields["region"] == BUS_ABOVE[EP0] << 8 | DEVFN[EP0]
    is_server = event.kind == Kind.REGION_WRITE and event.fields["region"] == CONFIG_REGION
    return event.fields.get("function") == EP0 and (is_server or event.kind == Kind.TRACE_WRITE)


def msi_story() -> Story:
    """The preserved endpoint used MSI in the outgoing kernel, and MSI-X in the incoming one alone."""
    story = Story()
    entry = story.header["functions"][EP0]
    entry["registers"] = [*entry["registers"], *Msi.describe(_MSI)]  # the list itself is every story's
    story.remove_tag("msix on")
    story.remove_tag("msix off")
    story.write(120, EP0, MSI_CONTROL, MSI_ON, tag="msi on")
    story.write(SWEEP + 19, EP0, MSI_CONTROL, MSI_ON & ~1, tag="msi off")
    story.reconnect()
    return story
