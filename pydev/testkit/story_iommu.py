# SPDX-License-Identifier: MIT
"""A story on a machine with a VT-d IOMMU that a kernel keeps as it is: translating, the ring not the identity."""

from typing import Final

from pydev.recording.format import IommuRegister, Kind
from pydev.testkit.story import EP0, Story, offset

COMMANDS: Final = (
    # ms, GSTS before, GCMD: queued invalidation, the table of interrupts, remapping, the root table, translation
    (40.0, 0x0000_0000, 0x0400_0000),
    (40.1, 0x0400_0000, 0x0500_0000),
    (40.3, 0x0500_0000, 0x0600_0000),
    (60.0, 0x0700_0000, 0x4600_0000),
    (61.0, 0x4700_0000, 0x8600_0000),
)
AT_WORK: Final = 0xC700_0000
"""GSTS when all of it is on."""
ATS_CONTROL: Final = offset(EP0, "ATS_CTRL")


def iommu_story() -> Story:
    """A clean update on such a machine, of an endpoint that caches translations itself (ATS)."""
    story = Story()
    story.header["experiment"]["iommu"] = "intel"
    story.write(122, EP0, ATS_CONTROL, 0x8000, tag="ats on")
    for ms, status, command in COMMANDS:
        tell(story, ms, IommuRegister.GCMD, command, status)
    tell(story, 40.2, IommuRegister.IRTA, 0x200000)
    tell(story, 60.1, IommuRegister.RTADDR, 0x8BB000)
    count(story)
    return story


def tell(
    story: Story, ms: float, register: IommuRegister, value: int, status: int = 0, tag: str = ""
) -> None:
    """One write of the unit's registers, as the trace has it."""
    story.add(ms, Kind.IOMMU, address=int(register), value=value, extra=status, tag=tag or "iommu")


def count(story: Story) -> None:
    """Have the trailer count what the story tells of the unit."""
    own = sum(1 for event in story.events if event.kind == Kind.IOMMU)
    story.trailer.setdefault("trace", {})["iommu_writes"] = own
