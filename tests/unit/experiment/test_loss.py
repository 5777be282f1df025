# SPDX-License-Identifier: MIT
"""A wait ends with its result, with the loss of the machine, or at its deadline; never silently, never twice."""

import asyncio

import pytest

from qemu_plugin.experiment.loss import BenchLostError, LostError, Watch

pytestmark = pytest.mark.asyncio


async def never() -> None:
    await asyncio.Event().wait()


async def answer() -> int:
    return 42


async def test_a_wait_gives_its_result() -> None:
    assert await Watch().guard(answer(), "the answer", 5) == 42


async def test_a_loss_ends_a_wait_that_is_under_way() -> None:
    watch = Watch()
    wait = asyncio.ensure_future(watch.guard(never(), "nothing", 60))
    await asyncio.sleep(0)
    watch.lose(BenchLostError("gone"))
    with pytest.raises(BenchLostError, match="gone"):
        await wait


async def test_a_loss_ends_every_later_wait() -> None:
    watch = Watch()
    watch.lose(LostError("gone"))
    with pytest.raises(LostError, match="gone"):
        await watch.guard(never(), "nothing", 60)


async def test_the_first_loss_stays_the_reason() -> None:
    watch = Watch()
    watch.lose(LostError("first"))
    watch.lose(LostError("second"))
    assert str(watch.loss) == "first"


async def test_a_deadline_says_what_was_waited_for() -> None:
    with pytest.raises(LostError, match=r"nothing for 0\.01 s while waiting for the tide"):
        await Watch().guard(never(), "the tide", 0.01)


async def test_a_wait_that_was_given_up_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def watched() -> None:
        try:
            await never()
        finally:
            cancelled.set()

    with pytest.raises(LostError):
        await Watch().guard(watched(), "nothing", 0.01)
    assert cancelled.is_set()
