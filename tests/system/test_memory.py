# SPDX-License-Identifier: MIT
"""Whether DMA hit memory that is not the device's: the guest fills its free memory and looks for changes."""

import pytest

from pydev.recording.format import Flag, Kind
from qemu_plugin.experiment import judge, spec
from qemu_plugin.experiment.runner import LiveUpdate
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

PAGES = 64
RING_SLOTS = PAGES * 64
BROKEN = (
    "options = { ignores_bus_master = true }\nstream = { pages = 64, period_us = 100, interrupt_every = 64 }"
)


def experiment(*changes: tuple[str, str]) -> spec.Experiment:
    text = spec.shipped()["unpatched"].read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return spec.parse(text, "memory.toml")


async def written_slots(run: LiveUpdate, count: int) -> None:
    """Wait until the device has put this many more slots into memory."""
    begin = run.bench.recording.head

    def enough() -> bool:
        records = run.bench.recording.view(begin, run.bench.recording.head)
        hits = (
            (records["kind"] == Kind.DMA_WRITE)
            & (records["flags"] & Flag.BLOCKED == 0)
            & (records["seq"] != 0)
        )
        return int(hits.sum()) >= count

    await run.bench.until(enough, f"{count} slots in memory", 60)


async def test_a_preserved_ring_is_all_that_is_written_in_the_incoming_kernel(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update(experiment()) as run:
        await run.phase("updated")
        filled = await run.agent("fill")
        await run.phase("finished")
        found = await run.agent("scan")
        verdict = await run.finish()
    assert filled["pages"] > 10_000
    assert found["pages"] == filled["pages"]
    assert found["bad_pages"] == 0
    assert verdict.as_expected


async def test_a_device_that_goes_on_through_the_update_hits_its_preserved_ring_and_nothing_else(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update(
        experiment(("stream = { pages = 64, period_us = 100, interrupt_every = 64 }", BROKEN))
    ) as run:
        await run.phase("updated")
        await run.agent("fill")
        await written_slots(run, RING_SLOTS)
        await run.phase("finished")
        found = await run.agent("scan")
        await run.finish()
    _, verdict = judge.judge_again(run.run)
    outcomes = {entry.rule.id: str(entry.result.outcome) for entry in verdict.rules}
    assert found["bad_pages"] == 0
    assert outcomes["DMA-CONTINUITY"] == "PASS", run.run.report.read_text()
    assert outcomes["DMA-INTEGRITY"] == "PASS"
    assert outcomes["BME-ENDPOINT"] == "FAIL"


async def test_a_ring_that_was_not_preserved_is_caught_page_by_page(live_update: LiveUpdateFactory) -> None:
    """The negative control: without it the two tests above would prove nothing."""
    rogue = experiment(
        ("stream = { pages = 64, period_us = 100, interrupt_every = 64 }", BROKEN),
        ("[expect]", "[update]\npreserve_memory = false\n\n[expect]"),
    )
    async with live_update(rogue) as run:
        await run.phase("prepared")
        await run.phase("updated")
        ring = {address >> 12 for address in pages_of(run)}
        assert len(ring) == PAGES
        await run.agent("fill")
        await written_slots(run, 2 * RING_SLOTS)
        found = await run.agent("scan")
    assert found["bad_pages"] > PAGES // 2
    assert set(found["frames"]) <= ring


def pages_of(run: LiveUpdate) -> list[int]:
    records = run.bench.recording.view(0, run.bench.recording.head)
    return [int(address) for address in records["address"][records["kind"] == Kind.ENGINE_PAGE]]
