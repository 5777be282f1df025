# SPDX-License-Identifier: MIT
"""Slots: what takes power from a preserved endpoint, and what only tells of it."""

from collections.abc import Callable

import pytest

from pydev.continuity import Outcome, Result
from pydev.pci.express_port import SlotControl
from pydev.testkit.story import DN1, RP1, RP2, SWEEP, UP1, Story, at, offset
from pydev.testkit.story_dumps import SLOT_ON

Results = Callable[[Story], dict[str, Result]]
POWER_OFF = SlotControl.power_controller.insert(SLOT_ON, 1)
INTERLOCK = SlotControl.interlock.insert(SLOT_ON, 1)


def written(bridge: int, value: int, ms: float = SWEEP + 5) -> Story:
    story = Story()
    story.write(ms, bridge, offset(bridge, "SLTCTL"), value, 2, by="pciehp_power_off_slot")
    return story


@pytest.mark.parametrize("bridge", [DN1, RP1])
def test_power_off_anywhere_above_fails_and_names_who_did_it(results: Results, bridge: int) -> None:
    judged = results(written(bridge, POWER_OFF))["SLOT-POWER"]
    assert judged.outcome is Outcome.FAIL
    assert judged.findings[0].function == "pciehp_power_off_slot"


def test_power_that_comes_back_at_once_has_been_lost_all_the_same(results: Results) -> None:
    story = written(DN1, POWER_OFF)
    story.write(SWEEP + 5.001, DN1, offset(DN1, "SLTCTL"), SLOT_ON, 2)
    assert results(story)["SLOT-POWER"].outcome is Outcome.FAIL


def test_the_interlock_is_toggled_by_a_written_one_although_it_reads_0(results: Results) -> None:
    judged = results(written(DN1, INTERLOCK))["SLOT-POWER"]
    assert judged.outcome is Outcome.PASS  # the slot has none, and the bit does nothing
    story = written(DN1, INTERLOCK)
    story.port_sets(0, DN1, "SLTCAP", 1 << 17)
    judged = results(story)["SLOT-POWER"]
    assert judged.outcome is Outcome.FAIL
    assert "toggles the electromechanical interlock" in judged.findings[0].message


def test_a_slot_that_nothing_preserved_is_in_may_be_switched_off(results: Results) -> None:
    assert results(written(RP2, POWER_OFF))["SLOT-POWER"].outcome is Outcome.PASS


def test_an_upstream_port_has_no_slot(results: Results) -> None:
    assert results(written(UP1, 0x400))["SLOT-POWER"].outcome is Outcome.PASS


def test_a_slot_without_a_power_controller_has_none_to_lose(results: Results) -> None:
    story = Story()
    story.remove_tag("dump")
    for ms in (161, 289):  # what a guest reads of it, and no more
        for bridge in (DN1, RP1):
            story.trace(ms, bridge, offset(bridge, "SLTCAP"), 0x40000, write=False)
            story.trace(ms + 0.01, bridge, offset(bridge, "SLTCTL"), 0, write=False)
    judged = results(story)["SLOT-POWER"]
    assert judged.outcome is not Outcome.PASS


def test_power_switched_off_where_nobody_had_looked_is_not_known(results: Results) -> None:
    story = written(DN1, POWER_OFF)
    story.remove_tag("dump")
    assert results(story)["SLOT-POWER"].outcome is Outcome.UNKNOWN


def test_a_dword_over_control_and_status_reaches_the_power_controller(results: Results) -> None:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "SLTCTL"), POWER_OFF | 0x10_0000, 4)
    assert results(story)["SLOT-POWER"].outcome is Outcome.FAIL


def test_an_event_of_the_slot_that_is_erased_unseen_fails(results: Results) -> None:
    story = Story()
    story.port_sets(100, DN1, "SLTSTA", 0x8)
    story.write(SWEEP + 5, DN1, offset(DN1, "SLTSTA"), 0x8, 2, by="pcie_init")
    judged = results(story)["SLOT-CONTROL"]
    assert judged.outcome is Outcome.FAIL
    assert judged.findings[0].field == "presence_changed"


def test_command_completed_belongs_to_every_command(results: Results) -> None:
    story = Story()
    story.port_sets(100, DN1, "SLTSTA", 0x10)
    story.write(SWEEP + 5, DN1, offset(DN1, "SLTSTA"), 0x10, 2)
    assert results(story)["SLOT-CONTROL"].outcome is Outcome.PASS


def test_hot_plugs_interrupts_may_be_off_between_the_kernels(results: Results) -> None:
    story = Story()
    place, on = offset(DN1, "SLTCTL"), SLOT_ON | 0x38
    story.write(40, DN1, place, on, 2)
    story.write(172, DN1, place, SLOT_ON, 2, by="pcie_disable_notification")
    story.write(240, DN1, place, on, 2, by="pcie_enable_notification")
    assert results(story)["SLOT-CONTROL"].outcome is Outcome.PASS
    story.remove(lambda e: e.t_ns > at(239) and e.fields.get("address") == place and e.tag != "dump")
    assert results(story)["SLOT-CONTROL"].outcome is Outcome.FAIL
