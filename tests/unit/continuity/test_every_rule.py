# SPDX-License-Identifier: MIT
"""No rule without a planted fault, a clean run that it examines, and a word about real guests."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pydev.continuity import Outcome, Result, Verdict
from pydev.continuity.catalogue import rules
from pydev.testkit import faults
from pydev.testkit.story import Story
from qemu_plugin.experiment import spec

Judge = Callable[..., Verdict]

RULES = [rule.id for rule in rules()]


@pytest.fixture
def judge_all(judge: Judge, tmp_path: Path) -> Judge:
    """Judges a story by every rule of the catalogue, but those that are judged alone and are not meant."""
    policy = tmp_path / "every-rule.toml"

    def judged(story: Story, rule: str) -> Verdict:
        alone = sorted(faults.JUDGED_ALONE - {rule})
        choices = [("*", "optional"), *((other, "off") for other in alone)]
        policy.write_text(
            "".join(f'[[judge]]\nrule = "{name}"\nlevel = "{level}"\n' for name, level in choices)
        )
        return judge(story, policy=policy)

    return judged


def result(verdict: Verdict, rule: str) -> Result:
    return next(entry.result for entry in verdict.rules if entry.rule.id == rule)


def planted_in_guests() -> list[Any]:
    """The tables of the system tests, which run them in real guests."""
    return [fault for name in ("test_faults", "test_feature_faults") for fault in planted_in(name)]


def planted_in(name: str) -> list[Any]:
    path = Path(__file__).parents[2] / "system" / f"{name}.py"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    found.loader.exec_module(module)
    table: list[Any] = module.FAULTS
    return table


def expected_of_shipped() -> set[str]:
    """What the shipped experiments expect to fail, each of which a system test performs."""
    files = {name: path.read_text() for name, path in spec.shipped().items()}
    return {rule for name, text in files.items() for rule in spec.parse(text, name).expect.failing_rules}


def test_every_rule_has_a_planted_fault() -> None:
    assert [rule for rule in RULES if rule not in faults.PLANTED] == []


def test_no_table_names_a_rule_that_does_not_exist() -> None:
    assert [rule for table in faults.ALL_TABLES for rule in table if rule not in RULES] == []


@pytest.mark.parametrize("rule", RULES)
def test_the_planted_fault_is_this_rules_to_find(judge_all: Judge, rule: str) -> None:
    verdict = judge_all(faults.planted_story(rule), rule)
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
    assert any(result(judge_all(spoilt_by(other), rule), rule).outcome is Outcome.PASS for other in others)


@pytest.mark.parametrize("rule", RULES)
def test_a_clean_run_is_examined_and_passes(judge_all: Judge, rule: str) -> None:
    verdict = judge_all(faults.clean_story(rule), rule)
    answer = result(verdict, rule)
    assert (answer.outcome, answer.examined > 0) == (Outcome.PASS, True), answer
    assert verdict.outcome is Outcome.PASS, [(e.rule.id, e.result) for e in verdict.rules]


def test_every_rule_fails_in_a_real_guest_or_it_is_said_why_none_can_show_it() -> None:
    shown = {rule for fault in planted_in_guests() for rule in fault.failing} | expected_of_shipped()
    unsaid = [rule for rule in RULES if rule not in shown and rule not in faults.NOT_IN_A_GUEST]
    needless = sorted(shown & set(faults.NOT_IN_A_GUEST))
    assert (unsaid, needless) == ([], [])
