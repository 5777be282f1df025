# SPDX-License-Identifier: MIT
"""Scanning again and taking out before the finish: what is found, and what may be done."""

from collections.abc import Callable

import pytest

from pydev.continuity import Outcome, Result
from pydev.recording.format import Kind
from pydev.testkit.story import DN1, EP0, EP1, FINISHED, RP2, UP1, UPDATED, Story, at, offset
from pydev.testkit.story_features import rescan_story

Results = Callable[[Story], dict[str, Result]]
REMOVAL = (
    "pci_pme_active", "pci_pm_runtime_suspend", "pci_stop_dev", "pci_stop_bus_device",
    "pci_stop_and_remove_bus_device_locked", "remove_store",
)  # fmt: skip


def test_a_scan_that_only_reads_passes_and_counts_the_places_it_asked(results: Results) -> None:
    judged = results(rescan_story())["RESCAN"]
    assert (judged.outcome, judged.examined) == (Outcome.PASS, 4)


def test_without_a_second_scan_there_is_nothing_to_judge(results: Results) -> None:
    judged = results(Story())["RESCAN"]
    assert judged.outcome is Outcome.VACUOUS
    assert judged.reasons == ("no bus was scanned again, and nothing was taken out, before the finish",)


def test_reads_of_functions_that_are_there_are_no_scan(results: Results) -> None:
    story = Story()
    story.trace(UPDATED + 10, EP0, 0, 0x4C551DE5, write=False)
    story.trace(UPDATED + 10.1, DN1, 0, 0x8233104C, write=False)
    assert results(story)["RESCAN"].outcome is Outcome.VACUOUS


def test_the_same_values_written_again_pass(results: Results) -> None:
    story = rescan_story()
    story.write(UPDATED + 15, UP1, 0x18, 0x00030201, 4)
    story.write(UPDATED + 16, EP0, 0x10, 0xFE000000, 4)
    assert results(story)["RESCAN"].outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("function", "register", "value", "width", "back"),
    [
        (EP0, "BAR0", 0xFFFFC000, 4, 0xFE000000),
        (UP1, "PRIMARY_BUS", 0, 4, 0x00030201),
        (DN1, "PREF_BASE_UPPER32", 0xFFFFFFFF, 4, 0),
    ],
    ids=["a BAR sized", "bus numbers zeroed", "a window closed"],
)
def test_a_device_set_up_again_fails(
    results: Results, function: int, register: str, value: int, width: int, back: int
) -> None:
    story = rescan_story()
    story.trace(UPDATED + 19.5, DN1, offset(DN1, "PREF_BASE_UPPER32"), 0, write=False)
    story.write(UPDATED + 20, function, offset(function, register), value, width)
    story.write(UPDATED + 20.2, function, offset(function, register), back, width)
    story.reconnect()
    judged = results(story)["RESCAN"]
    assert judged.outcome is Outcome.FAIL
    assert "by a kernel that is up already" in judged.findings[0].message


def test_any_write_while_the_device_is_taken_out_fails_and_names_the_removal(results: Results) -> None:
    story = Story()
    story.write(UPDATED + 20, EP0, offset(EP0, "PMCSR"), 0x8000, 2, after=0, stack=REMOVAL)
    judged = results(story)["RESCAN"]
    assert judged.outcome is Outcome.FAIL
    assert judged.findings[0].message.endswith("while pci_stop_dev takes it out")


# Three ways to slip through: a bridge instead of the device, a removal after its last read, no finish.


def test_a_bridge_above_that_is_taken_out_fails_as_well(results: Results) -> None:
    story = Story()
    story.write(UPDATED + 20, DN1, 0x04, 0x103, 2, stack=("pci_disable_device", *REMOVAL[2:]))
    assert results(story)["RESCAN"].outcome is Outcome.FAIL


def test_what_is_not_preserved_may_be_taken_out(results: Results) -> None:
    story = rescan_story()
    story.write(UPDATED + 20, EP1, offset(EP1, "PMCSR"), 0x8000, 2, after=0, stack=REMOVAL)
    story.write(UPDATED + 21, RP2, 0x18, 0, 4)
    story.write(UPDATED + 21.1, RP2, 0x18, 0x00040400, 4)
    story.reconnect()
    assert results(story)["RESCAN"].outcome is Outcome.PASS


def test_a_scan_that_was_not_seen_to_its_end_is_not_known(results: Results) -> None:
    story = rescan_story()
    story.remove_tag("finish")
    assert results(story)["RESCAN"].outcome is Outcome.UNKNOWN


def test_the_incoming_kernels_own_first_scan_is_none_of_it(results: Results) -> None:
    story = Story()
    assert any(e.kind is Kind.TRACE_READ and e.fields.get("error") for e in story.events)
    assert results(story)["RESCAN"].outcome is Outcome.VACUOUS


def test_a_scan_after_the_finish_is_none_of_it(results: Results) -> None:
    story = rescan_story()
    for event in story.events:
        if event.t_ns > at(UPDATED) and event.fields.get("error") and event.kind is Kind.TRACE_READ:
            event.t_ns += at(FINISHED + 5) - at(UPDATED + 14)
    assert results(story)["RESCAN"].outcome is Outcome.VACUOUS
