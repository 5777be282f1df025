# SPDX-License-Identifier: MIT
"""Planted faults of the rules about features, reporting and silence, and the clean stories they spoil.

`faults` puts them among the others.
"""

from collections.abc import Callable
from typing import Final

from pydev.pci.doe import DoeControl
from pydev.pci.dpc import DpcControl
from pydev.pci.express_port import SlotControl
from pydev.pci.l1ss import L1ssControl1
from pydev.pci.pri import PriControl
from pydev.testkit.story import DN1, EP0, RP1, SWEEP, UPDATED, Story, offset
from pydev.testkit.story_dumps import SLOT_ON
from pydev.testkit.story_features import ATS_ON, L1SS_ON, features_story, quiet_story, rescan_story

_AT: Final = SWEEP + 5
"""While the incoming kernel scans its buses."""


def mask_errors(story: Story) -> None:
    """As a kernel with other ideas of error reporting does: nothing uncorrectable is masked any more."""
    story.write(_AT, EP0, offset(EP0, "AER_UNCOR_MASK"), 0, 4, tag="fault")


def clear_secondary_status(story: Story) -> None:
    """As `pci_scan_bridge_extend` does: ones to every status bit, unread."""
    story.write(_AT, DN1, offset(DN1, "SEC_STATUS"), 0xFFFF, tag="fault")


def power_slot_off(story: Story) -> None:
    """As `pciehp_power_off_slot` does, and on again 2 ms later."""
    place, off = offset(DN1, "SLTCTL"), SlotControl.power_controller.insert(SLOT_ON, 1)
    story.write(_AT, DN1, place, off, tag="fault", by="pciehp_power_off_slot")
    story.write(_AT + 2, DN1, place, SLOT_ON)


def put_indicator_out(story: Story) -> None:
    """The slot's power indicator says that the board may be pulled."""
    value = SlotControl.power_indicator.insert(SLOT_ON, 3)
    story.write(_AT, DN1, offset(DN1, "SLTCTL"), value, tag="fault", by="pciehp_set_indicators")


def silence_root(story: Story) -> None:
    """As `aer_enable_rootport` and `pcie_pme_interrupt_enable` do, and nobody switches anything on."""
    story.write(_AT, RP1, offset(RP1, "RTCTL"), 0, tag="fault")


def forget_pme(story: Story) -> None:
    """As `pci_pme_active` does: the status cleared, the enable bit off."""
    story.write(_AT, EP0, offset(EP0, "PMCSR"), 0x8000, after=0, tag="fault", by="__pci_pme_active")


def disable_containment(story: Story) -> None:
    """As `dpc_disable` does, and nobody enables it again."""
    value = DpcControl.compose()
    story.write(_AT, DN1, offset(DN1, "DPC_CTL"), value, tag="fault", by="dpc_disable")


def silence_link(story: Story) -> None:
    """As `pcie_bwnotif_disable` does, and nobody enables it again."""
    story.write(_AT, DN1, offset(DN1, "LNKCTL"), 0, tag="fault", by="pcie_bwnotif_disable")


def change_substates(story: Story) -> None:
    """As `pcie_config_aspm_l1ss` does: L1.2 off at one end."""
    value = L1ssControl1.aspm_l1_2.insert(L1SS_ON, 0)
    story.write(_AT, EP0, offset(EP0, "L1SS_CTL1"), value, 4, tag="fault", by="pcie_config_aspm_l1ss")


def abort_exchange(story: Story) -> None:
    """As `pci_doe_abort` does, while an answer waits to be read."""
    abort = DoeControl.compose(abort=1)
    story.write(_AT, EP0, offset(EP0, "DOE_CTRL"), abort, 4, after=0, tag="fault", by="pci_doe_abort")
    story.update(_AT + 0.01, EP0, offset(EP0, "DOE_STATUS"), 0)
    story.reconnect()


def disable_stream(story: Story) -> None:
    """As `pci_ide_stream_disable` does to an encrypted stream."""
    story.write(_AT, EP0, offset(EP0, "IDE_SELECTIVE_CTL"), 0, 4, tag="fault", by="pci_ide_stream_disable")


def prepare_ats(story: Story) -> None:
    """As `pci_prepare_ats` does: the unit alone, Enable clear; then `pci_enable_ats`."""
    place = offset(EP0, "ATS_CTRL")
    story.write(_AT, EP0, place, ATS_ON & 0x1F, tag="fault", by="pci_prepare_ats")
    story.write(_AT + 20, EP0, place, ATS_ON, by="pci_enable_ats")


def reset_page_requests(story: Story) -> None:
    """As `pci_reset_pri` does, to an interface that is on."""
    value = PriControl.compose(enable=1, reset=1)
    story.write(_AT, EP0, offset(EP0, "PRI_CTRL"), value, after=1, tag="fault", by="pci_reset_pri")


def destroy_virtual_functions(story: Story) -> None:
    """As `sriov_init` does to virtual functions that it finds."""
    story.write(_AT, EP0, offset(EP0, "SRIOV_CTRL"), 0, tag="fault", by="sriov_init")


def set_up_again(story: Story) -> None:
    """As a scan does to a device that was taken out: its BAR sized while it works."""
    story.write(UPDATED + 20, EP0, 0x10, 0xFFFFFFFF, 4, after=0xFFFFC000, tag="fault", by="__pci_size_bars")
    story.write(UPDATED + 20.2, EP0, 0x10, 0xFE000000, 4, by="__pci_size_bars")
    story.reconnect()


def write_something(story: Story) -> None:
    """A harmless write, to a register that does nothing."""
    story.write(_AT, EP0, offset(EP0, "CACHE_LINE_SIZE"), 0x10, 1, tag="fault")
    story.reconnect()


FEATURE_FAULTS: Final[dict[str, Callable[[Story], None]]] = {
    "SLOT-POWER": power_slot_off,
    "L1SS": change_substates,
    "LINK-NOTIFICATION": silence_link,
    "ERROR-REPORTING": mask_errors,
    "ERROR-EVIDENCE": clear_secondary_status,
    "SLOT-CONTROL": put_indicator_out,
    "ROOT-CONTROL": silence_root,
    "PME": forget_pme,
    "DPC": disable_containment,
    "DOE": abort_exchange,
    "IDE": disable_stream,
    "ATS": prepare_ats,
    "PRI-PASID": reset_page_requests,
    "SRIOV": destroy_virtual_functions,
    "RESCAN": set_up_again,
    "CONFIG-QUIET": write_something,
}
FEATURE_CLEAN: Final[dict[str, Callable[[], Story]]] = {
    **dict.fromkeys(set(FEATURE_FAULTS) - {"SLOT-POWER", "SLOT-CONTROL", "ERROR-REPORTING"}, features_story),
    "RESCAN": rescan_story,
    "CONFIG-QUIET": quiet_story,
}
FEATURE_NOT_IN_A_GUEST: Final = {
    "ERROR-EVIDENCE": "an error bit is set by hardware alone, and neither QEMU's ports nor these endpoints make "
    "an error in a run",
    "LINK-NOTIFICATION": "QEMU's ports hardwire Link Control to 0",
}
"""Rule id → why no fault of the planted kernel fails it."""
