# SPDX-License-Identifier: MIT
"""The policy and the rule that the README shows do what it says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import Verdict, explain_rule, load_policy, policies
from pydev.continuity.selection import CLASSES
from pydev.testkit.story import DN1, UP1, Story

Judge = Callable[..., Verdict]
README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    for name in ("my-policy.toml", "my_rules.py"):
        found = [text for text in re.findall(r"```\w+\n(.*?)```", README, re.DOTALL) if f"# {name}\n" in text]
        assert len(found) == 1
        (tmp_path / name).write_text(found[0])
    return tmp_path / "my-policy.toml"


def lost(bridge: int, by: str) -> Story:
    story = Story()
    story.write(173, bridge, 0x04, 0x007, by=by)
    return story


def test_the_rule_of_the_readme_finds_what_it_is_for(judge: Judge, policy: Path) -> None:
    verdict = judge(lost(DN1, "pci_setup_device"), policy=policy)
    assert verdict.failing_rules == ["SERR-KEPT"]
    finding = next(entry for entry in verdict.rules if entry.rule.id == "SERR-KEPT").result.findings[0]
    assert (finding.field, finding.function) == ("serr_enable", "pci_setup_device")
    assert "COMMAND.serr_enable" in explain_rule("SERR-KEPT", load_policy(policy))


def test_the_exception_of_the_readme_is_as_narrow_as_it_says(judge: Judge, policy: Path) -> None:
    assert judge(lost(UP1, "pci_setup_device"), policy=policy).expected_rules.count("SERR-KEPT") == 1
    assert judge(lost(UP1, "pci_clear_master"), policy=policy).failing_rules == ["SERR-KEPT"]


def test_the_readme_names_every_policy_selector_and_key() -> None:
    prefixes = ("type:", "model:", "above:", "below:")
    keys = (
        "[[judge]]",
        "[[exception]]",
        "registers",
        "phases",
        "writers",
        "unattributed",
        "caused_by",
        "unexcused",
    )
    missing = [word for word in (*CLASSES, *prefixes, *keys, *policies()) if f"`{word}" not in README]
    assert missing == []
