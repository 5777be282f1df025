# SPDX-License-Identifier: MIT
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pydev.continuity import Expectation, Result, Timeline, Verdict, load_policy, load_timeline, verify
from pydev.testkit.faults import JUDGED_ALONE
from pydev.testkit.story import Story

Judge = Callable[..., Verdict]
Results = Callable[[Story], dict[str, Result]]
Told = Callable[[Callable[[str], Story], str], Timeline]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Writes a story, if it is not a timeline already, and judges it by the shipped policy."""

    def judged(
        story: Story | Timeline, expectation: Expectation | None = None, policy: str | Path = "series"
    ) -> Verdict:
        if isinstance(story, Story):
            story = load_timeline(story.save(tmp_path / "recording.lus"))
        return verify(story, load_policy(policy), expectation)

    return judged


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The timeline of a rule's story, `faults.clean_story` or `planted_story`: told once for all tests."""

    @cache
    def timeline(tell: Callable[[str], Story], rule: str) -> Timeline:
        return load_timeline(tell(rule).save(tmp_path_factory.mktemp("told") / f"{rule}.lus"))

    return timeline


@pytest.fixture
def results(judge: Judge, tmp_path: Path) -> Results:
    """Judges a story by every rule that can be kept beside the others; gives each rule's answer."""
    choices = [("*", "optional"), *((rule, "off") for rule in sorted(JUDGED_ALONE))]
    policy = tmp_path / "everything.toml"
    policy.write_text("".join(f'[[judge]]\nrule = "{name}"\nlevel = "{level}"\n' for name, level in choices))

    def judged(story: Story) -> dict[str, Result]:
        return {entry.rule.id: entry.result for entry in judge(story, policy=policy).rules}

    return judged
