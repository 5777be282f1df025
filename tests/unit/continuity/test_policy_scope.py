# SPDX-License-Identifier: MIT
"""What a policy narrows is judged no wider, and never becomes a PASS by being empty."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pydev.continuity import Evidence, Outcome, Result, Timeline, Verdict, catalogue
from pydev.continuity.catalogue import rules
from pydev.continuity.verifier import RuleVerdict
from pydev.ports import Gate
from pydev.testkit import faults
from pydev.testkit.story import EP0, EP_DEVCTL, RP1, SWEEP, UP1, Story

Judge = Callable[..., Verdict]
Choices = Callable[..., Verdict]
Told = Callable[[Callable[[str], Story], str], Timeline]


@pytest.fixture
def judge_by(judge: Judge, tmp_path: Path) -> Choices:
    """Judges a story by the `[[judge]]` entries given, each a rule, a level and more lines."""

    def judged(story: Story | Timeline, *choices: tuple[str, ...]) -> Verdict:
        text = "".join(
            "\n".join(["[[judge]]", f'rule = "{rule}"', f'level = "{level}"', *more, ""])
            for rule, level, *more in choices
        )
        path = tmp_path / "narrow.toml"
        path.write_text(text)
        return judge(story, policy=path)

    return judged


def of(verdict: Verdict, rule: str) -> RuleVerdict:
    return next(entry for entry in verdict.rules if entry.rule.id == rule)


def functions(*selectors: str) -> str:
    return f"functions = {list(selectors)}"


def registers(*selectors: str) -> str:
    return f"registers = {list(selectors)}"


def bridge_fault(bridge: int = UP1) -> Story:
    story = Story()
    story.write(173, bridge, 0x04, 0x103)
    return story


PER_FUNCTION = [rule.id for rule in rules() if rule.is_per_function]


@pytest.mark.parametrize("rule", PER_FUNCTION)
def test_a_rule_required_of_what_is_not_there_is_vacuous_and_says_so(
    judge_by: Choices, told: Told, rule: str
) -> None:
    for selector in ("ep7", "model:nothing", "above:ep7"):
        narrow = ((rule, "off"), (rule, "required", functions(selector)))
        verdict = judge_by(told(faults.clean_story, rule), *narrow)
        assert of(verdict, rule).result.outcome is Outcome.VACUOUS
        assert of(verdict, rule).required
        assert verdict.outcome is Outcome.VACUOUS
        assert (rule, selector) in verdict.unmatched


@pytest.mark.parametrize("rule", PER_FUNCTION)
@pytest.mark.parametrize("story", [faults.clean_story, faults.planted_story])
def test_a_rule_examines_less_of_some_functions_than_of_all(
    judge_by: Choices, told: Told, rule: str, story: Callable[[str], Story]
) -> None:
    """A rule that does not keep to its scope would pass functions for what it has seen of others."""
    everything = of(judge_by(told(story, rule), (rule, "required")), rule).result
    for selector in ("id:rp2", "type:upstream_port"):
        narrow = ((rule, "off"), (rule, "required", functions(selector)))
        part = of(judge_by(told(story, rule), *narrow), rule).result
        # RESCAN counts the places that were scanned, and not what it judges.
        if part.outcome is Outcome.PASS and rule != "RESCAN":
            assert part.examined < everything.examined


def test_a_scope_that_leaves_the_broken_bridge_out_is_no_pass_without_another(judge_by: Choices) -> None:
    for selectors in (("dn1", "rp1"), ("preserved",), ("not-preserved",), ("id:rp2",)):
        verdict = judge_by(
            bridge_fault(), ("BME-BRIDGE", "off"), ("BME-BRIDGE", "required", functions(*selectors))
        )
        is_other = selectors == ("dn1", "rp1")
        assert of(verdict, "BME-BRIDGE").result.outcome is (Outcome.PASS if is_other else Outcome.VACUOUS)
        assert of(verdict, "BME-BRIDGE").result.examined == (2 if is_other else 0)


@pytest.mark.parametrize(
    "selector", ["up1", "id:up1", "type:upstream_port", "bridges", "path", "above:ep0", "below:rp1"]
)
def test_every_selector_of_the_broken_bridge_finds_it(judge_by: Choices, selector: str) -> None:
    narrow = (("BME-BRIDGE", "off"), ("BME-BRIDGE", "required", functions(selector)))
    assert judge_by(bridge_fault(), *narrow).failing_rules == ["BME-BRIDGE"]
    off = (("BME-BRIDGE", "required"), ("BME-BRIDGE", "off", functions(selector)))
    assert judge_by(bridge_fault(), *off).failing_rules == []


def test_what_is_off_for_one_function_is_still_judged_of_the_others(judge_by: Choices) -> None:
    story = bridge_fault()
    story.write(174, RP1, 0x04, 0x103)
    verdict = judge_by(story, ("BME-BRIDGE", "required"), ("BME-BRIDGE", "off", functions("up1")))
    findings = of(verdict, "BME-BRIDGE").result.findings
    assert [finding.bdf for finding in findings] == [0x08]


def test_everything_chosen_away_piece_by_piece_is_vacuous(judge_by: Choices) -> None:
    away = (("BME-BRIDGE", "off", functions("bridges")), ("BME-BRIDGE", "off", functions("endpoints")))
    verdict = judge_by(Story(), ("BME-BRIDGE", "required"), *away)
    assert of(verdict, "BME-BRIDGE").result.outcome is Outcome.VACUOUS
    assert verdict.outcome is Outcome.VACUOUS


def test_a_function_that_is_required_by_name_has_to_be_examined(judge_by: Choices) -> None:
    """`ep1` is there, and the rule does not judge it, as nobody preserves it: that is said, and counts."""
    wide = ("BME-ENDPOINT", "required")
    verdict = judge_by(Story(), wide, ("BME-ENDPOINT", "required", functions("ep1")))
    answer = of(verdict, "BME-ENDPOINT").result
    assert answer.outcome is Outcome.VACUOUS
    assert "of ep1, as the policy requires: nothing is preserved" in answer.reasons
    assert judge_by(Story(), wide, ("BME-ENDPOINT", "required", functions("ep0"))).outcome is Outcome.PASS


def test_an_unmet_demand_is_not_hidden_by_an_update_that_nobody_wants(judge_by: Choices) -> None:
    story = Story(plugin=False)
    story.header["experiment"]["expect_guest"] = "cancelled"
    for tag in ("frozen", "frozen ack"):
        story.remove_tag(tag)
    story.remove(lambda e: e.members is not None and e.t_ns > story.tagged("preserve")[0].t_ns)
    story.agent(140, report="unpreserve", ok=True, bdf="0000:03:00.0", token=26)
    plain = judge_by(story, ("BME-ENDPOINT", "required"))
    assert plain.outcome is Outcome.PASS
    named = judge_by(story, ("BME-ENDPOINT", "required"), ("BME-ENDPOINT", "required", functions("ep7")))
    assert named.outcome is Outcome.VACUOUS


def test_optional_for_some_is_required_of_the_rest(judge_by: Choices) -> None:
    verdict = judge_by(
        Story(), ("BME-BRIDGE", "required"), ("BME-BRIDGE", "optional", functions("type:root_port"))
    )
    assert (of(verdict, "BME-BRIDGE").required, of(verdict, "BME-BRIDGE").result.examined) == (True, 3)
    fault = judge_by(
        bridge_fault(RP1), ("BME-BRIDGE", "required"), ("BME-BRIDGE", "optional", functions("type:root_port"))
    )
    assert fault.failing_rules == ["BME-BRIDGE"], "optional excuses silence, and no failure"


# ----------------------------------------------------------------- registers


def change_payload() -> Story:
    story = Story()
    story.write(SWEEP + 5, EP0, EP_DEVCTL, 0x2830)
    return story


def test_a_register_that_is_off_is_not_judged_and_its_neighbours_are(judge_by: Choices) -> None:
    rule = "DEVICE-CONTROL"
    assert judge_by(change_payload(), (rule, "required")).failing_rules == [rule]
    payload = registers("DEVCTL.max_payload_size")
    assert judge_by(change_payload(), (rule, "required"), (rule, "off", payload)).failing_rules == []
    tags = registers("DEVCTL.extended_tag")
    assert judge_by(change_payload(), (rule, "required"), (rule, "off", tags)).failing_rules == [rule]
    assert judge_by(change_payload(), (rule, "off"), (rule, "required", payload)).failing_rules == [rule]
    assert judge_by(change_payload(), (rule, "off"), (rule, "required", tags)).failing_rules == []


def test_a_register_off_for_one_function_is_judged_of_another(judge_by: Choices) -> None:
    rule, payload = "DEVICE-CONTROL", registers("DEVCTL.max_payload_size")
    off_above = (rule, "off", payload, functions("bridges"))
    assert judge_by(change_payload(), (rule, "required"), off_above).failing_rules == [rule]
    off_below = (rule, "off", payload, functions("preserved"))
    assert judge_by(change_payload(), (rule, "required"), off_below).failing_rules == []


def test_a_register_that_nothing_here_declares_is_vacuous(judge_by: Choices) -> None:
    """The switch's upstream port of the story has no power management."""
    rule = "POWER-STATE"
    only = (rule, "required", registers("PMCSR"), functions("up1"))
    verdict = judge_by(Story(), (rule, "off"), only)
    assert of(verdict, rule).result.outcome is Outcome.VACUOUS
    assert (rule, "PMCSR") in verdict.unmatched
    assert judge_by(Story(), (rule, "required"), only).outcome is Outcome.VACUOUS


@pytest.mark.parametrize("rule", [rule.id for rule in rules() if rule.is_per_function and rule.registers])
def test_all_registers_off_by_name_is_no_pass(judge_by: Choices, told: Told, rule: str) -> None:
    declared = next(entry.registers for entry in rules() if entry.id == rule)
    off = (rule, "off", registers(*declared))
    verdict = judge_by(told(faults.clean_story, rule), (rule, "required"), off)
    answer = of(verdict, rule).result
    assert answer.outcome in (Outcome.VACUOUS, Outcome.UNKNOWN) or is_about_more(rule), answer


def is_about_more(rule: str) -> bool:
    """Rules that look at events, or at any register, beside those that they name: these are still judged."""
    return rule == "RESET" or next(entry.judges_any_register for entry in rules() if entry.id == rule)


def test_dma_of_an_endpoint_that_is_not_judged_is_not_judged(judge_by: Choices) -> None:
    story = Story()
    story.block(180, 185, Gate.BUS_MASTER_OFF)
    assert judge_by(story, ("DMA-CONTINUITY", "required")).failing_rules == ["DMA-CONTINUITY"]
    verdict = judge_by(story, ("DMA-CONTINUITY", "required"), ("DMA-CONTINUITY", "off", functions("ep0")))
    assert of(verdict, "DMA-CONTINUITY").result.outcome is Outcome.VACUOUS


def test_a_rule_that_does_not_keep_to_its_scope_neither_fails_nor_passes_for_it(
    judge_by: Choices, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = next(rule for rule in rules() if rule.id == "BME-BRIDGE")

    def judge_everything(evidence: Evidence) -> Result:
        return honest.judge(Evidence(evidence.timeline))

    careless = replace(honest, id="CARELESS", judge=judge_everything)
    monkeypatch.setattr(catalogue, "_RULES", (*rules(), careless))
    narrow = (("CARELESS", "off"), ("CARELESS", "required", functions("dn1")))
    assert of(judge_by(bridge_fault(), *narrow), "CARELESS").result.outcome is Outcome.VACUOUS
    broad = (("CARELESS", "off"), ("CARELESS", "required", functions("up1")))
    assert of(judge_by(bridge_fault(), *broad), "CARELESS").result.outcome is Outcome.FAIL
    one = (("CARELESS", "off"), ("CARELESS", "required", registers("COMMAND.bus_master")))
    assert of(judge_by(Story(), *one), "CARELESS").result.outcome is Outcome.VACUOUS
