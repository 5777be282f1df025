# SPDX-License-Identifier: MIT
"""A user's own rule: judged like any other, and whatever is wrong with it is said and passes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import Outcome, Verdict, explain_rule, load_policy
from pydev.continuity.manual import rules_json, rules_table
from pydev.continuity.verifier import RuleVerdict
from pydev.errors import PolicyError
from pydev.testkit.story import EP0, UP1, Story

Judge = Callable[..., Verdict]
JudgeBy = Callable[..., Verdict]

POLICY = 'name = "mine"\nextends = "series"\nrules = ["my_rules.py"]\n'
HEAD = """
from pydev.continuity import Evidence, Finding, Judgement, Outcome, Result, Rule, known, transition, watch


def rule(judge, **members):
    texts = {"title": "t", "why": "w", "acceptable": "a", "source": "s", "planted_fault": "p"}
    return Rule(**({"id": "MINE", "hazards": (), "severity": "H", "judge": judge} | texts | members))
"""
SERR = (
    HEAD
    + """

def judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in (*evidence.preserved, *evidence.bridges):
            watched = watch(evidence, function, blackout, "COMMAND", "serr_enable")
            if watched is None:
                continue
            judgement.examined += 1
            for change, is_at_edge in watched.changes:
                before, after = watched.values(change)
                if known(before) == 1 and known(after) == 0 and not is_at_edge:
                    judgement.fail(transition(evidence, function, change, "COMMAND", watched.entry))
    return judgement.result(nothing="nothing is preserved")


RULES = (rule(judge, id="SERR-KEPT", registers=("COMMAND.serr_enable",)),)
"""
)


@pytest.fixture
def judge_by(judge: Judge, tmp_path: Path) -> JudgeBy:
    """Judges a story by `series`, a file of rules and more of a policy."""

    def judged(source: str, story: Story | None = None, more: str = "") -> Verdict:
        (tmp_path / "my_rules.py").write_text(source)
        path = tmp_path / "mine.toml"
        path.write_text(POLICY + more)
        return judge(story or Story(), policy=path)

    return judged


def of(verdict: Verdict, rule: str) -> RuleVerdict:
    return next(entry for entry in verdict.rules if entry.rule.id == rule)


def test_a_rule_of_ones_own_passes_fails_and_is_required(judge_by: JudgeBy) -> None:
    clean = judge_by(SERR)
    assert (of(clean, "SERR-KEPT").result.outcome, of(clean, "SERR-KEPT").required) == (Outcome.PASS, True)
    story = Story()
    story.write(173, EP0, 0x04, 0x006)
    story.reconnect()
    verdict = judge_by(SERR, story)
    assert "SERR-KEPT" in verdict.failing_rules
    assert of(verdict, "SERR-KEPT").result.findings[0].field == "serr_enable"


def test_a_rule_of_ones_own_is_narrowed_and_excused_like_any_other(judge_by: JudgeBy) -> None:
    story = Story()
    story.write(173, UP1, 0x04, 0x007)
    known = '[[exception]]\nrule = "SERR-KEPT"\nfunctions = ["up1"]\nreason = "known"\n'
    assert judge_by(SERR, story).failing_rules == ["SERR-KEPT"]
    assert judge_by(SERR, story, known).expected_rules == ["SERR-KEPT"]
    away = '[[judge]]\nrule = "SERR-KEPT"\nfunctions = ["bridges"]\nlevel = "off"\n'
    assert judge_by(SERR, story, away).failing_rules == []
    register = '[[judge]]\nrule = "SERR-KEPT"\nregisters = ["COMMAND.serr_enable"]\nlevel = "off"\n'
    assert of(judge_by(SERR, story, register), "SERR-KEPT").result.outcome is Outcome.VACUOUS


def test_a_rule_of_ones_own_is_explained(judge_by: JudgeBy, tmp_path: Path) -> None:
    judge_by(SERR)
    policy = load_policy(tmp_path / "mine.toml")
    page = explain_rule("serr-kept", policy)
    assert "COMMAND.serr_enable  header 0x04, bit 8 of 2 bytes" in page
    assert "mine          required" in page
    assert "SERR-KEPT" in rules_table(policy)
    entry = next(rule for rule in rules_json(policy)["rules"] if rule["id"] == "SERR-KEPT")
    assert entry["policies"]["mine"] == {"level": "required", "exceptions": []}
    with pytest.raises(PolicyError, match="SERR-KEPT"):
        explain_rule("SERR-KEPT")


def test_a_file_may_declare_classes_of_its_own(judge_by: JudgeBy) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        + SERR
        + ("\n\n@dataclass\nclass Seen:\n    count: int = 0\n")
    )
    assert of(judge_by(source), "SERR-KEPT").result.outcome is Outcome.PASS


WRONG_FILES = {
    "RULES = (": r"my_rules.py:1: '\(' was never closed",
    "\nimport nothing_such": r"my_rules.py:2: ModuleNotFoundError",
    "\n\n1 / 0": "my_rules.py:3: ZeroDivisionError",
    "import sys\nsys.exit(0)": "my_rules.py:2: SystemExit",
    "x = 1": "RULES has to be a tuple of Rule, and is missing",
    "RULES = ()": "RULES is empty",
    "RULES = 3": "and is int",
    "RULES = ('x',)": "and holds str",
    HEAD + "RULES = (rule(None),)": "judge cannot be called",
    HEAD + "RULES = (rule(print, id='BME-ENDPOINT'),)": "there is a rule BME-ENDPOINT already",
    HEAD + "RULES = (rule(print), rule(print))": "there is a rule MINE already",
    HEAD + "RULES = (rule(print, id='my rule'),)": "like MY-RULE",
    HEAD + "RULES = (rule(print, id=7),)": "like MY-RULE",
    HEAD + "RULES = (rule(print, title=7),)": "title has to be a string",
    HEAD + "RULES = (rule(print, title=''),)": "title is empty",
    HEAD + "RULES = (rule(print, severity='Z'),)": "severity 'Z' is none of",
    HEAD + "RULES = (rule(print, hazards=('1',)),)": "hazards has to be a tuple of int",
    HEAD + "RULES = (rule(print, registers='COMMAND'),)": "registers has to be a tuple of str",
    HEAD + "RULES = (rule(print, registers=('BAR?',)),)": "name each",
    HEAD + "RULES = (Rule(id='X'),)": "TypeError",
}


@pytest.mark.parametrize("source", WRONG_FILES)
def test_what_is_wrong_in_a_file_of_rules_is_one_line(tmp_path: Path, source: str) -> None:
    (tmp_path / "my_rules.py").write_text(source)
    path = tmp_path / "mine.toml"
    path.write_text(POLICY)
    with pytest.raises(PolicyError, match=WRONG_FILES[source]) as caught:
        load_policy(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_bytes(b"\xff\xfe")
    (tmp_path / "mine.toml").write_text(POLICY)
    with pytest.raises(PolicyError, match="not UTF-8"):
        load_policy(tmp_path / "mine.toml")


def test_two_files_cannot_have_a_rule_of_the_same_id(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(SERR)
    path = tmp_path / "mine.toml"
    path.write_text('extends = "series"\nrules = ["a.py", "b.py"]\n')
    with pytest.raises(PolicyError, match="two files of rules have a rule SERR-KEPT"):
        load_policy(path)


NONSENSE = {
    "None": "NoneType is not a Result",
    "'PASS'": "str is not a Result",
    "Outcome.PASS": "Outcome is not a Result",
    "Result('PASS', 1)": "'PASS' is no outcome",
    "Result(Outcome.PASS, 0)": "0 things examined",
    "Result(Outcome.PASS, True)": "examined True",
    "Result(Outcome.PASS, -1)": "examined -1",
    "Result(Outcome.PASS, 1.5)": "examined 1.5",
    "Result(Outcome.PASS, 1, (Finding('x'),))": "PASS with 1 findings",
    "Result(Outcome.PASS, 1, 'x')": "not a Finding",
    "Result(Outcome.PASS, 1, 7)": "crashed",
    "Result(Outcome.PASS, 1, (), 7)": "crashed",
    "Result(Outcome.VACUOUS, 0, (), (7,))": "a reason is not a string",
    "Result(Outcome.FAIL, 1)": "FAIL without a finding",
    "Result(Outcome.UNKNOWN, 1)": "UNKNOWN without a finding",
    "Result(Outcome.FAIL, 1, (Finding(7),))": "with a message",
    "Result(Outcome.FAIL, 1, (Finding('x', t_ns='soon'),))": "not an integer",
    "Result(Outcome.FAIL, 1, (Finding('x', phase=7),))": "not a string",
    "Result(Outcome.FAIL, 1, (Finding('x', count=0),))": "counts less than once",
    "1 / 0": "crashed: ZeroDivisionError",
    "exit(0)": "crashed: SystemExit",
    "evidence.results.clear()": "crashed: AttributeError",
    "evidence.nothing": "crashed: AttributeError",
}


@pytest.mark.parametrize("answer", NONSENSE)
def test_a_rule_that_talks_nonsense_is_unknown(judge_by: JudgeBy, answer: str) -> None:
    verdict = judge_by(HEAD + f"RULES = (rule(lambda evidence: {answer}),)")
    result = of(verdict, "MINE").result
    assert result.outcome is Outcome.UNKNOWN
    assert NONSENSE[answer] in result.findings[0].message
    assert verdict.outcome is Outcome.UNKNOWN


def test_nonsense_is_not_excused_nor_made_better_by_narrowing(judge_by: JudgeBy) -> None:
    source = HEAD + "RULES = (rule(lambda evidence: None, registers=('COMMAND',)),)"
    known = '[[exception]]\nrule = "MINE"\nphases = ["boot"]\nreason = "r"\n'
    narrow = '[[judge]]\nrule = "MINE"\nfunctions = ["ep0"]\nregisters = ["COMMAND"]\nlevel = "optional"\n'
    assert judge_by(source, more=narrow + known).outcome is Outcome.UNKNOWN
