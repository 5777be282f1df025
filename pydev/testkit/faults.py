# SPDX-License-Identifier: MIT
"""One planted fault for each rule: what to do to a clean story so that this rule, of all rules, speaks.

A new rule adds its entry to `PLANTED`; where the plain `Story` gives it nothing to examine, `CLEAN` says which
clean story does; where no kernel can be made to do it, `NOT_IN_A_GUEST` says why. A test goes through the
catalogue and fails for a rule that lacks one. How each fault shows in full (which other rules fail with it, and
by what cause) is for the tests of that rule; what a mutation of a finished file does is `mutations`'s.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydev.continuity.outcome import Outcome
from pydev.ports import Gate, ResetKind
from pydev.recording.format import Flag, IommuRegister, Kind
from pydev.testkit.feature_faults import FEATURE_CLEAN, FEATURE_FAULTS, FEATURE_NOT_IN_A_GUEST
from pydev.testkit.path_faults import PATH_CLEAN, PATH_FAULTS, SHOWN_BY_NO_FAULT
from pydev.testkit.story import (
    DN1,
    EP0,
    EP1,
    EP_DEVCTL,
    EP_LNKCTL,
    PMCSR,
    RAM_BYTES,
    RP1,
    SWEEP,
    UP1,
    Event,
    Story,
    at,
    offset,
)
from pydev.testkit.story_iommu import AT_WORK, count, iommu_story, tell
from pydev.testkit.story_state import TAG as STATE
from pydev.testkit.story_state import state_story

Fault = Callable[[Story], None]


def clear_endpoint_bus_master(story: Story) -> None:
    """As `pci_clear_master` does to an endpoint at shutdown; the agent sets it again."""
    story.write(172, EP0, 0x04, 0x102, tag="fault")
    story.block(172, 240, Gate.BUS_MASTER_OFF)
    story.write(240, EP0, 0x04, 0x106)
    story.reconnect()


def clear_bridge_bus_master(story: Story) -> None:
    """As `pci_clear_master` does to a switch port at shutdown."""
    story.write(173, UP1, 0x04, 0x103, tag="fault")


def leave_control_bus_master(story: Story) -> None:
    """An endpoint that is not preserved goes on mastering into the incoming kernel."""
    story.remove(lambda e: e.tag == "shutdown" and e.fields.get("function") == EP1)
    story.reconnect()


def renumber_bus(story: Story) -> None:
    """As `pci_scan_bridge_extend` does: the dword at 18h written 0 and then as it was, between two transactions."""
    story.trace(SWEEP + 3.1, UP1, 0x18, 0x00030201, write=False)
    story.write(SWEEP + 3.2, UP1, 0x18, 0, 4, tag="fault")
    story.write(SWEEP + 3.3, UP1, 0x18, 0x00030201, 4)


def renumber_bus_above_stream(story: Story) -> None:
    """The bus above the streaming endpoint has another number while transactions pass."""
    story.write(SWEEP + 15, DN1, 0x19, 9, 1, tag="fault")
    story.write(SWEEP + 19.5, DN1, 0x19, 3, 1)


def power_down(story: Story) -> None:
    """As a driver's bind does: D3hot, and back 13 ms later."""
    story.write(232, EP0, PMCSR, 3, tag="fault")
    story.block(232, 245, Gate.POWER_STATE)
    story.write(245, EP0, PMCSR, 0)
    story.reconnect()


def function_level_reset(story: Story) -> None:
    """As `pcie_flr` does at probe, with all that a reset takes away; the guest puts registers back."""
    story.write(225, EP0, EP_DEVCTL, 0xA810, after=0x2810, tag="fault")
    story.add(225.1, Kind.GATE, function=EP0, extra=0, aux=int(Gate.IN_RESET))
    for event in story.tagged("stop"):
        event.t_ns = at(225.15)
    story.remove(lambda e: e.kind == Kind.DMA_WRITE and e.t_ns > at(225.15))
    closed = int(Gate.BUS_MASTER_OFF)
    story.add(225.4, Kind.GATE, function=EP0, extra=int(Gate.IN_RESET), aux=closed)
    story.add(225.4, Kind.RESET, function=EP0, value=int(ResetKind.FUNCTION_LEVEL))
    story.update(225.41, EP0, 0x04, 0x00100000)
    story.update(225.41, EP0, 0x10, 0)
    story.write(228, EP0, 0x10, 0xFE000000, 4)
    story.add(228.2, Kind.GATE, function=EP0, extra=closed, aux=0)
    story.write(228.2, EP0, 0x04, 0x106)
    story.reconnect()


def drop_acs(story: Story) -> None:
    """ACS Control of the root port cleared by the incoming kernel."""
    story.write(SWEEP + 5, RP1, offset(RP1, "ACS_CONTROL"), 0, tag="fault")


def drop_ari(story: Story) -> None:
    """ARI Forwarding of the port above the preserved endpoint cleared by the incoming kernel."""
    story.write(SWEEP + 5, DN1, offset(DN1, "DEVCTL2"), 0, tag="fault")


def change_payload_size(story: Story) -> None:
    """The endpoint's Max_Payload_Size left at another value."""
    story.write(SWEEP + 5, EP0, EP_DEVCTL, 0x2830, tag="fault")


def change_link(story: Story) -> None:
    """The endpoint's Read Completion Boundary left at another value."""
    story.write(SWEEP + 5, EP0, EP_LNKCTL, 0x08, tag="fault")


def move_bar(story: Story) -> None:
    """The endpoint's BAR 0 gets another address back after sizing."""
    for event in story.tagged(f"bar back {EP0}"):
        event.fields["value"] = 0xFD000000
        if event.kind == Kind.REGION_WRITE:
            event.fields["aux"] = 0xFD000000


def leave_msix_enabled(story: Story) -> None:
    """The incoming kernel never clears MSI-X Enable."""
    story.remove_tag("msix off")
    story.reconnect()


def withhold_catch_up(story: Story) -> None:
    """The driver finishes without ringing its device's doorbell."""
    story.remove_tag("doorbell")
    story.remove_tag("catch-up")


def believe_wrongly(story: Story) -> None:
    """The incoming kernel takes a bridge to have another bus below it than its register says."""
    (report,) = [event for event in story.tagged(STATE) if event.members and "functions" in event.members]
    assert report.members is not None
    next(said for said in report.members["functions"] if "secondary" in said)["secondary"] += 1


def refuse_transaction(story: Story) -> None:
    """One transaction of the blackout refused, with no write that explains it."""
    story.block(180, 181, Gate.BUS_MASTER_OFF)


def misdirect_transaction(story: Story) -> None:
    """One transaction goes to a page that nobody preserved."""
    story.writes()[60].fields["address"] = 0x9000 << 12


def refuse_retrieve(story: Story) -> None:
    """The incoming kernel finds a page missing and gives nothing back; what follows from it does not happen."""
    _replace_report(story.tagged("retrieve")[-1], errno=14, error="page is not preserved", page=1)
    _replace_report(story.tagged("finish")[-1], errno=16)
    story.remove_tag("check")
    story.remove(lambda e: e.tag in ("doorbell", "catch-up", "msix anew", "vectors anew"))


def _replace_report(event: Event, **members: Any) -> None:
    assert event.members is not None
    for name in ("report", "ranges", "driver"):
        event.members.pop(name, None)
    event.members |= {"ok": False, **members}


def reboot_without_orchestrator(story: Story) -> None:
    """The incoming kernel is one that has no orchestrator: it came by plain kexec."""
    for event in story.tagged("incoming hello"):
        assert event.members is not None
        event.members["liveupdate"] = False


def lose_witness(story: Story) -> None:
    """One config write taken out of the trace."""
    assert story.remove(lambda e: e.kind == Kind.TRACE_WRITE and e.tag == "msix off") == 1


def lose_agent_line(story: Story) -> None:
    """One line of the agent channel never came: its number is left out."""
    for event in story.tagged("incoming hello"):
        assert event.members is not None
        event.members["seq"] = 2


def unmap_ring(story: Story) -> None:
    """The device is put into another domain while the incoming kernel boots: its ring leads nowhere."""
    story.add(SWEEP + 25, Kind.DMA_UNMAP, function=EP0, address=0, value=RAM_BYTES, tag="fault")
    ram = {"value": RAM_BYTES, "aux": 3, "flags": int(Flag.HAS_FD)}
    story.add(SWEEP + 26, Kind.DMA_MAP, function=EP0, address=0, tag="fault", **ram)


def turn_translation_off(story: Story) -> None:
    """As `intel_iommu_shutdown` does, to a ring that is not the identity."""
    for event in story.tagged("ram"):
        event.fields["extra"] = 1 << 20
    tell(story, 172, IommuRegister.GCMD, AT_WORK & ~(1 << 31), AT_WORK, tag="fault")
    count(story)


def turn_remapping_off(story: Story) -> None:
    """As `iommu_disable_irq_remapping` does, before MSI-X is disabled."""
    tell(story, SWEEP + 1, IommuRegister.GCMD, AT_WORK & ~(1 << 25), AT_WORK, tag="fault")
    count(story)


def turn_invalidation_off(story: Story) -> None:
    """As `dmar_disable_qi` does."""
    tell(story, SWEEP + 1, IommuRegister.GCMD, AT_WORK & ~(1 << 26), AT_WORK, tag="fault")
    count(story)


PLANTED: dict[str, Fault] = {
    "RECORD-COMPLETE": lose_agent_line,
    "WRITES-AGREE": lose_witness,
    "PRESERVED-SET": refuse_retrieve,
    "GUEST-UPDATED": reboot_without_orchestrator,
    "POWER-STATE": power_down,
    "RESET": function_level_reset,
    "BME-ENDPOINT": clear_endpoint_bus_master,
    "BME-BRIDGE": clear_bridge_bus_master,
    "CONTROL-CLEARED": leave_control_bus_master,
    "BUS-NUMBERS": renumber_bus,
    "REQUESTER-ID": renumber_bus_above_stream,
    "ACS-CONTROL": drop_acs,
    "ARI-FORWARDING": drop_ari,
    "DEVICE-CONTROL": change_payload_size,
    "LINK-CONTROL": change_link,
    "BAR-FINAL": move_bar,
    "MSIX-TAKEOVER": leave_msix_enabled,
    "CATCH-UP": withhold_catch_up,
    "BELIEF": believe_wrongly,
    "IOMMU-TRANSLATION": turn_translation_off,
    "IOMMU-INTERRUPTS": turn_remapping_off,
    "IOMMU-INVALIDATION": turn_invalidation_off,
    "IOVA-MAPPING": unmap_ring,
    "DMA-CONTINUITY": refuse_transaction,
    "DMA-INTEGRITY": misdirect_transaction,
    **FEATURE_FAULTS,
    **PATH_FAULTS,
}
"""Rule id → what spoils that rule's clean story so that the rule FAILs (or is as `SPOILT` says)."""

CLEAN: dict[str, Callable[[], Story]] = dict.fromkeys(
    ("IOMMU-TRANSLATION", "IOMMU-INTERRUPTS", "IOMMU-INVALIDATION"), iommu_story
) | {"BELIEF": state_story, **FEATURE_CLEAN, **PATH_CLEAN}
"""Rule id → a clean story in which the rule has something to examine, where `Story()` gives it nothing."""

SPOILT: dict[str, Outcome] = {"RECORD-COMPLETE": Outcome.UNKNOWN, "WRITES-AGREE": Outcome.UNKNOWN}
"""Rule id → what it says of its planted fault, where that is not FAIL: rules about the bench itself."""

NOT_IN_A_GUEST: dict[str, str] = {
    "RECORD-COMPLETE": "the bench's own: a guest cannot take an event out of the record",
    "WRITES-AGREE": "the bench's own: a guest cannot take a write out of one account of three",
    "DMA-INTEGRITY": "what a stray device destroys in a real guest, and so whether the guest lives to report "
    "it, is chance",
    **FEATURE_NOT_IN_A_GUEST,
    **SHOWN_BY_NO_FAULT,
}
"""Rule id → why no fault of the planted kernel fails it."""


JUDGED_ALONE: Final = frozenset({"CONFIG-QUIET"})
"""Rules that no update keeps which takes interrupts over: the clean story of any other rule breaks them."""


def clean_story(rule: str) -> Story:
    """A clean story in which a rule has something to examine."""
    return CLEAN.get(rule, Story)()


def planted_story(rule: str, faults: Mapping[str, Fault] = PLANTED) -> Story:
    """A rule's clean story with its fault in it; KeyError where nobody planted one."""
    story = clean_story(rule)
    faults[rule](story)
    return story


def spoilt_outcome(rule: str) -> Outcome:
    """What a rule has to say of its planted fault."""
    return SPOILT.get(rule, Outcome.FAIL)


ALL_TABLES: Final = (PLANTED, CLEAN, SPOILT, NOT_IN_A_GUEST)
"""Every table by rule id: none may name a rule that does not exist."""
