# SPDX-License-Identifier: MIT
"""Exchanges of data objects: which writes end one that the outgoing kernel began."""

from collections.abc import Callable

import pytest

from pydev.continuity import Outcome, Result
from pydev.pci.doe import DoeControl, DoeStatus
from pydev.testkit.story import EP0, SWEEP, Story, offset
from pydev.testkit.story_features import READY, features_story

Results = Callable[[Story], dict[str, Result]]
ABORT, GO = DoeControl.compose(abort=1), DoeControl.compose(go=1)


def write(story: Story, ms: float, register: str, value: int) -> None:
    story.write(ms, EP0, offset(EP0, register), value, 4, after=0)
    story.reconnect()


@pytest.mark.parametrize(
    ("register", "value"),
    [("DOE_CTRL", ABORT), ("DOE_CTRL", GO), ("DOE_WRITE", 1), ("DOE_READ", 0)],
    ids=["abort", "go", "another request", "taking the answer"],
)
def test_an_answer_that_waits_is_the_outgoing_kernels(results: Results, register: str, value: int) -> None:
    story = features_story()
    write(story, SWEEP + 5, register, value)
    judged = results(story)["DOE"]
    assert judged.outcome is Outcome.FAIL
    assert judged.findings[0].register == register


def test_an_abort_of_an_idle_mailbox_ends_nothing(results: Results) -> None:
    story = Story()
    write(story, SWEEP + 5, "DOE_CTRL", ABORT)
    judged = results(story)["DOE"]
    assert judged.outcome is Outcome.VACUOUS
    assert "no exchange with 03:00.0 was under way when frozen" in judged.reasons


def test_an_exchange_of_the_incoming_kernels_own_is_its_own(results: Results) -> None:
    story = Story()
    for number in range(3):
        write(story, SWEEP + 5 + number / 10, "DOE_WRITE", number)
    write(story, SWEEP + 6, "DOE_CTRL", GO)
    write(story, SWEEP + 7, "DOE_CTRL", ABORT)
    assert results(story)["DOE"].outcome is Outcome.VACUOUS


# Three ways to slip through: a request half written, a mailbox that is busy, an exchange left to itself.


def test_a_request_half_written_when_frozen_is_under_way(results: Results) -> None:
    story = Story()
    write(story, 140, "DOE_WRITE", 1)
    assert results(story)["DOE"].outcome is Outcome.PASS
    write(story, SWEEP + 5, "DOE_CTRL", ABORT)
    assert results(story)["DOE"].outcome is Outcome.FAIL


def test_a_request_that_was_aborted_before_the_freeze_is_not(results: Results) -> None:
    story = Story()
    write(story, 140, "DOE_WRITE", 1)
    write(story, 141, "DOE_CTRL", ABORT)
    write(story, SWEEP + 5, "DOE_CTRL", ABORT)
    assert results(story)["DOE"].outcome is Outcome.VACUOUS


def test_a_busy_mailbox_is_under_way(results: Results) -> None:
    story = features_story()
    for event in story.tagged(READY):
        event.fields["aux"] = DoeStatus.compose(busy=1)
    write(story, SWEEP + 5, "DOE_CTRL", ABORT)
    assert results(story)["DOE"].outcome is Outcome.FAIL


def test_an_answer_that_nobody_touches_is_still_there(results: Results) -> None:
    assert results(features_story())["DOE"].outcome is Outcome.PASS
