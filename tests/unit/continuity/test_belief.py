# SPDX-License-Identifier: MIT
"""What a kernel says that it believes, held against the registers of that time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pydev.continuity import Outcome, Result, load_timeline
from pydev.continuity.beliefs import state_reports
from pydev.continuity.comparison import compare
from pydev.continuity.evidence import Evidence
from pydev.continuity.rules.belief import BELIEF
from pydev.continuity.rules.routing import BUS_NUMBERS
from pydev.testkit.story import DN1, EP0, EP1, FINISHED, PMCSR, Story
from pydev.testkit.story_state import STATE_MS, tell_state

Told = Callable[[Story], Evidence]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A story written and read again."""
    return lambda story: Evidence(load_timeline(story.save(tmp_path / "recording.lus")))


def messages(result: Result) -> list[str]:
    return [finding.message for finding in result.findings]


def test_a_kernel_that_believes_what_the_registers_hold_passes(told: Told) -> None:
    story = Story()
    tell_state(story)
    evidence = told(story)
    result = BELIEF.judge(evidence)
    assert (result.outcome, messages(result)) == (Outcome.PASS, [])
    (report,) = state_reports(evidence.timeline)
    names = {c.name for belief in report.beliefs for c in compare(evidence, belief)}
    assert names >= {"BAR0", "SECONDARY_BUS", "memory window", "PMCSR.power_state", "MSIX_CONTROL.enable"}


@pytest.mark.parametrize(
    ("function", "wrong", "said"),
    [
        (DN1, {"secondary": 4}, "SECONDARY_BUS of 02:00.0 holds 3, and the kernel believes 4"),
        (EP0, {"power": "D3hot"}, "PMCSR.power_state of 03:00.0 holds D0, and the kernel believes D3hot"),
        (EP0, {"power": "D3cold"}, "PMCSR.power_state of 03:00.0 holds D0, and the kernel believes D3cold"),
        (EP0, {"msix": []}, "MSIX_CONTROL.enable of 03:00.0 holds 1, and the kernel believes 0"),
        (EP0, {"ari": 0}, "DEVCTL2.ari_forwarding of 02:00.0 holds 1, and the kernel believes 0"),
        (
            EP0,
            {"resources": [[0, 0xFD000000, 0x4000, 0x40200]]},
            "BAR0 of 03:00.0 holds 0xfe000000, and the kernel believes 0xfd000000",
        ),
        (EP0, {"resources": []}, "BAR0 of 03:00.0 holds 0xfe000000, and the kernel believes 0x0"),
        (EP0, {"absent": True}, "the kernel knows no function 03:00.0"),
    ],
)
def test_a_wrong_belief_is_named_with_what_is_so(
    told: Told, function: int, wrong: dict[str, Any], said: str
) -> None:
    story = Story()
    tell_state(story)[function].update(wrong)
    result = BELIEF.judge(told(story))
    assert (result.outcome, messages(result)) == (Outcome.FAIL, [said])
    assert result.caused_by is None


def test_a_resource_that_the_kernel_has_not_assigned_is_no_belief(told: Told) -> None:
    story = Story()
    unset = 0x40200 | 0x20000000
    tell_state(story)[EP0]["resources"] = [[0, 0, 0x4000, unset]]
    assert BELIEF.judge(told(story)).outcome is Outcome.PASS


def test_a_device_at_work_that_the_kernel_has_not_enabled_yet_is_no_contradiction(told: Told) -> None:
    story = Story()
    tell_state(story)[EP0]["enable"] = 0
    assert BELIEF.judge(told(story)).outcome is Outcome.PASS


def test_a_device_that_the_kernel_has_enabled_and_that_decodes_nothing_is_one(told: Told) -> None:
    story = Story()
    tell_state(story)
    story.write(FINISHED + 1, EP0, 0x04, 0x104)
    story.reconnect()
    assert messages(BELIEF.judge(told(story))) == [
        "COMMAND.memory_space of 03:00.0 holds 0, and the kernel believes 1"
    ]


def test_a_wrong_belief_about_what_is_not_preserved_is_not_judged(told: Told) -> None:
    story = Story()
    tell_state(story)[EP1]["power"] = "D3hot"
    assert BELIEF.judge(told(story)).outcome is Outcome.PASS


def test_what_the_outgoing_kernel_believed_is_not_judged(told: Told) -> None:
    story = Story()
    tell_state(story, 145)[DN1]["secondary"] = 9
    assert BELIEF.judge(told(story)).outcome is Outcome.VACUOUS


def test_a_kernel_that_was_never_asked_is_not_examined(told: Told) -> None:
    result = BELIEF.judge(told(Story()))
    assert (result.outcome, result.examined) == (Outcome.VACUOUS, 0)


@pytest.mark.parametrize(
    "damage", [{"secondary": "3"}, {"resources": [[0, 1, 2]]}, {"bdf": "nowhere"}, {"msix": [-1]}]
)
def test_a_report_that_makes_no_sense_is_not_taken_for_agreement(told: Told, damage: dict[str, Any]) -> None:
    story = Story()
    tell_state(story)[DN1].update(damage)
    assert BELIEF.judge(told(story)).outcome is Outcome.UNKNOWN


def test_a_register_written_behind_the_kernels_back_names_who_did_it_and_what_it_comes_from(
    told: Told,
) -> None:
    story = Story()
    tell_state(story)
    story.write(FINISHED - 4, DN1, 0x19, 9, 1, by="somebody")
    evidence = told(story)
    results = {BUS_NUMBERS.id: BUS_NUMBERS.judge(evidence)}
    result = BELIEF.judge(Evidence(evidence.timeline, results))
    assert messages(result) == ["SECONDARY_BUS of 02:00.0 holds 9, and the kernel believes 3"]
    assert result.caused_by == "BUS-NUMBERS"
    assert result.findings[0].stack


def test_a_register_that_changed_while_the_kernel_was_asked_agrees_either_way(told: Told) -> None:
    for power in ("D0", "D3hot"):
        story = Story()
        tell_state(story)[EP0]["power"] = power
        story.write(STATE_MS - 0.5, EP0, PMCSR, 3)
        story.reconnect()
        result = BELIEF.judge(told(story))
        assert "PMCSR" not in " ".join(messages(result)), power
