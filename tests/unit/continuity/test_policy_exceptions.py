# SPDX-License-Identifier: MIT
"""Failures that a policy expects: they are shown and do not count, and nothing else is hidden by them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pydev.continuity import Finding, Outcome, Result, Verdict, catalogue, load_policy, load_timeline
from pydev.continuity.catalogue import rules
from pydev.continuity.expected_failure import ExpectedFailure
from pydev.continuity.policy_text import flattened
from pydev.continuity.selection import FunctionSelector
from pydev.continuity.verifier import RuleVerdict
from pydev.ports import Gate
from pydev.recording.timeline import Timeline
from pydev.report import render_text, verdict_json
from pydev.testkit import faults
from pydev.testkit.story import DN1, RP2, SWEEP, UP1, Story, at

Judge = Callable[..., Verdict]
JudgeBy = Callable[..., Verdict]
Told = Callable[[Callable[[str], Story], str], Timeline]
RULES = (
    "GUEST-UPDATED", "RESET", "BME-ENDPOINT", "BME-BRIDGE", "BUS-NUMBERS", "DMA-CONTINUITY", "DMA-INTEGRITY",
)  # fmt: skip


@pytest.fixture
def judge_by(judge: Judge, tmp_path: Path) -> JudgeBy:
    """Judges a story by some rules and the exceptions given, each the lines of one."""

    def judged(story: Story, *exceptions: str) -> Verdict:
        text = f'[[judge]]\nrule = {json.dumps(RULES)}\nlevel = "required"\n'
        for number, lines in enumerate(exceptions):
            text += f'[[exception]]\n{lines}\nreason = "known since {number}"\n'
        path = tmp_path / "knowing.toml"
        path.write_text(text)
        return judge(story, policy=path)

    return judged


def of(verdict: Verdict, rule: str) -> RuleVerdict:
    return next(entry for entry in verdict.rules if entry.rule.id == rule)


def cleared(*bridges: int) -> Story:
    story = Story()
    for number, bridge in enumerate(bridges):
        story.write(173 + number, bridge, 0x04, 0x103)
    return story


BRIDGE = 'rule = "BME-BRIDGE"\n'


def test_an_expected_failure_is_shown_and_does_not_count(judge_by: JudgeBy) -> None:
    verdict = judge_by(cleared(UP1), BRIDGE + 'functions = ["up1"]')
    entry = of(verdict, "BME-BRIDGE")
    assert (entry.result.outcome, entry.outcome, entry.is_expected) == (Outcome.FAIL, Outcome.PASS, True)
    assert (verdict.outcome, verdict.failing_rules, verdict.as_expected) == (Outcome.PASS, [], True)
    assert verdict.expected_rules == ["BME-BRIDGE"]
    assert verdict.needless == ()


def test_what_is_beside_an_expected_failure_still_fails(judge_by: JudgeBy) -> None:
    verdict = judge_by(cleared(UP1, DN1), BRIDGE + 'functions = ["up1"]')
    entry = of(verdict, "BME-BRIDGE")
    assert verdict.failing_rules == ["BME-BRIDGE"]
    assert entry.excused_findings == {0}
    assert not entry.is_expected


@pytest.mark.parametrize(
    "lines",
    [
        'functions = ["dn1"]',
        'functions = ["ep0"]',
        'functions = ["type:root_port"]',
        'phases = ["enumeration", "probe"]',
        'registers = ["COMMAND.bus_master"]\nphases = ["prepared"]',
        'writers = ["pci_disable_device"]',
        'functions = ["up1"]\nwriters = ["pci_clear"]\nunattributed = true',
        'caused_by = "BME-ENDPOINT"',
        'functions = ["up1"]\ncaused_by = "RESET"',
    ],
)
def test_an_exception_that_is_not_quite_it_excuses_nothing(judge_by: JudgeBy, lines: str) -> None:
    verdict = judge_by(cleared(UP1), BRIDGE + lines)
    assert verdict.failing_rules == ["BME-BRIDGE"]
    assert [failure.reason for failure in verdict.needless] == ["known since 0"]


@pytest.mark.parametrize(
    "lines",
    [
        'functions = ["path"]',
        'registers = ["COMMAND.bus_master"]',
        'registers = ["COMMAND"]',
        'registers = ["*.bus_master"]',
        'phases = ["shutdown"]',
        'writers = ["pci_disable_device", "pci_clear_master"]',
        'writers = ["kernel_kexec"]',
        'functions = ["above:ep0"]\nregisters = ["COMMAND"]\nphases = ["shutdown", "jump"]',
    ],
)
def test_an_exception_holds_by_each_of_what_it_says(judge_by: JudgeBy, lines: str) -> None:
    assert judge_by(cleared(UP1), BRIDGE + lines).expected_rules == ["BME-BRIDGE"]


def unattributed(*bridges: int) -> Story:
    story = Story(plugin=False)
    for number, bridge in enumerate(bridges):
        story.write(173 + number, bridge, 0x04, 0x103)
    return story


def test_where_nothing_is_attributed_a_writer_is_nobodys_unless_the_policy_takes_anybodys(
    judge_by: JudgeBy,
) -> None:
    writers = BRIDGE + 'writers = ["pci_clear_master"]'
    assert judge_by(unattributed(UP1), writers).failing_rules == ["BME-BRIDGE"]
    anybody = judge_by(unattributed(UP1), writers + "\nunattributed = true")
    assert anybody.expected_rules == ["BME-BRIDGE"]
    elsewhere = writers + '\nunattributed = true\nfunctions = ["dn1"]'
    assert judge_by(unattributed(UP1), elsewhere).failing_rules == ["BME-BRIDGE"]


def test_a_phase_that_may_have_been_over_is_not_that_phase(judge_by: JudgeBy) -> None:
    """Without the plugin the jump of this story is known to 25 ms: the write may have come after it."""
    assert judge_by(unattributed(UP1), BRIDGE + 'phases = ["shutdown"]').failing_rules == ["BME-BRIDGE"]
    either = judge_by(unattributed(UP1), BRIDGE + 'phases = ["shutdown", "jump"]')
    assert either.expected_rules == ["BME-BRIDGE"]


def test_an_exception_of_another_rule_excuses_nothing(judge_by: JudgeBy) -> None:
    verdict = judge_by(
        cleared(UP1), 'rule = ["RESET", "BME-ENDPOINT"]\nfunctions = ["all", "up1"]\nphases = ["shutdown"]'
    )
    assert verdict.failing_rules == ["BME-BRIDGE"]


def test_a_doubt_is_never_excused(judge_by: JudgeBy) -> None:
    story = Story()
    story.remove_tag("finish")
    entry = of(judge_by(story, BRIDGE + 'functions = ["path"]'), "BME-BRIDGE")
    assert (entry.outcome, entry.excused) == (Outcome.UNKNOWN, ())


def test_a_doubt_beside_what_is_excused_keeps_the_rule_from_passing(judge_by: JudgeBy) -> None:
    story = cleared(UP1)
    story.remove_tag("finish")  # so that no bridge was seen through the whole blackout
    verdict = judge_by(story, BRIDGE + 'functions = ["path"]')
    entry = of(verdict, "BME-BRIDGE")
    assert (entry.result.outcome, entry.outcome, entry.is_expected) == (Outcome.FAIL, Outcome.UNKNOWN, True)


def test_silence_beside_what_is_excused_keeps_the_rule_from_passing(judge_by: JudgeBy) -> None:
    """The port that was no bus master when frozen shows nothing, whatever is known of the other."""
    story = cleared(UP1)
    story.trace(140, DN1, 0x04, 0x103)
    entry = of(judge_by(story, BRIDGE + 'functions = ["path"]'), "BME-BRIDGE")
    assert (entry.result.outcome, entry.outcome) == (Outcome.FAIL, Outcome.VACUOUS)


def test_a_policy_can_take_back_what_the_one_it_extends_expects(judge: Judge, tmp_path: Path) -> None:
    base = f'[[judge]]\nrule = {json.dumps(RULES)}\nlevel = "required"\n'
    base += '[[exception]]\nrule = ["BME-BRIDGE", "RESET"]\nfunctions = ["path"]\nreason = "known"\n'
    (tmp_path / "base.toml").write_text(base)
    for taken, failing in (('["BME-BRIDGE"]', ["BME-BRIDGE"]), ('["*"]', ["BME-BRIDGE"]), ('["RESET"]', [])):
        path = tmp_path / "mine.toml"
        path.write_text(f'extends = "base.toml"\nunexcused = {taken}\n')
        assert judge(cleared(UP1), policy=path).failing_rules == failing
        text, _ = flattened(load_policy(path))
        (tmp_path / "copy.toml").write_text(text)
        assert judge(cleared(UP1), policy=tmp_path / "copy.toml").failing_rules == failing


# -------------------------------------------------------------- consequences


def endpoint_fault() -> Story:
    story = Story()
    faults.clear_endpoint_bus_master(story)
    return story


KNOWN_ENDPOINT = 'rule = "BME-ENDPOINT"\nfunctions = ["ep0"]'


def test_a_consequence_is_excused_with_its_cause_and_not_without(judge_by: JudgeBy) -> None:
    consequence = 'rule = "DMA-CONTINUITY"\ncaused_by = "BME-ENDPOINT"'
    assert judge_by(endpoint_fault(), KNOWN_ENDPOINT).failing_rules == ["DMA-CONTINUITY"]
    assert judge_by(endpoint_fault(), consequence).failing_rules == ["BME-ENDPOINT", "DMA-CONTINUITY"]
    assert judge_by(endpoint_fault(), KNOWN_ENDPOINT, consequence).failing_rules == []


def test_a_gap_of_its_own_beside_the_consequence_is_not_excused(judge_by: JudgeBy) -> None:
    story = endpoint_fault()
    story.block(250, 251, Gate.IN_RESET)
    verdict = judge_by(story, KNOWN_ENDPOINT, 'rule = "DMA-CONTINUITY"\ncaused_by = "BME-ENDPOINT"')
    assert verdict.failing_rules == ["DMA-CONTINUITY"]


def test_more_gaps_than_are_listed_are_not_excused_with_the_listed(judge_by: JudgeBy) -> None:
    story = Story()
    for ms in range(202, 242, 2):
        story.block(ms, ms + 1, Gate.IN_RESET)
    verdict = judge_by(story, 'rule = "DMA-CONTINUITY"\nfunctions = ["ep0"]')
    entry = of(verdict, "DMA-CONTINUITY")
    assert (entry.is_expected, entry.outcome) == (True, Outcome.UNKNOWN)
    assert "not listed" in entry.result.doubts[0].message


def test_one_finding_for_many_is_not_excused_by_where_the_first_was(judge_by: JudgeBy) -> None:
    story = Story()
    for event in story.writes()[60:90]:
        event.fields["address"] = 0x9000 << 12
    for lines in (
        'phases = ["shutdown", "jump", "enumeration"]',
        'phases = ["enumeration"]\nfunctions = ["ep0"]',
    ):
        verdict = judge_by(story, f'rule = "DMA-INTEGRITY"\n{lines}')
        assert "DMA-INTEGRITY" in verdict.failing_rules


# ----------------------------------------------------- what a finding may mean


def finding(**members: object) -> Finding:
    known: dict[str, object] = {"message": "m", "t_ns": at(173), "phase": "shutdown", "bdf": 0x100}
    return Finding(**(known | members))  # type: ignore[arg-type]


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    return load_timeline(Story().save(tmp_path / "clean.lus"))


@pytest.mark.parametrize(
    ("stack", "function", "is_it"),
    [
        (("pci_clear_master+0x1c/0x40", "pci_device_shutdown"), "pci_clear_master", True),
        (("pci_conf1_write", "pci_clear_master [vfio]"), None, True),
        (("pci_clear_master.cold", "pci_device_shutdown.isra.0"), None, True),
        (("__pci_clear_master", "xpci_clear_master"), None, False),
        ((), "pci_clear_master", True),
        ((), None, False),
        (("pci_clear_master_quietly",), "pci_clear", False),
        (("",), "", False),
    ],
)
def test_a_writer_is_a_whole_function_on_the_stack(
    timeline: Timeline, stack: tuple[str, ...], function: str | None, is_it: bool
) -> None:
    known = ExpectedFailure(("X",), "r", writers=("pci_clear_master",))
    assert known.matches(timeline, finding(stack=stack, function=function)) is is_it


def test_a_finding_near_a_phases_uncertain_end_may_be_in_either(timeline: Timeline) -> None:
    enumeration = timeline.phase("enumeration")
    assert enumeration is not None
    assert enumeration.uncertainty_ns > 0
    at_edge = finding(t_ns=enumeration.t_ns + enumeration.uncertainty_ns, phase="enumeration")
    inside = finding(t_ns=at(SWEEP + 15), phase="enumeration")
    known = ExpectedFailure(("X",), "r", phases=("enumeration",))
    assert known.matches(timeline, inside)
    assert not known.matches(timeline, at_edge)
    wider = replace(known, phases=("shutdown", "jump", "enumeration"))
    assert wider.matches(timeline, at_edge)


def test_a_bdf_that_is_two_functions_during_the_update_is_excused_for_both_or_not(tmp_path: Path) -> None:
    """Bus 3 is dn1's when frozen, and rp2's for a while: what fails at 03:00.0 then may be either's."""
    story = Story()
    story.trace(SWEEP + 10, DN1, 0x19, 9)
    story.trace(SWEEP + 11, RP2, 0x19, 3)
    timeline = load_timeline(story.save(tmp_path / "swapped.lus"))
    failing = finding(t_ns=at(SWEEP + 30), phase="enumeration", bdf=0x300)

    def known(*names: str) -> ExpectedFailure:
        return ExpectedFailure(("X",), "r", functions=tuple(map(FunctionSelector.parse, names)))

    assert not known("ep1").matches(timeline, failing)
    assert not known("ep0").matches(timeline, failing)
    assert known("ep0", "ep1").matches(timeline, failing)
    assert not known("all").matches(timeline, finding(bdf=None))
    assert not known("all").matches(timeline, finding(bdf=0x7700))


def test_a_failure_without_a_finding_cannot_be_excused(
    judge_by: JudgeBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = next(rule for rule in rules() if rule.id == "BME-BRIDGE")
    empty = replace(honest, judge=lambda evidence: Result(Outcome.FAIL, 1))
    changed = tuple(empty if rule.id == "BME-BRIDGE" else rule for rule in rules())
    monkeypatch.setattr(catalogue, "_RULES", changed)
    verdict = judge_by(Story(), BRIDGE + 'functions = ["path"]')
    assert of(verdict, "BME-BRIDGE").result.outcome is Outcome.UNKNOWN
    assert verdict.outcome is Outcome.UNKNOWN


EXCUSABLE = [rule.id for rule in rules() if rule.is_per_function]


@pytest.mark.parametrize("rule", EXCUSABLE)
def test_no_planted_fault_is_excused_by_an_exception_for_something_else(
    judge: Judge, told: Told, tmp_path: Path, rule: str
) -> None:
    path = tmp_path / "elsewhere.toml"
    for lines in ('functions = ["ep7"]', 'writers = ["nobody"]', 'phases = ["boot"]'):
        known = f'[[exception]]\nrule = "{rule}"\n{lines}\nreason = "something else"\n'
        path.write_text(f'[[judge]]\nrule = "{rule}"\nlevel = "required"\n{known}')
        entry = of(judge(told(faults.planted_story, rule), policy=path), rule)
        assert (entry.outcome, entry.excused) == (faults.spoilt_outcome(rule), ())


# ------------------------------------------------------------------- reports


def test_an_exception_that_never_came_is_listed_only_where_the_rule_looked(judge_by: JudgeBy) -> None:
    clean = judge_by(Story(), BRIDGE + 'functions = ["path"]')
    assert [failure.reason for failure in clean.needless] == ["known since 0"]
    nothing = judge_by(Story(preserve=False), BRIDGE + 'functions = ["path"]')
    assert nothing.needless == ()


def test_an_exception_for_a_phase_that_never_began_was_not_needless(judge_by: JudgeBy) -> None:
    known = BRIDGE + 'phases = ["probe"]'
    assert judge_by(Story(), known).needless
    refused = Story(plugin=False)
    refused.remove(lambda e: e.t_ns > at(165) and (e.is_trace or e.members is not None or bool(e.line)))
    refused.agent(190, event="reboot_failed", errno=16)
    verdict = judge_by(refused, known)
    assert of(verdict, "BME-BRIDGE").result.examined
    assert verdict.needless == ()


def test_the_reports_say_what_was_excused_and_why(judge_by: JudgeBy, tmp_path: Path) -> None:
    known = (BRIDGE + 'functions = ["up1"]', 'rule = "RESET"\nfunctions = ["ep7"]')
    verdict = judge_by(cleared(UP1), *known)
    document = verdict_json(verdict)
    rule = next(entry for entry in document["rules"] if entry["id"] == "BME-BRIDGE")
    assert (rule["outcome"], rule["judged"], rule["expected"]) == ("PASS", "FAIL", True)
    assert rule["excused"] == [{"reason": "known since 0", "findings": [0]}]
    assert document["outcome"] == "PASS"
    reset = next(entry for entry in document["rules"] if entry["id"] == "RESET")
    assert reset["unused_exceptions"] == ["known since 1"]
    assert not {"judged", "expected", "excused"} & set(reset)
    others = [entry for entry in document["rules"] if entry["id"] != "BME-BRIDGE"]
    assert not any({"judged", "expected", "excused"} & set(entry) for entry in others)
    text = render_text(load_timeline(tmp_path / "recording.lus"), verdict)
    assert max(map(len, text.splitlines())) <= 78
    words = " ".join(text.split())
    assert (
        "verdict: PASS (as expected); guest updated; policy knowing failed as the policy expects: BME-BRIDGE"
        in words
    )
    assert "XFAIL BME-BRIDGE: known since 0 +12.9" in words
    assert "ms shutdown 01:00.0 COMMAND.bus_master 1 -> 0" in words
    assert "no longer needed? RESET of ep7: known since 1" in words
    assert "FAIL BME-BRIDGE:" not in text.replace("XFAIL", "")
