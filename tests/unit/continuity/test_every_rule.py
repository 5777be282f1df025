# SPDX-License-Identifier: MIT
"""No rule without a planted fault, a clean run that it examines, and a word about real guests."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pydev.continuity import Outcome, Result, Verdict
from pydev.continuity.catalogue import rules
from pydev.testkit import faults
from pydev.testkit.story import Story

Judge = Callable[..., Verdict]

RULES = [rule.id for rule in rules()]


@pytest.fixture
def judge_all(judge: Judge, tmp_path: Path) -> Judge:
    """Judges a story by every rule of the catalogue, whatever the shipped policies leave out."""
    policy = tmp_path / "every-rule.toml"
    policy.write_text("[rules]\n" + "".join(f'{rule} = "optional"\n' for rule in RULES))
    return lambda story: judge(story, policy=policy)


def result(verdict: Verdict, rule: str) -> Result:
    return next(entry.result for entry in verdict.rules if entry.rule.id == rule)


def planted_in_guests() -> list[Any]:
    """The table of the system test, which runs it in real guests."""
    path = Path(__file__).parents[2] / "system" / "test_faults.py"
    spec = importlib.util.spec_from_file_location("planted_in_guests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: list[Any] = module.FAULTS
    return table


def test_every_rule_has_a_planted_fault() -> None:
    assert [rule for rule in RULES if rule not in faults.PLANTED] == []


def test_no_table_names_a_rule_that_does_not_exist() -> None:
    assert [rule for table in faults.ALL_TABLES for rule in table if rule not in RULES] == []


@pytest.mark.parametrize("rule", RULES)
def test_the_planted_fault_is_this_rules_to_find(judge_all: Judge, rule: str) -> None:
    verdict = judge_all(faults.planted_story(rule))
    assert result(verdict, rule).outcome is faults.spoilt_outcome(rule), result(verdict, rule)
    assert result(verdict, rule).findings
    assert verdict.outcome is not Outcome.PASS


@pytest.mark.parametrize("rule", RULES)
def test_a_fault_elsewhere_is_not_this_rules_to_find(judge_all: Judge, rule: str) -> None:
    """Some other rule's fault leaves it at PASS: it does not fail at everything."""

    def spoilt_by(other: str) -> Story:
        story = faults.clean_story(rule)
        faults.PLANTED[other](story)
        return story

    others = [other for other in RULES if other != rule and other not in faults.CLEAN]
    assert any(result(judge_all(spoilt_by(other)), rule).outcome is Outcome.PASS for other in others)


@pytest.mark.parametrize("rule", RULES)
def test_a_clean_run_is_examined_and_passes(judge_all: Judge, rule: str) -> None:
    verdict = judge_all(faults.clean_story(rule))
    answer = result(verdict, rule)
    assert (answer.outcome, answer.examined > 0) == (Outcome.PASS, True), answer
    assert verdict.outcome is Outcome.PASS, [(e.rule.id, e.result) for e in verdict.rules]


def test_every_rule_fails_in_a_real_guest_or_it_is_said_why_none_can_show_it() -> None:
    shown = {rule for fault in planted_in_guests() for rule in fault.failing}
    unsaid = [rule for rule in RULES if rule not in shown and rule not in faults.NOT_IN_A_GUEST]
    needless = sorted(shown & set(faults.NOT_IN_A_GUEST))
    assert (unsaid, needless) == ([], [])
