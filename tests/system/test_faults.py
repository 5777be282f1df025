# SPDX-License-Identifier: MIT
"""Promises broken by a real kernel (`pci_liveupdate_fault=`): exactly their rules fail, and name who did it.

Faults that have nothing to do with each other share a run. What each writes, when and by which function is in the
kernel's table (`guest_images/kernel/patches/luo-pci/0018-*.patch`); a few registers that no kernel path writes are
set up beforehand by user space, through the agent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pydev.continuity import Verdict
from pydev.endpoints import load
from pydev.pci import type1
from pydev.units import bdf_text
from qemu_plugin.experiment import spec
from qemu_plugin.machine.commandline import PORT_CAPABILITIES
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

BASE = spec.shipped()["live-update"].read_text()
FEATURES = ("ats", "pri", "pasid", "ltr", "l1ss", "doe", "ide", "sriov", "dpc")
_ENDPOINT = load("stream")(capabilities=list(FEATURES)).describe()["registers"]
_ROOT_PORT = type1.describe(PORT_CAPABILITIES["root_port"])
_DOWNSTREAM_PORT = type1.describe(PORT_CAPABILITIES["downstream_port"])

By = tuple[str, str | None, str]
"""A rule, the function at which it has a finding (None: any), and a kernel function on that finding's stack."""


def _at(registers: Iterable[Any], name: str) -> str:
    """`offset.width` of a register, as the planted write wants it."""
    entry = next(entry for entry in registers if entry["name"] == name)
    return f"{entry['offset']:x}.{ {1: 'b', 2: 'w', 4: 'l'}[entry['width']] }"


def endpoint(name: str) -> str:
    return _at(_ENDPOINT, name)


def root_port(name: str) -> str:
    return _at(_ROOT_PORT, name)


def step(bdf: str, registers: Iterable[Any], name: str, value: int) -> str:
    """A step by which user space writes a register before the guest is frozen."""
    entry = next(entry for entry in registers if entry["name"] == name)
    where = f'bdf = "{bdf}", offset = {entry["offset"]}, width = {entry["width"]}, value = {value}'
    return f'\n[[step]]\nphase = "prepared"\nagent = {{ cmd = "config", {where} }}\n'


@dataclass(frozen=True, slots=True)
class Fault:
    """What is planted in which kernel, and what comes of it: each rule that fails, and what it is caused by."""

    name: str
    failing: dict[str, str | None] = field(default_factory=dict)
    outgoing: tuple[str, ...] = ()
    incoming: tuple[str, ...] = ()
    by: tuple[By, ...] = ()
    command_line: str = ""
    """More for the outgoing kernel."""
    capabilities: tuple[str, ...] = ()
    """Of the endpoint ep0, beside what every stream endpoint has."""
    policy: str = "series"
    more: str = ""


FAULTS = [
    Fault(
        "bus mastering of endpoints, at shutdown",
        {"BME-ENDPOINT": None, "DMA-CONTINUITY": "BME-ENDPOINT", "CONTROL-CLEARED": None},
        outgoing=("clear-endpoint-bme@03:00.0", "disable-at-shutdown@05:00.0", "leave-bme@04:00.0"),
        by=(
            ("BME-ENDPOINT", "03:00.0", "pci_clear_master"),
            ("BME-ENDPOINT", "05:00.0", "do_pci_disable_device"),
            ("DMA-CONTINUITY", "03:00.0", "pci_clear_master"),
            ("DMA-CONTINUITY", "05:00.0", "pci_device_shutdown"),
        ),
    ),
    Fault(
        "bus mastering of bridges, by three ways",
        {"BME-BRIDGE": None, "UPSTREAM-FORWARDING": "BME-BRIDGE"},
        outgoing=("wrong-refcount", "clear-bridge-bme@01:00.0"),
        incoming=("port-clears-bme@00:02.0",),
        by=(
            ("BME-BRIDGE", "02:00.0", "pci_device_shutdown"),
            ("BME-BRIDGE", "01:00.0", "pci_clear_master"),
            ("BME-BRIDGE", "00:02.0", "pcie_portdrv_probe"),
            ("UPSTREAM-FORWARDING", None, "pci_clear_master"),
        ),
    ),
    Fault("port-irq-fails", incoming=("port-irq-fails",)),  # the series guards this path (hazard 53)
    Fault(
        "registers and addresses, at enumeration",
        {
            "BUS-NUMBERS": None,
            "ACS-CONTROL": None,
            "ARI-FORWARDING": None,
            "DEVICE-CONTROL": None,
            "LINK-CONTROL": None,
            "EARLY-MMIO": None,
            "BAR-FINAL": None,
            "BAR-SIZING": None,
            "BRIDGE-WINDOWS": None,
            "VGA-FORWARDING": None,
            "CATCH-UP": None,
            "BELIEF": None,
        },
        incoming=(
            "subordinate-dip",
            "drop-acs",
            "drop-ari",
            "drop-ext-tag@03:00.0",
            "drop-relaxed-ordering@05:00.0",
            "change-mps@05:00.0",
            "change-mrrs@05:00.0",
            "change-lnkctl",
            "early-mmio",
            "move-bar@03:00.0",
            "window-dip@01:00.0",
            "window-shrinks@00:02.0",
            "vga-on@05:00.0",
            "no-catch-up",
            "wrong-belief",
        ),
        by=(
            ("BUS-NUMBERS", "00:01.0", "pci_scan_bridge_extend"),
            ("ACS-CONTROL", "00:01.0", "pci_enable_acs"),
            ("ARI-FORWARDING", "02:00.0", "pci_configure_ari"),
            ("DEVICE-CONTROL", "03:00.0", "pci_configure_extended_tags"),
            (
                "DEVICE-CONTROL",
                "05:00.0",
                "pci_device_add",
            ),  # pci_configure_relaxed_ordering is inlined there
            ("DEVICE-CONTROL", "05:00.0", "pcie_set_mps"),
            ("DEVICE-CONTROL", "05:00.0", "pcie_set_readrq"),
            ("LINK-CONTROL", "03:00.0", "pci_liveupdate_fault_lnkctl"),
            ("BAR-FINAL", "03:00.0", "pci_liveupdate_fault_move_bar"),
            ("BAR-SIZING", "03:00.0", "pci_liveupdate_fault_move_bar"),
            ("BRIDGE-WINDOWS", "01:00.0", "pci_setup_bridge_mmio"),
            ("BRIDGE-WINDOWS", "00:02.0", "pci_setup_bridge_mmio"),
            ("VGA-FORWARDING", "00:02.0", "pci_set_vga_state"),
        ),
        command_line="pci=config_acs=1111101@00:01.0",
        # The kernel itself never sets it on these ports.
        more=step("0000:02:00.0", _DOWNSTREAM_PORT, "DEVCTL2", 1 << 5),
    ),
    Fault(
        "decode and bus mastering, while BARs are sized",
        {
            "BAR-SIZING": None,
            "BRIDGE-WINDOWS": None,
            "BME-ENDPOINT": None,
            "DMA-CONTINUITY": "BME-ENDPOINT",
        },
        incoming=("bme-dip-bar-sizing@03:00.0", "decode-left-off@05:00.0"),
        by=(
            ("BAR-SIZING", "05:00.0", "pci_setup_device"),  # pci_read_bases is inlined there
            ("BRIDGE-WINDOWS", "00:01.0", "pci_setup_device"),
            ("BME-ENDPOINT", "03:00.0", "pci_setup_device"),
        ),
        policy="p2p",
    ),
    Fault(
        "renumber-bus",
        {"BUS-NUMBERS": None, "REQUESTER-ID": "BUS-NUMBERS"},
        incoming=("renumber-bus",),
        by=(("BUS-NUMBERS", "02:00.0", "pci_scan_bridge_extend"),),
    ),
    Fault(
        "interrupts that are not taken over, and not set up",
        {"MSIX-TAKEOVER": None, "MSIX-SEQUENCE": None, "CATCH-UP": None, "BELIEF": "MSIX-TAKEOVER"},
        incoming=(
            "msix-left-enabled@03:00.0",
            f"write@probe:05:00.0:{endpoint('MSIX_CONTROL')}=8000:c000/2",
            "msix-left-masked@05:00.0",
        ),
        by=(("MSIX-SEQUENCE", "05:00.0", "pci_liveupdate_fault_write"),),
    ),
    Fault(
        "features that the device itself has",
        dict.fromkeys(
            (
                "ATS",
                "PRI-PASID",
                "L1SS",
                "DPC",
                "DOE",
                "IDE",
                "SRIOV",
                "BAR-SIZING",
                "BRIDGE-WINDOWS",
                "STRAY-INTERRUPT",
            )
        ),
        incoming=(
            "drop-ats",
            "reset-pri",
            f"write@probe:03:00.0:{endpoint('L1SS_CTL1')}=0:4",
            f"write@probe:03:00.0:{endpoint('DPC_CTL')}=0:3",
            f"write@probe:03:00.0:{endpoint('DOE_CTRL')}=1",
            f"write@probe:03:00.0:{endpoint('IDE_SELECTIVE_CTL')}=0:1",
            f"write@probe:03:00.0:{endpoint('SRIOV_CTRL')}=0:1",
        ),
        by=(
            ("ATS", "03:00.0", "pci_prepare_ats"),
            ("PRI-PASID", "03:00.0", "pci_reset_pri"),
            *(
                (rule, "03:00.0", "pci_liveupdate_fault_write")
                for rule in ("L1SS", "DPC", "DOE", "IDE", "SRIOV")
            ),
        ),
        capabilities=FEATURES,
        policy="strict",
        more="".join(
            step("0000:03:00.0", _ENDPOINT, name, value)
            for name, value in (
                ("ATS_CTRL", 0x8001),
                ("PRI_CTRL", 1),
                ("L1SS_CTL1", 4),
                ("DPC_CTL", 1),
                ("DOE_WRITE", 1),  # a discovery of three dwords, whose response nobody fetches
                ("DOE_WRITE", 3),
                ("DOE_WRITE", 0),
                ("DOE_CTRL", 1 << 31),
                ("IDE_SELECTIVE_CTL", 1),
                ("SRIOV_CTRL", 1),
            )
        ),
    ),
    Fault(
        "what harms no traffic, and what every kernel does",
        {
            "ERROR-REPORTING": None,
            "SLOT-CONTROL": None,
            "ROOT-CONTROL": None,
            "PME": None,
            "PORT-INTERRUPT": None,
            "BAR-SIZING": None,
            "BRIDGE-WINDOWS": None,
            "STRAY-INTERRUPT": None,
        },
        outgoing=(f"write@shutdown:00:01.0:{root_port('MSIX_CONTROL')}=8000:8000",),
        incoming=(
            "pme-on@03:00.0",
            f"write@probe:03:00.0:{endpoint('AER_UNCOR_MASK')}=10:10",
            f"write@finish:00:02.0:{root_port('SLTCTL')}=100:300",
        ),
        by=(
            ("ERROR-REPORTING", "03:00.0", "pci_liveupdate_fault_write"),
            ("SLOT-CONTROL", "00:02.0", "pci_liveupdate_fault_write"),
            ("ROOT-CONTROL", "00:02.0", "aer_probe"),
            ("PME", "03:00.0", "pci_pme_active"),
            ("PORT-INTERRUPT", "00:01.0", "pci_liveupdate_fault_write"),
            ("BAR-SIZING", "03:00.0", "pci_setup_device"),
            ("BRIDGE-WINDOWS", "00:01.0", "pci_setup_device"),
        ),
        policy="strict",
        # System errors, which AER's driver turns off again.
        more=step("0000:00:02.0", _ROOT_PORT, "RTCTL", 7),
    ),
    Fault(
        "no write at all, which no kernel keeps to",
        {"CONFIG-QUIET": None},
        by=(("CONFIG-QUIET", "03:00.0", "pci_msix_init"),),
        policy="conservative",
    ),
    Fault(
        "a BAR written by a kernel that is up already",
        {"RESCAN": None, "BAR-SIZING": None},
        incoming=(f"write@finish:05:00.0:{endpoint('BAR0')}=ffffffff/1",),
        by=(("RESCAN", "05:00.0", "pci_liveupdate_fault_write"),),
    ),
    Fault(
        "page-not-preserved",
        {"PRESERVED-SET": None, "GUEST-UPDATED": "PRESERVED-SET"},
        outgoing=("page-not-preserved",),
    ),
    Fault(
        "other-compatible",
        {"PRESERVED-SET": None, "GUEST-UPDATED": "PRESERVED-SET", "DMA-CONTINUITY": "PRESERVED-SET"},
        incoming=("other-compatible",),
    ),
    Fault(
        "finish-early",
        {"PRESERVED-SET": None, "DMA-CONTINUITY": "PRESERVED-SET"},
        incoming=("finish-early",),
    ),
    Fault(
        "secondary-bus-reset",
        {
            "RESET": None,
            "BME-ENDPOINT": "RESET",
            "DMA-CONTINUITY": "RESET",
        },
        incoming=("secondary-bus-reset",),
        by=(("RESET", "03:00.0", "pci_bridge_secondary_bus_reset"),),
    ),
    Fault(
        "flr-at-probe",
        {
            "RESET": None,
            "BME-ENDPOINT": "RESET",
            "BAR-FINAL": "RESET",
            "BELIEF": "BAR-FINAL",
            "DMA-CONTINUITY": "RESET",
        },
        incoming=("flr-at-probe",),
        by=(("RESET", "03:00.0", "pcie_flr"),),
    ),
    Fault(
        "reset-at-shutdown",
        {"RESET": None, "BME-ENDPOINT": None, "BAR-SIZING": None, "DMA-CONTINUITY": "RESET"},
        outgoing=("reset-at-shutdown@05:00.0",),
        by=(
            ("RESET", "05:00.0", "pcie_flr"),
            ("BME-ENDPOINT", "05:00.0", "pci_liveupdate_fault_reset"),
        ),
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
        incoming=("endpoint-d3hot",),
        by=(("POWER-STATE", "03:00.0", "__pci_set_power_state"),),
    ),
    Fault(
        "d3hot-and-back, of one kernel each",
        {
            "POWER-STATE": None,
            "RESET": "POWER-STATE",
            "BME-ENDPOINT": "RESET",
            "DEVICE-CONTROL": "RESET",
            "DMA-CONTINUITY": "POWER-STATE",
        },
        outgoing=("d3hot-at-shutdown@03:00.0",),
        incoming=("d3hot-and-back@05:00.0",),
        by=(
            ("POWER-STATE", "03:00.0", "pci_device_shutdown"),
            ("POWER-STATE", "03:00.0", "pci_power_up"),
            ("POWER-STATE", "05:00.0", "pci_power_up"),
            ("RESET", "05:00.0", "pci_power_up"),
        ),
    ),
]


def experiment(fault: Fault) -> spec.Experiment:
    def planted(faults: tuple[str, ...]) -> str:
        return f"pci_liveupdate_fault={','.join(faults)}" if faults else ""

    outgoing = " ".join(filter(None, (fault.command_line, planted(fault.outgoing))))
    lines = f'[guest]\ncommand_line = "{outgoing}"\nnext_command_line = "{planted(fault.incoming)}"\n'
    text = BASE.replace("[guest]\n", lines).replace('policy = "series"', f'policy = "{fault.policy}"')
    if fault.capabilities:
        listed = ", ".join(f'"{name}"' for name in fault.capabilities)
        text = text.replace('id = "ep0"\n', f'id = "ep0"\noptions = {{ capabilities = [{listed}] }}\n')
    return spec.parse(text + fault.more, "fault.toml")


def blamed(verdict: Verdict, rule: str, bdf: str | None) -> set[str]:
    """Every kernel function on a stack of a rule's findings, at one function or anywhere."""
    entry = next(entry for entry in verdict.rules if entry.rule.id == rule)
    return {
        frame.partition(" ")[0].partition(".")[0]  # without module, and without what the compiler adds
        for finding in entry.result.findings
        for frame in finding.stack
        if bdf is None or (finding.bdf is not None and bdf_text(finding.bdf) == bdf)
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_broken_promises_fail_exactly_their_rules_and_name_who_broke_them(
    live_update: LiveUpdateFactory, fault: Fault
) -> None:
    async with live_update(experiment(fault)) as run:
        verdict = await run.finish()
    failed = {entry.rule.id: entry.result.caused_by for entry in verdict.rules if entry.outcome == "FAIL"}
    assert failed == fault.failing, run.run.report.read_text()
    for rule, bdf, function in fault.by:
        assert function in blamed(verdict, rule, bdf), (rule, bdf, sorted(blamed(verdict, rule, bdf)))


async def test_a_slot_without_power_fails_its_rule_and_ends_the_kernel_by_design(
    live_update: LiveUpdateFactory,
) -> None:
    """The endpoint is gone for good, so that it cannot be finished, which the series answers with a panic."""
    fault = Fault("slot-power-off", incoming=("slot-power-off@00:02.0",))
    async with live_update(experiment(fault)) as run:
        verdict = await run.finish()
    assert verdict.guest == "panic"
    assert {"SLOT-POWER", "PRESERVED-SET"} <= set(verdict.failing_rules), run.run.report.read_text()
    assert "pci_liveupdate_fault_slot" in blamed(verdict, "SLOT-POWER", "00:02.0")


async def test_a_ring_that_was_not_preserved_fails_its_rule_even_if_the_guest_does_not_live_to_tell(
    live_update: LiveUpdateFactory,
) -> None:
    """The devices go on into memory that is the incoming kernel's by now: what becomes of it is chance."""
    fault = Fault(
        "buffer-not-preserved",
        outgoing=("buffer-not-preserved",),
        more="\n[deadlines]\nupdate_s = 20\ncommand_s = 10\n",
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
    examined = {entry.rule.id for entry in verdict.rules if entry.outcome == "PASS"}
    roots = {
        root
        for fault in FAULTS
        for root, cause in fault.failing.items()
        if cause is None and fault.policy == "series" and not fault.capabilities
    }
    assert examined >= roots - {
        "ACS-CONTROL",  # 0 unless an option or a step sets them: nothing could be lost
        "ARI-FORWARDING",
        "BRIDGE-WINDOWS",  # fails as the policy expects
        "RESCAN",  # nobody asked for one
    }
    assert verdict.measurements is not None
    assert verdict.measurements.dma_blocked == 0
    assert verdict.measurements.dma_misdirected == 0
