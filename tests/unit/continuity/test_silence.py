# SPDX-License-Identifier: MIT
"""No config write at all: whom it is about, and when silence proves nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import Outcome, Result, Verdict
from pydev.testkit import faults
from pydev.testkit.story import DN1, EP0, EP1, FINISHED, FROZEN, RP1, RP2, SWEEP, UP1, Story, offset
from pydev.testkit.story_features import quiet_story

Judge = Callable[..., Verdict]
Silence = Callable[[Story], Result]


@pytest.fixture
def silence(judge: Judge, tmp_path: Path) -> Silence:
    """Judges a story by CONFIG-QUIET alone."""
    policy = tmp_path / "quiet.toml"
    policy.write_text('[[judge]]\nrule = "CONFIG-QUIET"\nlevel = "required"\n')

    def judged(story: Story) -> Result:
        verdict = judge(story, policy=policy)
        return next(entry.result for entry in verdict.rules if entry.rule.id == "CONFIG-QUIET")

    return judged


def test_an_update_in_which_nobody_writes_passes(silence: Silence) -> None:
    judged = silence(quiet_story())
    assert (judged.outcome, judged.examined) == (Outcome.PASS, 4)


def test_the_planted_fault_is_named_with_its_author(silence: Silence) -> None:
    judged = silence(faults.planted_story("CONFIG-QUIET"))
    assert [(f.message, f.function) for f in judged.findings] == [
        ("CACHE_LINE_SIZE 0 -> 0x10 at 03:00.0 in enumeration", "pci_setup_device")
    ]


@pytest.mark.parametrize("function", [EP0, DN1, UP1, RP1])
def test_a_write_that_changes_nothing_is_a_write(silence: Silence, function: int) -> None:
    story = quiet_story()
    held = 0x106 if function == EP0 else 0x107
    story.write(SWEEP + 5, function, 0x04, held, 2)
    (finding,) = silence(story).findings
    assert finding.message.startswith(f"COMMAND written with {held:#x} and still {held:#x} at ")


def test_a_write_over_several_registers_is_a_finding_for_each(silence: Silence) -> None:
    story = quiet_story()
    story.write(SWEEP + 5, UP1, 0x18, 0x00030201, 4)
    assert [finding.register for finding in silence(story).findings] == [
        "PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS", "SEC_LATENCY_TIMER",
    ]  # fmt: skip


def test_a_write_where_nothing_is_declared_is_found_and_says_where(silence: Silence) -> None:
    story = quiet_story()
    story.write(SWEEP + 5, EP0, 0xFC, 0x55, 1, after=0)
    (finding,) = silence(story).findings
    assert finding.message == "0x55 written to 03:00.0 at 0xfc, where no register is declared"


@pytest.mark.parametrize("function", [EP1, RP2])
def test_what_is_not_preserved_may_be_written(silence: Silence, function: int) -> None:
    story = quiet_story()
    story.write(SWEEP + 5, function, 0x0C, 0x10, 1)
    assert silence(story).outcome is Outcome.PASS


@pytest.mark.parametrize("ms", [FROZEN - 5, FINISHED + 4])
def test_a_write_before_or_after_does_not_count(silence: Silence, ms: float) -> None:
    story = quiet_story()
    story.write(ms, EP0, offset(EP0, "CACHE_LINE_SIZE"), 0x10, 1)
    story.reconnect()
    assert silence(story).outcome is Outcome.PASS


# Three ways to slip through: nobody looked, no end, nothing preserved.


def test_silence_of_a_port_that_nobody_ever_saw_proves_nothing(silence: Silence) -> None:
    story = quiet_story()
    story.remove(lambda e: e.is_trace and e.fields["function"] == UP1)
    judged = silence(story)
    assert judged.outcome is Outcome.UNKNOWN
    assert "no access to" in judged.findings[0].message


def test_without_a_finish_it_is_not_known(silence: Silence) -> None:
    story = quiet_story()
    story.remove_tag("finish")
    assert silence(story).outcome is Outcome.UNKNOWN


def test_with_nothing_preserved_it_is_vacuous(silence: Silence) -> None:
    assert silence(Story(preserve=False)).outcome is Outcome.VACUOUS


def test_without_the_plugin_a_traced_write_is_found_by_its_least_width(silence: Silence) -> None:
    story = Story(plugin=False)
    story.write(SWEEP + 5, UP1, 0x0C, 0x10, 1)
    assert "CACHE_LINE_SIZE" in {finding.register for finding in silence(story).findings}
