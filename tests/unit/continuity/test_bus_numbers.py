# SPDX-License-Identifier: MIT
"""Bus numbers, each of the three, of bridges above a preserved endpoint and of the others; power states."""

from collections.abc import Callable

import pytest

from pydev.continuity import Outcome, Result
from pydev.ports import Gate
from pydev.testkit.story import DN1, EP0, PMCSR, RP2, SWEEP, UP1, Story

Results = Callable[[Story], dict[str, Result]]
T = SWEEP + 5.3


def result(answers: dict[str, Result], rule: str) -> Result:
    return answers[rule]


def only_message(answers: dict[str, Result], rule: str = "BUS-NUMBERS") -> str:
    findings = result(answers, rule).findings
    assert len(findings) == 1, findings
    return findings[0].message


def test_a_subordinate_number_alone_that_shrinks_cuts_buses_off(results: Results) -> None:
    story = Story()
    story.write(T, UP1, 0x1A, 2, 1)
    assert only_message(results(story)) == (
        "SUBORDINATE_BUS 3 -> 2 at 01:00.0 in enumeration, alone: bus 3 below can no longer be reached, nor "
        "completions routed there"
    )


def test_a_subordinate_number_alone_that_grows_takes_buses_from_others(results: Results) -> None:
    story = Story()
    story.write(T, UP1, 0x1A, 7, 1)
    assert "alone: buses 4 to 7 now lead below it, whoever had them" in only_message(results(story))


def test_a_primary_number_alone_fails_and_says_what_it_leads_to(results: Results) -> None:
    story = Story()
    story.write(T, DN1, 0x18, 9, 1)
    message = only_message(results(story))
    assert message.startswith(
        "PRIMARY_BUS 2 -> 9 at 02:00.0 in enumeration: a scan takes a bridge for broken"
    )


def test_what_comes_back_is_not_said_to_take_anything(results: Results) -> None:
    story = Story()
    story.write(T, UP1, 0x1A, 1, 1)
    story.write(T + 0.2, UP1, 0x1A, 3, 1)
    messages = [finding.message for finding in result(results(story), "BUS-NUMBERS").findings]
    assert messages[1] == "SUBORDINATE_BUS 1 -> 3 at 01:00.0 in enumeration, as it was"


def test_a_dword_that_changes_all_three_does_not_call_one_of_them_alone(results: Results) -> None:
    story = Story()
    story.write(T, DN1, 0x18, 0x00050401, 4)
    messages = [finding.message for finding in result(results(story), "BUS-NUMBERS").findings]
    assert len(messages) == 3
    assert not any("alone" in message for message in messages)


def test_a_neighbours_number_is_kept_as_well(results: Results) -> None:
    """The series keeps every numbered bridge's as soon as anything is preserved."""
    story = Story()
    story.write(T, RP2, 0x1A, 9, 1)
    assert only_message(results(story)).startswith(
        "SUBORDINATE_BUS 4 -> 9 at 00:02.0 in enumeration (above nothing preserved), alone: buses 5 to 9 now lead"
    )


def test_a_neighbour_that_takes_the_preserved_bus_for_a_moment_fails(results: Results) -> None:
    story = Story()
    story.write(T, RP2, 0x19, 3, 1)
    story.write(T + 0.1, RP2, 0x19, 4, 1)
    assert result(results(story), "BUS-NUMBERS").outcome is Outcome.FAIL


def unnumbered() -> Story:
    """RP2 has no bus numbers when the guest is frozen, and gets some."""
    story = Story()
    story.write(140, RP2, 0x18, 0, 4)
    story.remove(lambda e: e.is_trace and e.fields["function"] == 1 and e.fields["region"] >> 8 == 4)
    story.write(T, RP2, 0x18, 0x00040400, 4)
    return story


def test_a_bridge_that_had_no_numbers_may_get_some(results: Results) -> None:
    assert result(results(unnumbered()), "BUS-NUMBERS").outcome is Outcome.PASS


@pytest.mark.parametrize("bridge", [UP1, RP2])
def test_the_same_numbers_again_are_fine(results: Results, bridge: int) -> None:
    story = Story()
    story.write(T, bridge, 0x18, {UP1: 0x00030201, RP2: 0x00040400}[bridge], 4)
    assert result(results(story), "BUS-NUMBERS").outcome is Outcome.PASS


def test_where_nothing_is_preserved_nothing_is_judged(results: Results) -> None:
    story = Story(preserve=False)
    story.write(T, RP2, 0x1A, 9, 1)
    assert result(results(story), "BUS-NUMBERS").outcome is Outcome.VACUOUS


@pytest.mark.parametrize(
    ("keeps", "words"), [(0, ": No_Soft_Reset is clear, it resets"), (8, ", without a reset")]
)
def test_the_way_back_to_d0_says_whether_the_function_resets(
    results: Results, keeps: int, words: str
) -> None:
    story = Story()
    image = bytearray.fromhex(story.header["functions"][EP0]["config"])
    image[PMCSR] = image[PMCSR] & ~8 | keeps
    story.header["functions"][EP0]["config"] = image.hex()
    story.write(232, EP0, PMCSR, 3 | keeps, after=3 | keeps)
    story.block(232, 245, Gate.POWER_STATE)
    story.write(245, EP0, PMCSR, keeps, after=keeps)
    story.reconnect()
    messages = [finding.message for finding in result(results(story), "POWER-STATE").findings]
    assert messages == [
        "PMCSR.power_state 0 -> 3 at 03:00.0 in probe",
        f"PMCSR.power_state 3 -> 0 at 03:00.0 in probe{words}",
    ]
