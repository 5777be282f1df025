# SPDX-License-Identifier: MIT
"""The mutation library on what a real guest leaves: nothing that is done to one of its events may pass."""

import pytest

from pydev.continuity import load_policy, load_timeline
from pydev.testkit.mutations.judging import judged, policy_of, table
from pydev.testkit.mutations.library import mutations, sample
from pydev.testkit.mutations.mutation import Clean
from qemu_plugin.experiment import spec
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

BASE = spec.shipped()["live-update"].read_text()
COUNT = 100
"""A few tenths of a second each; `python -m pydev.testkit.mutations RUN` takes all that there are."""


async def test_no_mutation_of_a_real_recording_passes(live_update: LiveUpdateFactory) -> None:
    assert "period_us = 100," in BASE
    slower = spec.parse(BASE.replace("period_us = 100,", "period_us = 1000,"), "slower.toml")
    async with live_update(slower) as run:
        verdict = await run.finish()
    assert verdict.outcome == "PASS", run.run.report.read_text()
    clean = Clean.of(load_timeline(run.run.recording))
    policy = policy_of(clean, load_policy("series"))
    found = list(judged(clean, sample(mutations(clean, most=1), COUNT), policy))
    assert [one.mutation.describe() for one in found if one.is_wrong] == [], table(found)
    assert len({one.mutation.kind for one in found}) > 15, table(found)
