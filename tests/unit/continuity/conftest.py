# SPDX-License-Identifier: MIT
from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import Expectation, Verdict, load_policy, load_timeline, verify
from pydev.testkit.story import Story

Judge = Callable[..., Verdict]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Writes a story and judges it by the shipped policy."""

    def judged(
        story: Story, expectation: Expectation | None = None, policy: str | Path = "series"
    ) -> Verdict:
        timeline = load_timeline(story.save(tmp_path / "recording.lus"))
        return verify(timeline, load_policy(policy), expectation)

    return judged
