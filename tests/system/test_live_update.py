# SPDX-License-Identifier: MIT
"""The main job, for real: a guest boots, live-updates itself, and the wire is judged."""

import json
import re
from pathlib import Path

import pytest

from qemu_plugin.experiment import judge, rundir
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio


def failing(verdict: object) -> set[str]:
    return {rule["id"] for rule in verdict["rules"] if rule["outcome"] == "FAIL"}  # type: ignore[index]


async def test_the_unpatched_kernel_is_found_to_clear_bus_mastering_and_nothing_else(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update("unpatched") as run:
        verdict = await run.finish()
    document = json.loads(run.run.verdict.read_text())
    assert verdict.as_expected, run.run.report.read_text()
    assert document["outcome"] == "FAIL"
    assert document["guest"] == "updated"
    assert failing(document) == {"BME-ENDPOINT", "BME-BRIDGE", "DMA-CONTINUITY"}
    rules = {rule["id"]: rule for rule in document["rules"]}
    finding = rules["BME-ENDPOINT"]["findings"][0]
    assert (finding["register"], finding["field"], finding["phase"]) == ("COMMAND", "bus_master", "shutdown")
    assert finding["before"] & 4
    assert not finding["after"] & 4
    assert rules["DMA-CONTINUITY"]["caused_by"] == "BME-ENDPOINT"
    assert rules["DMA-INTEGRITY"]["outcome"] == "PASS"
    assert rules["RECORD-COMPLETE"]["outcome"] == "PASS"
    measured = document["measurements"]
    assert measured["dma_blocked"] > 0
    assert measured["dma_misdirected"] == 0
    assert measured["dma_gap_max_ns"] > 100_000_000
    assert document["recording"]["complete"]


async def test_judging_again_without_the_machine_gives_the_same_verdict(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update("unpatched") as run:
        await run.finish()
    _, again = judge.judge_again(rundir.opened(run.run.path))
    assert json.loads(judge.as_json(again)) == json.loads(run.run.verdict.read_text())


async def test_the_config_space_of_every_function_is_kept_as_lspci_reads_it(shared_run: Path) -> None:
    command_low = {}
    for phase in ("frozen", "updated", "finished"):
        functions = (shared_run / f"config-{phase}.lspci").read_text().split("\n\n")
        parsed = {
            text.split()[1]: bytes.fromhex("".join(re.findall(r"^..+?: (.*)$", text, re.M)))
            for text in functions
        }
        assert set(parsed) >= {"ep0", "ep1", "ep2", "rp1", "up1", "dn1", "dn2", "rp2"}
        assert parsed["ep0"][:4] == bytes.fromhex("e51d554c")
        assert parsed["dn1"][0x0E] & 0x7F == 1
        command_low[phase] = parsed["ep0"][4]
    assert command_low["frozen"] & 4
    assert not command_low["updated"] & 4
    assert command_low["finished"] & 4


async def test_a_plain_kexec_is_not_taken_for_a_live_update(live_update: LiveUpdateFactory) -> None:
    async with live_update("plain-kexec") as run:
        verdict = await run.finish()
    document = json.loads(run.run.verdict.read_text())
    assert document["guest"] == "rebooted", run.run.report.read_text()
    assert "GUEST-UPDATED" in failing(document)
    assert verdict.as_expected


async def test_a_test_can_hold_the_guest_at_a_phase_and_look_at_the_machine(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update("unpatched") as run:
        await run.phase("prepared")
        buses = await run.qmp("query-pci")
        assert any(device.get("pci_bridge") for device in buses[0]["devices"])
        reply = await run.agent("ping")
        assert reply["ok"]
        await run.phase("frozen")
        assert (await run.qmp("query-status"))["status"] == "running"
        verdict = await run.finish()
    assert verdict.as_expected


@pytest.mark.parametrize(
    ("expectation", "why"),
    [
        ('outcome = "PASS"', "another outcome"),
        ('outcome = "FAIL"\nfailing_rules = ["BME-ENDPOINT", "BME-BRIDGE"]', "one rule fewer"),
        (
            'outcome = "FAIL"\nfailing_rules = ["BME-ENDPOINT", "BME-BRIDGE", "DMA-CONTINUITY", "DMA-INTEGRITY"]',
            "one rule more",
        ),
        (
            'outcome = "FAIL"\nfailing_rules = ["BME-ENDPOINT", "BME-BRIDGE", "DMA-CONTINUITY"]\nguest = "panic"',
            "another guest",
        ),
    ],
)
async def test_an_expectation_that_is_off_by_anything_is_not_met(
    shared_run: Path, tmp_path: Path, expectation: str, why: str
) -> None:
    for name in ("recording.lus", "verdict.json"):
        (tmp_path / name).symlink_to(shared_run / name)
    text = (shared_run / "experiment.toml").read_text()
    (tmp_path / "experiment.toml").write_text(text.partition("[expect]")[0] + "[expect]\n" + expectation)
    _, verdict = judge.judge_again(rundir.opened(tmp_path))
    assert not verdict.as_expected, why
    assert judge.exit_status(verdict) == 1
