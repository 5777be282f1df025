# SPDX-License-Identifier: MIT
"""The policies and rules that come with this project leave nothing unsaid."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import Timeline, explain_rule, load_timeline, policies, rules_json, verify
from pydev.continuity.catalogue import NOT_OBSERVABLE, rules
from pydev.continuity.declarations import matching
from pydev.continuity.evidence import Evidence
from pydev.continuity.hazards import hazards
from pydev.continuity.policy import BENCH
from pydev.continuity.scope import Level
from pydev.continuity.selection import RegisterSelector, judged_registers
from pydev.errors import PolicyError
from pydev.testkit import faults
from pydev.testkit.story import Story

Told = Callable[[Callable[[str], Story], str], Timeline]
NAMES = ("ats", "conservative", "iommu", "p2p", "series", "strict")
RULES = [rule.id for rule in rules()]
IOMMU_REGISTERS = ("GCMD", "RTADDR", "IRTA")
"""Of the IOMMU itself, which is no PCI function: `pydev.recording.format.IommuRegister`."""


def test_the_policies_are_those_that_were_promised() -> None:
    assert tuple(policies()) == NAMES
    assert all(policy.description for policy in policies().values())


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_says_something_of_every_rule_and_why_it_leaves_one_out(name: str) -> None:
    policy = policies()[name]
    unsaid = [rule for rule in RULES if not any(choice.speaks_of(rule) for choice in policy.choices)]
    assert unsaid == []
    unexplained = [
        (rule.id, choice.level)
        for rule in rules()
        for choice in policy.scopes(rule, ()).choices
        if choice.level is not Level.REQUIRED and not choice.reason
    ]
    assert unexplained == []


def test_strict_leaves_out_nothing_and_expects_no_failure() -> None:
    strict = policies()["strict"]
    off = [rule for rule in rules() if strict.level(rule) is Level.OFF]
    assert [rule.id for rule in off if rule.hazards] == []
    assert [rule.id for rule in off] == ["CONFIG-QUIET"]  # which asks for more than that no harm be done
    assert strict.expected_failures == ()


@pytest.mark.parametrize("name", ["p2p", "ats", "iommu"])
def test_a_feature_in_use_takes_nothing_from_series(name: str) -> None:
    policy, series = policies()[name], policies()["series"]
    weaker = [rule.id for rule in rules() if policy.level(rule).weight < series.level(rule).weight]
    assert weaker == []


CLASSES = {"p2p": {18, 19, 21, 22, 48, 49}, "ats": {43, 44}, "iommu": {10, 13, 14, 45}, "series": {31}}
"""HAZARDS.md, `Classes for policies`: what is forbidden where a feature is in use."""
ALWAYS = {1, 2, 5, 25, 30, 53, 59, 64}
MUST_HAPPEN = {28, 62}


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_feature_forbids_is_judged_and_nothing_of_it_excused(name: str) -> None:
    policy = policies()[name]
    judged = {number for rule in policy.judged() for number in rule.hazards}
    assert CLASSES[name] | ALWAYS | MUST_HAPPEN <= judged
    excused = {rule for failure in policy.expected_failures for rule in failure.rules}
    forbidding = {rule.id for rule in policy.judged() if set(rule.hazards) & CLASSES[name]}
    assert not (forbidding & excused) or name == "series"


def test_every_hazard_is_a_rules_or_is_said_to_be_out_of_sight() -> None:
    covered = {number for rule in rules() for number in rule.hazards}
    assert sorted(hazards()) == list(range(1, 66))
    assert sorted(set(hazards()) - covered - set(NOT_OBSERVABLE)) == []
    assert set(NOT_OBSERVABLE) <= set(hazards())
    assert covered <= set(hazards())
    assert all(NOT_OBSERVABLE.values())


@pytest.mark.parametrize("rule_id", RULES)
def test_a_rule_says_what_it_judges_and_who_writes_it(rule_id: str) -> None:
    rule = next(rule for rule in rules() if rule.id == rule_id)
    for register, field in judged_registers(rule.registers):
        if register in IOMMU_REGISTERS:
            continue
        places = matching(register)
        assert places, f"{register} is declared nowhere"
        assert field is None or any(field in place.fields for place in places), f"{register} has no {field}"
    if rule.registers:
        assert rule.writers
    for writer in rule.writers:
        assert re.search(r"\(\w[\w/.-]*\.[ch]\)$", writer) or not re.match(r"\w+$", writer), writer


@pytest.mark.parametrize("rule_id", [rule.id for rule in rules() if rule.is_per_function])
@pytest.mark.parametrize("story", [faults.clean_story, faults.planted_story])
def test_a_rule_looks_at_no_register_that_it_does_not_name(
    told: Told, rule_id: str, story: Callable[[str], Story]
) -> None:
    """Else a policy could not choose it, and the manual would keep it a secret."""
    rule = next(rule for rule in rules() if rule.id == rule_id)
    evidence = Evidence(told(story, rule_id))
    rule.judge(evidence)
    named = [RegisterSelector(*pair) for pair in judged_registers(rule.registers)]
    looked_at = {(register, field) for _, register, field in evidence.watched}
    unnamed = {
        f"{register}.{field}" if field else register
        for register, field in looked_at
        if not any(selector.touches(register, field) for selector in named) and not rule.judges_any_register
    }
    assert unnamed == set()


@pytest.mark.parametrize("rule_id", RULES)
def test_a_rules_page_is_a_page(rule_id: str) -> None:
    page = explain_rule(rule_id)
    assert page.startswith(rule_id)
    assert max(map(len, page.splitlines())) <= 78
    headings = [line for line in page.splitlines() if line.isupper() and not line.startswith(" ")]
    headings = [heading for heading in headings if heading != rule_id]
    rule = next(rule for rule in rules() if rule.id == rule_id)
    assert headings == [
        "NAME",
        *(["REGISTERS"] if rule.registers or rule.judges_any_register else []),
        *(["WRITTEN BY"] if rule.writers else []),
        "WHY IT HARMS",
        "WHEN IT IS FINE",
        "HOW IT IS JUDGED",
        "POLICIES",
        "PLANTED FAULT",
        *(["HAZARDS"] if rule.hazards else []),
        "SOURCE",
    ]
    assert all(re.search(rf"^ +{name} ", page, re.MULTILINE) for name in NAMES)


def test_an_unknown_rule_is_not_explained() -> None:
    with pytest.raises(PolicyError, match="there is no rule 'NOPE'"):
        explain_rule("NOPE")


def test_the_rules_for_programs_have_everything_and_every_policys_word() -> None:
    document = json.loads(json.dumps(rules_json()))
    assert set(document) == {"rules", "not_observable"}
    for entry in document["rules"]:
        assert set(entry) == {
            "id", "title", "hazards", "severity", "why", "acceptable", "source", "planted_fault", "registers",
            "writers", "policies",
        }  # fmt: skip
        assert set(entry["policies"]) == set(NAMES)
        assert all(said["level"] in list(Level) for said in entry["policies"].values())


def test_every_policy_judges_the_bench(tmp_path: Path) -> None:
    story = faults.planted_story("RECORD-COMPLETE")
    timeline = load_timeline(story.save(tmp_path / "story.lus"))
    for name in NAMES:
        verdict = verify(timeline, policies()[name])
        bench = [entry for entry in verdict.rules if entry.rule.severity == BENCH]
        assert all(entry.required for entry in bench)
        assert verdict.outcome != "PASS"
