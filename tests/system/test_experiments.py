# SPDX-License-Identifier: MIT
"""Every shipped experiment comes out as its file says, on a real guest."""

import pytest

from qemu_plugin.experiment import spec
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

ELSEWHERE = {"unpatched", "plain-kexec", "live-update"}
"""Performed by the tests that look at them more closely."""


@pytest.mark.parametrize("name", sorted(set(spec.shipped()) - ELSEWHERE))
async def test_an_experiment_comes_out_as_it_says(live_update: LiveUpdateFactory, name: str) -> None:
    async with live_update(name) as run:
        verdict = await run.finish()
    assert verdict.as_expected, run.run.report.read_text()
