# SPDX-License-Identifier: MIT
from collections.abc import Callable

import pytest

from pydev.continuity import Expectation, Outcome, Verdict
from pydev.continuity.outcome import heaviest
from pydev.errors import PolicyError
from pydev.testkit.story import UP1, Story

Judge = Callable[..., Verdict]


def test_the_heaviest_outcome_wins() -> None:
    ordered = [Outcome.FAIL, Outcome.UNKNOWN, Outcome.VACUOUS, Outcome.PASS]
    for position, outcome in enumerate(ordered):
        assert heaviest(ordered[position:]) is outcome
    assert heaviest([]) is Outcome.VACUOUS


@pytest.mark.parametrize(
    "table",
    [
        {"outcome": "OK"},
        {"guest": "happy"},
        {"failing_rules": ["BME"]},
        {"errno": "EWHAT"},
        {"console": ["("]},
        {"outcomes": "PASS"},
    ],
)
def test_an_expectation_of_what_does_not_exist_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        Expectation.from_table(table)


def broken_bridge() -> Story:
    """Off between two transactions: the write fails its rule, and nothing was lost."""
    story = Story()
    story.write(173.4, UP1, 0x04, 0x103)
    story.write(173.6, UP1, 0x04, 0x107)
    return story


@pytest.mark.parametrize(
    ("expectation", "is_met"),
    [
        (Expectation(outcome="FAIL", failing_rules=("BME-BRIDGE",)), True),
        (Expectation(outcome="FAIL", failing_rules=("BME-BRIDGE", "BUS-NUMBERS")), False),
        (Expectation(outcome="FAIL", failing_rules=("BUS-NUMBERS",)), False),
        (Expectation(outcome="FAIL", failing_rules=("BME-BRIDGE",), guest="rebooted"), False),
        (
            Expectation(
                outcome="FAIL", failing_rules=("BME-BRIDGE",), console=("handover data", r"pcieport .*: PME")
            ),
            True,
        ),
        (Expectation(outcome="FAIL", failing_rules=("BME-BRIDGE",), console=("no such line",)), False),
        (Expectation(outcome="FAIL", failing_rules=("BME-BRIDGE",), errno="EBUSY"), False),
        (Expectation(), False),
    ],
)
def test_an_expectation_is_met_only_by_the_exact_set(
    judge: Judge, expectation: Expectation, is_met: bool
) -> None:
    assert judge(broken_bridge(), expectation).as_expected is is_met


@pytest.mark.parametrize("table", [{"outcome": "FAIL"}, {"outcome": "PASS", "failing_rules": ["BME-BRIDGE"]}])
def test_a_fail_without_rules_and_rules_without_a_fail_cannot_be_expected(table: dict[str, object]) -> None:
    with pytest.raises(PolicyError, match="rules fail in a FAIL"):
        Expectation.from_table(table)


def test_a_refusal_is_recognized_with_its_errno(judge: Judge) -> None:
    story = Story()
    story.remove(lambda e: e.members is not None and e.t_ns > story.tagged("frozen")[0].t_ns)
    story.agent(165, event="reboot_failed", errno=16)
    expectation = Expectation(
        outcome="FAIL", failing_rules=("GUEST-UPDATED",), guest="refused", errno="EBUSY"
    )
    verdict = judge(story, expectation)
    assert (verdict.guest, verdict.updates) == ("refused", 0)
    assert "GUEST-UPDATED" in verdict.failing_rules


def test_a_cancelled_update_is_vacuous_but_for_the_guest(judge: Judge) -> None:
    story = Story()
    for tag in ("frozen", "frozen ack"):
        story.remove_tag(tag)
    story.remove(lambda e: e.members is not None and e.t_ns > story.tagged("preserve")[0].t_ns)
    story.agent(140, report="unpreserve", ok=True, bdf="0000:03:00.0", token=26)
    verdict = judge(story)
    assert verdict.guest == "cancelled"
    assert verdict.failing_rules == ["GUEST-UPDATED"]
    others = {
        e.rule.id: e.result.outcome
        for e in verdict.rules
        if e.rule.id not in ("GUEST-UPDATED", "RECORD-COMPLETE", "WRITES-AGREE")
    }
    assert set(others.values()) == {Outcome.VACUOUS}


def test_a_panic_is_told_from_a_reboot(judge: Judge) -> None:
    story = Story()
    story.console(245, "[    0.900000] Kernel panic - not syncing: Attempted to kill init!")
    story.remove(lambda e: e.members is not None and e.t_ns > story.tagged("frozen")[0].t_ns)
    assert judge(story).guest == "panic"
