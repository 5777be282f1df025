# SPDX-License-Identifier: MIT
"""Slots of the ports above preserved endpoints: power, interlock, indicators, what they report.

A port that has no slot (PCI Express Capabilities, Slot Implemented) has none of it.
"""

from dataclasses import dataclass
from typing import Final

from pydev.continuity.check import Case, Check, judge_checks
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule
from pydev.continuity.written import Erased, NeverWritten
from pydev.recording.config import field_values, known

_HAS_NO_SLOT: Final = "upstream_port"


@dataclass(frozen=True, slots=True)
class _OfSlot:
    """A check that is one only where there is a slot, which has what is checked."""

    check: Check
    needs: str | None = None
    """A field of SLTCAP."""

    def judge(self, case: Case) -> bool:
        """Ask the port what it has, as far as anybody has read it; then check."""
        if case.function.role == _HAS_NO_SLOT or _says_no(case, "EXP_FLAGS", "slot_implemented"):
            case.notes.append(f"{case.name} has no slot")
            return False
        if self.needs is not None and _says_no(case, "SLTCAP", self.needs):
            case.notes.append(f"the slot of {case.name} has no {self.needs.replace('_', ' ')}")
            return False
        return self.check.judge(case)


def _says_no(case: Case, register: str, field: str) -> bool:
    """Whether a read-only field is known to be 0. What was never read may be anything."""
    history = case.evidence.timeline.history(case.function.index, register)
    entry = None if history is None else history.register.fields.get(field)
    if history is None or entry is None:
        return False
    return known(field_values(history.at(case.blackout.end_ns), entry)) == 0


_POWER: Final[tuple[Check, ...]] = (
    Kept("SLTCTL", "power_controller", at_every_moment=True),
    NeverWritten("SLTCTL", "interlock", "toggles the electromechanical interlock"),
)
_POWER_CHECKS: Final = (_OfSlot(_POWER[0], "power_controller"), _OfSlot(_POWER[1], "interlock"))
_CONTROL: Final[tuple[Kept, ...]] = tuple(
    Kept("SLTCTL", field)
    for field in (
        "attention_button_interrupt", "power_fault_interrupt", "retention_latch_interrupt", "presence_interrupt",
        "command_completed_interrupt", "hotplug_interrupt", "attention_indicator", "power_indicator",
        "link_state_changed", "auto_power_limit_disable", "in_band_presence_disable",
    )
)  # fmt: skip
_EVENTS: Final = Erased(
    "SLTSTA",
    (
        "attention_button_pressed", "power_fault", "retention_latch_changed", "presence_changed",
        "link_state_changed",
    ),
)  # fmt: skip
"""Not Command Completed, which every command sets and its sender clears."""
_CONTROL_CHECKS: Final[tuple[Check, ...]] = (*(_OfSlot(one) for one in _CONTROL), _OfSlot(_EVENTS))

SLOT_POWER: Final = Rule(
    id="SLOT-POWER",
    title="The slot that a preserved endpoint is in, and every slot above it, stays powered and locked",
    hazards=(8, 55),
    severity="D",
    why="Without power everything below the slot is gone, registers, state and DMA, and comes back as after "
    "power-on. Power Controller Control 1 is power off. The interlock holds the board in the slot: a written one "
    "toggles it.",
    acceptable="The slot has no power controller, or no interlock: then the bit does nothing. Nothing below the slot "
    "is preserved.",
    source="PCIe 6.0 7.5.3.10 (Power Controller Control, Electromechanical Interlock Control); linux "
    "drivers/pci/hotplug/pciehp_hpc.c pcie_init, pciehp_power_off_slot",
    planted_fault="SLTCTL of the port above a preserved endpoint written with Power Controller Control 1",
    judge=lambda evidence: judge_checks(
        evidence,
        evidence.bridges,
        _POWER_CHECKS,
        "a slot with a power controller",
    ),
    registers=("SLTCTL.power_controller", "SLTCTL.interlock"),
    writers=(
        "pcie_init -> pciehp_power_off_slot where presence and link read absent (drivers/pci/hotplug/pciehp_hpc.c)",
        "pciehp_disable_slot -> remove_board -> pciehp_power_off_slot (drivers/pci/hotplug/pciehp_ctrl.c)",
    ),
    examines="ports above preserved endpoints that have a slot with a power controller",
    unknown_when="Slot Control was written and nobody saw what it held before",
    vacuous_when="no port of the path has a slot, or its Slot Control was never seen",
)
SLOT_CONTROL: Final = Rule(
    id="SLOT-CONTROL",
    title="Slots above a preserved endpoint end with the interrupts and indicators they had, and with their events",
    hazards=(7, 55),
    severity="H",
    why="An indicator tells a person whether a board may be pulled: one that says off over a device in use asks for "
    "it. An event interrupt that stays off, or an event that is erased unseen, is a removal that nobody notices.",
    acceptable="A moment of another value: hot-plug's interrupts are off from the outgoing kernel's shutdown until "
    "the incoming one has set them up. Command Completed, which belongs to every command.",
    source="PCIe 6.0 7.5.3.10, 7.5.3.11; linux drivers/pci/hotplug/pciehp_hpc.c pcie_init, "
    "pcie_enable_notification, pcie_disable_notification",
    planted_fault="SLTCTL of the port above a preserved endpoint left with the power indicator off",
    judge=lambda evidence: judge_checks(evidence, evidence.bridges, _CONTROL_CHECKS, "a slot"),
    registers=(*(one.label for one in _CONTROL), *(f"SLTSTA.{field}" for field in _EVENTS.fields)),
    writers=(
        "pcie_init_notification -> pcie_enable_notification (drivers/pci/hotplug/pciehp_hpc.c)",
        "pcie_portdrv_shutdown -> pciehp_remove -> pcie_shutdown_notification (drivers/pci/hotplug/pciehp_core.c)",
        "pciehp_set_indicators (drivers/pci/hotplug/pciehp_hpc.c)",
    ),
    examines="ports above preserved endpoints that have a slot",
    vacuous_when="no port of the path has a slot, or its Slot Control was never seen",
)
