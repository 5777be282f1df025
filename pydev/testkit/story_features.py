# SPDX-License-Identifier: MIT
"""A clean update of a machine that uses everything: what is on when frozen is on, and as it was, at the finish.

The plain story leaves it all off, where nothing that keeps it can be told from what drops it.
"""

from typing import Final

from pydev.pci.aer import RootErrorCommand
from pydev.pci.ats import AtsControl
from pydev.pci.doe import (
    DISCOVERY,
    PCI_SIG,
    DiscoveryRequest,
    DoeControl,
    DoeStatus,
    ObjectHeader1,
    ObjectHeader2,
)
from pydev.pci.dpc import DpcControl
from pydev.pci.express import DeviceStatus
from pydev.pci.express_port import PortLinkControl, PortLinkStatus, RootControl, RootStatus
from pydev.pci.ide import IdeRequesterBase, IdeSelectiveControl
from pydev.pci.l1ss import L1ssControl1
from pydev.pci.ltr import LtrMaxSnoop
from pydev.pci.pasid import PasidControl
from pydev.pci.power_management import Pmcsr
from pydev.pci.pri import PriAllocation, PriControl
from pydev.pci.sriov import SriovControl, SriovNumVfs, SriovVfBar0
from pydev.pci.type1 import BridgeControl, SecStatus
from pydev.recording.format import CONFIG_REGION, Kind
from pydev.registers import Register
from pydev.testkit.story import BUS_ABOVE, DEVFN, DN1, EP0, RP1, UP1, UPDATED, Event, Story, offset

READY: Final = "response ready"
"""Tag of the moment at which the mailbox has its answer."""
ATS_ON: Final = AtsControl.compose(enable=1, smallest_translation_unit=2)
PRI_ON: Final = PriControl.compose(enable=1)
PASID_ON: Final = PasidControl.compose(enable=1, execute_permission=1, privileged_mode=1)
STREAM_ON: Final = IdeSelectiveControl.compose(enable=1, algorithm=1, stream_id=5)
VFS_ON: Final = SriovControl.compose(vf_enable=1, vf_memory_space=1)
L1SS_ON: Final = L1ssControl1.compose(aspm_l1_2=1, ltr_l1_2_threshold_value=0x50, ltr_l1_2_threshold_scale=2)
PME_ON: Final = Pmcsr.compose(pme_enable=1)
CONTAINMENT_ON: Final = DpcControl.compose(trigger=1, interrupt=1)
ROOT_ON: Final = RootControl.compose(non_fatal_system_error=1, fatal_system_error=1, pme_interrupt=1)
BANDWIDTH_ON: Final = PortLinkControl.compose(
    bandwidth_management_interrupt=1, autonomous_bandwidth_interrupt=1
)
BRIDGE_ON: Final = BridgeControl.compose(serr_enable=1, master_abort_mode=1)
_ENDPOINT: Final[tuple[tuple[type[Register], int], ...]] = (
    (AtsControl, ATS_ON),
    (PriAllocation, 16),
    (PriControl, PRI_ON),
    (PasidControl, PASID_ON),
    (IdeRequesterBase, IdeRequesterBase.compose(valid=1, requester_id=0x0008)),
    (IdeSelectiveControl, STREAM_ON),
    (SriovNumVfs, 1),
    (SriovVfBar0, 0xFD000000),
    (SriovControl, VFS_ON),
    (L1ssControl1, L1SS_ON),
    (LtrMaxSnoop, LtrMaxSnoop.compose(latency=3, scale=3)),
    (Pmcsr, PME_ON),
)
_BRIDGES: Final[tuple[tuple[int, type[Register], int], ...]] = (
    (DN1, BridgeControl, BRIDGE_ON),
    (DN1, PortLinkControl, BANDWIDTH_ON),
    (DN1, L1ssControl1, L1SS_ON),
    (DN1, DpcControl, CONTAINMENT_ON),
    (RP1, RootErrorCommand, RootErrorCommand.compose(correctable_interrupt=1, fatal_interrupt=1)),
    (RP1, RootControl, ROOT_ON),
)
_WRITTEN: Final = 0.2
_MAILBOX: Final = "DOE_WRITE", "DOE_CTRL", "DOE_STATUS"


def features_story(*, plugin: bool = True) -> Story:
    """Every feature on, a status bit of every kind set, an exchange with the device under way."""
    story = Story(plugin=plugin)
    ms = 126.0
    for register, value in _ENDPOINT:
        story.write(ms, EP0, offset(EP0, register.name), value, register.width)
        ms += _WRITTEN
    for bridge, register, value in _BRIDGES:
        story.write(ms, bridge, offset(bridge, register.name), value, register.width)
        ms += _WRITTEN
    _ask(story, ms)
    _note_events(story, 145)
    story.reconnect()
    return story


def _ask(story: Story, ms: float) -> None:
    """A request to the device's mailbox; the answer is there and nobody has read it when the guest is frozen."""
    mailbox, control, status = (offset(EP0, name) for name in _MAILBOX)
    dwords = (
        ObjectHeader1.compose(vendor_id=PCI_SIG, object_type=DISCOVERY),
        ObjectHeader2.compose(length=3),
        DiscoveryRequest.compose(),
    )
    for number, dword in enumerate(dwords):
        story.write(ms + _WRITTEN * number, EP0, mailbox, dword, 4, after=0)
    story.write(ms + 3 * _WRITTEN, EP0, control, DoeControl.compose(go=1), 4, after=0)
    story.update(ms + 3 * _WRITTEN + 0.01, EP0, status, DoeStatus.compose(data_object_ready=1), READY)


def _note_events(story: Story, ms: float) -> None:
    """The endpoint and the ports above note an error or an event each."""
    device = offset(EP0, "DEVCTL")
    held = next(r for r in story.header["functions"] if r["index"] == EP0)["config"]
    control = int.from_bytes(bytes.fromhex(held)[device : device + 2], "little")
    story.update(ms, EP0, device, control | DeviceStatus.compose(unsupported_request=1) << 16)
    story.port_sets(ms, DN1, "SEC_STATUS", SecStatus.compose(received_master_abort=1))
    story.port_sets(ms, DN1, "LNKSTA", PortLinkStatus.compose(speed=0, width_lanes=0, bandwidth_management=1))
    story.port_sets(ms, RP1, "RTSTA", RootStatus.compose(pme_status=1))


def rescan_story() -> Story:
    """The buses are scanned again by the incoming kernel: places that nobody answers, and nothing is written."""
    story = Story()
    for device in range(4, 8):
        story.add(
            UPDATED + 10 + device, Kind.TRACE_READ, address=0, region=device << 3, value=0xFFFFFFFF, error=1
        )
    return story


def quiet_story() -> Story:
    """Nobody writes to the preserved endpoint or above it: none uses interrupts, and user space drives it."""
    story = Story()
    frozen_ns = story.tagged("frozen")[0].t_ns
    story.remove(lambda e: e.tag in ("msix on", "port msix on", "vectors anew", "doorbell", "catch-up"))
    quiet = (EP0, RP1, UP1, DN1)
    story.remove(lambda e: e.t_ns > frozen_ns and any(_is_write_to(e, function) for function in quiet))
    for event in story.events:
        if event.members is not None:
            event.members.pop("driver", None)
    story.reconnect()
    return story


def _is_write_to(event: Event, function: int) -> bool:
    """Whether an event is a config write to a function, whoever witnessed it."""
    if event.kind is Kind.PLUGIN_WRITE:
        return event.fields["region"] == BUS_ABOVE[function] << 8 | DEVFN[function]
    is_config = event.kind is Kind.TRACE_WRITE or event.fields.get("region") == CONFIG_REGION
    written = event.kind in (Kind.TRACE_WRITE, Kind.REGION_WRITE)
    return written and is_config and event.fields["function"] == function
