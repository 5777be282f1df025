# SPDX-License-Identifier: MIT
"""One promise broken at a time, by a real kernel (`pci_liveupdate_fault=`): exactly its rules fail.

The first rule of each is the root; the others are its consequences, each with the rule that it is caused by.
"""

from dataclasses import dataclass, field

import pytest

from qemu_plugin.experiment import spec
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

BASE = spec.shipped()["live-update"].read_text()
ACS_ON = "pci=config_acs=1111101@00:01.0"
ARI_ON = """
[[step]] # DEVCTL2.ari_forwarding of the port above ep0: the kernel itself never sets it on these ports
phase = "prepared"
agent = { cmd = "config", bdf = "0000:02:00.0", offset = 184, width = 2, value = 32 }
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, in which kernel it strikes, and what comes of it: rule → caused by."""

    name: str
    failing: dict[str, str | None] = field(default_factory=dict)
    is_outgoing: bool = False
    outgoing: str = ""
    more: str = ""


FAULTS = [
    Fault("clear-endpoint-bme", {"BME-ENDPOINT": None, "DMA-CONTINUITY": "BME-ENDPOINT"}, is_outgoing=True),
    Fault("clear-bridge-bme", {"BME-BRIDGE": None}, is_outgoing=True),
    Fault("wrong-refcount", {"BME-BRIDGE": None}, is_outgoing=True),
    Fault("renumber-bus", {"BUS-NUMBERS": None, "REQUESTER-ID": "BUS-NUMBERS"}),
    Fault("bme-dip-bar-sizing", {"BME-ENDPOINT": None, "DMA-CONTINUITY": "BME-ENDPOINT"}),
    Fault("msix-left-enabled", {"MSIX-TAKEOVER": None}),
    Fault("drop-acs", {"ACS-CONTROL": None}, outgoing=ACS_ON),
    Fault("drop-ari", {"ARI-FORWARDING": None}, more=ARI_ON),
    Fault("change-lnkctl", {"LINK-CONTROL": None}),
    Fault("move-bar", {"BAR-FINAL": None}),
    Fault("port-clears-bme", {"BME-BRIDGE": None}),
    Fault("port-irq-fails"),  # the series guards this path (hazard 53): port-clears-bme also lifts the guard
    Fault("no-catch-up", {"CATCH-UP": None}),
    Fault("page-not-preserved", {"PRESERVED-SET": None, "GUEST-UPDATED": "PRESERVED-SET"}, is_outgoing=True),
    Fault(
        "other-compatible",
        {"PRESERVED-SET": None, "GUEST-UPDATED": "PRESERVED-SET", "DMA-CONTINUITY": "PRESERVED-SET"},
    ),
    Fault("finish-early", {"PRESERVED-SET": None, "DMA-CONTINUITY": "PRESERVED-SET"}),
    Fault(
        "secondary-bus-reset",
        {"RESET": None, "BME-ENDPOINT": "RESET", "DMA-CONTINUITY": "RESET"},
    ),
    Fault(
        "flr-at-probe",
        {"RESET": None, "BME-ENDPOINT": "RESET", "BAR-FINAL": "RESET", "DMA-CONTINUITY": "RESET"},
    ),
    Fault(
        "endpoint-d3hot",
        {
            "POWER-STATE": None,
            "RESET": "POWER-STATE",
            "BME-ENDPOINT": "RESET",
            "DEVICE-CONTROL": "RESET",
            "DMA-CONTINUITY": "POWER-STATE",
        },
    ),
]


def experiment(fault: Fault) -> spec.Experiment:
    planted = f"pci_liveupdate_fault={fault.name}"
    outgoing = planted if fault.is_outgoing else fault.outgoing
    incoming = "" if fault.is_outgoing else planted
    lines = f'[guest]\ncommand_line = "{outgoing}"\nnext_command_line = "{incoming}"\n'
    assert BASE.count("[guest]\n") == 1
    return spec.parse(BASE.replace("[guest]\n", lines) + fault.more, f"{fault.name}.toml")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_broken_promise_fails_exactly_its_rules(live_update: LiveUpdateFactory, fault: Fault) -> None:
    async with live_update(experiment(fault)) as run:
        verdict = await run.finish()
    failed = {
        entry.rule.id: entry.result.caused_by for entry in verdict.rules if entry.result.outcome == "FAIL"
    }
    assert failed == fault.failing, run.run.report.read_text()


async def test_a_ring_that_was_not_preserved_fails_its_rule_even_if_the_guest_does_not_live_to_tell(
    live_update: LiveUpdateFactory,
) -> None:
    """The devices go on into memory that is the incoming kernel's by now: what becomes of it is chance."""
    fault = Fault(
        "buffer-not-preserved", is_outgoing=True, more="\n[deadlines]\nupdate_s = 20\ncommand_s = 10\n"
    )
    async with live_update(experiment(fault)) as run:
        verdict = await run.finish()
    assert "PRESERVED-SET" in verdict.failing_rules, run.run.report.read_text()
    assert verdict.outcome == "FAIL"


async def test_without_a_fault_nothing_fails_and_nothing_is_left_unexamined(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update("live-update") as run:
        verdict = await run.finish()
    assert verdict.outcome == "PASS", run.run.report.read_text()
    assert verdict.as_expected
    examined = {entry.rule.id for entry in verdict.rules if entry.result.outcome == "PASS"}
    assert examined >= {
        root for fault in FAULTS for root, cause in fault.failing.items() if cause is None
    } - {
        "ACS-CONTROL",  # 0 unless an option or a step sets them: nothing could be lost
        "ARI-FORWARDING",
    }
    assert verdict.measurements is not None
    assert verdict.measurements.dma_blocked == 0
    assert verdict.measurements.dma_misdirected == 0
