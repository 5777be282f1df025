# SPDX-License-Identifier: MIT
"""A policy's file says exactly what is meant, or one line says what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import Verdict, load_policy, policies, policy_page
from pydev.continuity.catalogue import rules
from pydev.continuity.policy import BENCH
from pydev.continuity.policy_text import flattened
from pydev.continuity.scope import Level
from pydev.errors import PolicyError
from pydev.testkit.story import Story

Judge = Callable[..., Verdict]
BENCH_RULES = [rule.id for rule in rules() if rule.severity == BENCH]


def policy_file(tmp_path: Path, text: str, name: str = "mine.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def judging(*lines: str) -> str:
    return "\n".join(["[[judge]]", *lines, ""])


def test_a_file_judges_what_it_names_and_always_the_bench(judge: Judge, tmp_path: Path) -> None:
    path = policy_file(tmp_path, judging('rule = "BAR-FINAL"', 'level = "optional"'))
    verdict = judge(Story(), policy=path)
    assert verdict.policy == "mine"
    judged = {entry.rule.id: entry.required for entry in verdict.rules}
    assert judged == dict.fromkeys(BENCH_RULES, True) | {"BAR-FINAL": False}
    assert {rule.id for rule in verdict.off} == {rule.id for rule in rules()} - set(judged)


@pytest.mark.parametrize("rule", BENCH_RULES)
@pytest.mark.parametrize(
    "lines",
    [('level = "off"',), ('level = "optional"',), ('level = "required"', 'functions = ["ep0"]')],
)
def test_the_bench_cannot_be_excused(tmp_path: Path, rule: str, lines: tuple[str, ...]) -> None:
    text = 'extends = "series"\n' + judging(f'rule = "{rule}"', *lines)
    with pytest.raises(PolicyError, match=f"{rule} is always required"):
        load_policy(policy_file(tmp_path, text))
    text = f'extends = "series"\n[[exception]]\nrule = "{rule}"\nphases = ["boot"]\nreason = "late"\n'
    with pytest.raises(PolicyError, match=f"{rule} judges the run as a whole"):
        load_policy(policy_file(tmp_path, text))


@pytest.mark.parametrize("level", ["off", "optional"])
def test_everything_off_leaves_the_bench_on(judge: Judge, tmp_path: Path, level: str) -> None:
    lines = ('rule = "*"', f'level = "{level}"'), ('rule = "BAR-FINAL"', 'level = "required"')
    verdict = judge(Story(), policy=policy_file(tmp_path, "".join(judging(*part) for part in lines)))
    assert {entry.rule.id for entry in verdict.rules if entry.required} == {*BENCH_RULES, "BAR-FINAL"}


def test_the_last_choice_is_right_whatever_it_extends(tmp_path: Path) -> None:
    policy_file(tmp_path, 'extends = "series"\n' + judging('rule = "RESET"', 'level = "off"'), "base.toml")
    text = 'extends = "base.toml"\n' + judging('rule = "RESET"', 'level = "optional"')
    policy = load_policy(policy_file(tmp_path, text))
    reset = next(rule for rule in policy.catalogue if rule.id == "RESET")
    assert policy.level(reset) is Level.OPTIONAL
    assert policy.base is not None
    assert policy.base.level(reset) is Level.OFF


ONE = '[[judge]]\nrule = "RESET"\nlevel = "required"\n'
WRONG = {
    "[[[": "not TOML",
    "name = 'x'": "judges nothing",
    '[[judge]]\nrule = "RECORD-COMPLETE"\nlevel = "required"': "judges nothing",
    ONE + "[rule]\nx = 1": "unknown key 'rule' .did you mean 'rules'",
    "[rules]\nRESET = 'required'": "rules has to be a list of Python files",
    "judge = 1": "written",
    "judge = [1]": "written",
    "[[judge]]\nlevel = 'required'": "rule has to be",
    "[[judge]]\nrule = []\nlevel = 'required'": "rule has to be",
    "[[judge]]\nrule = 'BME-ENDPINT'\nlevel = 'required'": "did you mean 'BME-ENDPOINT'",
    "[[judge]]\nrule = 'RESET'": "level has to be",
    "[[judge]]\nrule = 'RESET'\nlevel = 'perhaps'": "'perhaps'",
    "[[judge]]\nrule = 'RESET'\nlevel = 'required'\nfunction = ['ep0']": "did you mean 'functions'",
    "[[judge]]\nrule = 'RESET'\nlevel = 'required'\nfunctions = 'ep0'": "list of strings",
    "[[judge]]\nrule = 'RESET'\nlevel = 'required'\nfunctions = []": "selects nothing",
    "[[judge]]\nrule = 'RESET'\nlevel = 'required'\nfunctions = ['type:root']": "root_port",
    "[[judge]]\nrule = 'RESET'\nlevel = 'required'\nfunctions = ['port:x']": "selects no function",
    "[[judge]]\nrule = 'RESET'\nlevel = 'required'\nregisters = ['COMMAND']": "does not judge COMMAND",
    "[[judge]]\nrule = 'BME-BRIDGE'\nlevel = 'off'\nregisters = ['COMMAND.bus_mastr']": "does not judge|no field",
    "[[judge]]\nrule = 'BME-BRIDGE'\nlevel = 'off'\nregisters = ['COMMAND.a.b']": "is no register",
    "[[judge]]\nrule = 'DMA-CONTINUITY'\nlevel = 'off'\nregisters = ['COMMAND']": "nothing by a register's name",
    "[[judge]]\nrule = '*'\nlevel = 'off'\nregisters = ['COMMAND']": "rules by name",
    "[[judge]]\nrule = 'GUEST-UPDATED'\nlevel = 'off'\nfunctions = ['ep0']": "the run as a whole",
    ONE + "[[exception]]\nrule = 'RESET'\nfunctions = ['ep0']": "reason is missing",
    ONE + "[[exception]]\nrule = 'RESET'\nreason = 'x'": "excuses every failure",
    ONE + "[[exception]]\nrule = '*'\nreason = 'x'\nphases = ['probe']": "there is no rule '[*]'",
    ONE + "[[exception]]\nrule = 'RESET'\nreason = 'x'\nphases = ['lunch']": "'lunch' is no phase",
    ONE + "[[exception]]\nrule = 'RESET'\nreason = 'x'\ncaused_by = 'NOBODY'": "there is no rule 'NOBODY'",
    ONE + "[[exception]]\nrule = 'RESET'\nreason = 'x'\nregisters = ['COMMAND']": "does not judge COMMAND",
    ONE
    + "[[exception]]\nrule = 'RESET'\nreason = 'x'\nunattributed = true\nphases = ['probe']": "there are none",
    ONE + "[[exception]]\nrule = 'RESET'\nreason = 'x'\nwriters = ['f']\nunattributed = 1": "true or false",
    "extends = 'series'\nunexcused = ['RESET']": "nothing that it extends expects RESET to fail",
    "extends = 'series'\nunexcused = ['BAR-SIZNG']": "did you mean 'BAR-SIZING'",
    ONE + "[[exception]]\nrule = 'GUEST-UPDATED'\nreason = 'x'\nphases = ['jump']": "the run as a whole",
    "extends = 'seires'": "did you mean 'series'",
    "extends = 'mine.toml'": "extends itself",
    "extends = ['series']": "extends has to be a string",
    "name = 'series'\nextends = 'series'": "name of a shipped policy",
    "extends = 'series'\nrules = ['absent.py']": "absent.py: No such file",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError, match=WRONG[text]) as caught:
        load_policy(policy_file(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_an_unknown_policy_lists_those_that_exist() -> None:
    with pytest.raises(PolicyError, match="series"):
        load_policy("serious")


RULES_FILE = """
from pydev.continuity import Judgement, Rule

RULES = (
    Rule(id="MINE", title="t", hazards=(), severity="H", why="w", acceptable="a", source="s", planted_fault="p",
         judge=lambda evidence: Judgement().result()),
)
"""


def test_a_policy_written_out_is_the_same_policy_without_its_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    policy_file(home, RULES_FILE, "own.py")
    policy_file(
        home,
        'extends = "iommu"\nrules = ["own.py"]\n'
        + judging('rule = "RESET"', 'level = "off"', 'reason = "he said \\"no\\" \\u007f"'),
        "base.toml",
    )
    original = load_policy(
        policy_file(
            home,
            'name = "ours"\ndescription = "d"\nextends = "base.toml"\nunexcused = ["DOE"]\n'
            + judging(
                'rule = ["BME-BRIDGE", "MINE"]', 'functions = ["id:path", "above:ep0"]', 'level = "optional"'
            )
            + '[[exception]]\nrule = "BUS-NUMBERS"\nregisters = ["SECONDARY_BUS"]\nphases = ["probe"]\n'
            'writers = ["f"]\nunattributed = true\ncaused_by = "RESET"\nreason = "r"\n',
        )
    )
    text, files = flattened(original)
    away = tmp_path / "away"
    away.mkdir()
    for name, source in files.items():
        (away / name).write_text(source)
    copy = load_policy(policy_file(away, text))
    assert (copy.name, copy.choices, copy.expected_failures) == (
        original.name,
        original.choices,
        original.expected_failures,
    )
    assert [rule.id for rule in copy.user_rules] == ["MINE"]
    assert copy.base is policies()["iommu"]


@pytest.mark.parametrize("name", policies())
def test_a_policys_page_fits_a_mail_and_has_every_rule(name: str) -> None:
    page = policy_page(load_policy(name))
    assert max(map(len, page.splitlines())) <= 78
    words = page.replace(",", " ").replace(":", " ").split()
    assert [rule.id for rule in rules() if rule.id not in words] == []
