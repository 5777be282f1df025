# SPDX-License-Identifier: MIT
"""Features switched on by hand in a real guest: kept, they pass; dropped, exactly their rules fail.

`test_faults` drops most of them; here is what is kept, and what needs a run of its own. What is harmless is not
judged by `series`: a policy of its own judges these rules, and what can follow from them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from pydev.endpoints import load
from pydev.pci.optional import OPTIONAL
from qemu_plugin.experiment import spec
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

BASE = spec.shipped()["live-update"].read_text()
EP0, DN1 = "03:00.0", "02:00.0"
REGISTERS = {r["name"]: r for r in load("stream")(capabilities=list(OPTIONAL)).describe()["registers"]}
PORTS = {"SLTCTL": (0xA8, 2)}
"""Registers of dn1."""
JUDGED = [
    "SLOT-POWER", "RESET", "BME-ENDPOINT", "ERROR-REPORTING", "ERROR-EVIDENCE", "SLOT-CONTROL", "ROOT-CONTROL", "PME",
    "DPC", "DOE", "IDE", "ATS", "PRI-PASID", "SRIOV", "L1SS", "LINK-NOTIFICATION", "RESCAN", "PRESERVED-SET",
]  # fmt: skip


def place(register: str) -> tuple[int, int]:
    """Offset and width of a register of ep0's, or of a port's."""
    if register in PORTS:
        return PORTS[register]
    return REGISTERS[register]["offset"], REGISTERS[register]["width"]


def step(bdf: str, register: str, value: int) -> str:
    """A write by the agent before the stream begins."""
    offset, width = place(register)
    members = f'cmd = "config", bdf = "0000:{bdf}", offset = {offset}, width = {width}, value = {value}'
    return f'\n[[step]]\nphase = "prepared"\nagent = {{ {members} }}\n'


def planted(register: str, value: str, bdf: str = EP0, moment: str = "enumerate") -> str:
    """A write by the incoming kernel: `value[:mask][/ms]`, hexadecimal."""
    offset, width = place(register)
    return f"write@{moment}:{bdf}:{offset:x}.{' bw l'[width]}={value}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is switched on, what drops it, who is seen to do it, and what comes of it: rule → caused by."""

    name: str
    failing: dict[str, str | None]
    steps: str = ""
    fault: str = ""
    """Empty: the kernel does it unasked."""
    function: str = "pci_liveupdate_fault_write"


EXCHANGE = "".join(step(EP0, "DOE_WRITE", dword) for dword in (1, 3, 0)) + step(EP0, "DOE_CTRL", 1 << 31)
FAULTS = [
    Fault(
        "power",
        {
            "SLOT-POWER": None,
            "RESET": "SLOT-POWER",
            "BME-ENDPOINT": "RESET",
            "ERROR-REPORTING": "RESET",
        },
        fault=planted("SLTCTL", "400:400/5", DN1),
    ),
    Fault("triggered", {"DPC": None}, step(EP0, "DPC_CTL", 9), planted("DPC_CTL", "40:40")),
    Fault("pasid", {"PRI-PASID": None}, step(EP0, "PASID_CTRL", 7), planted("PASID_CTRL", "0")),
]
EVERYTHING_ON = EXCHANGE + "".join(
    step(EP0, register, value)
    for register, value in (
        ("DPC_CTL", 9), ("IDE_SELECTIVE_CTL", 0x05000001), ("ATS_CTRL", 1 << 15), ("PRI_CTRL", 1),
        ("PASID_CTRL", 7), ("SRIOV_CTRL", 9), ("L1SS_CTL1", 0x40500004),
    )
)  # fmt: skip


def experiment(name: str, steps: str, fault: str, directory: Path) -> spec.Experiment:
    policy = directory / "features.toml"
    policy.write_text(f'[[judge]]\nrule = {json.dumps(JUDGED)}\nlevel = "optional"\n')
    line = f'[guest]\nnext_command_line = "{"pci_liveupdate_fault=" + fault if fault else ""}"\n'
    options = f'port = "dn1"\noptions = {{ capabilities = {json.dumps(list(OPTIONAL))} }}\n'
    text = BASE.replace("[guest]\n", line).replace('port = "dn1"\n', options)
    text = text.replace('policy = "series"', f'policy = "{policy}"')
    return spec.parse(text + steps, f"{name}.toml")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_feature_that_is_dropped_fails_its_rule_and_names_who_did_it(
    live_update: LiveUpdateFactory, fault: Fault, tmp_path: Path
) -> None:
    async with live_update(experiment(fault.name, fault.steps, fault.fault, tmp_path)) as run:
        verdict = await run.finish()
    failed = {e.rule.id: e.result for e in verdict.rules if e.result.outcome == "FAIL"}
    told = {rule: result.caused_by for rule, result in failed.items()}
    assert told == fault.failing, run.run.report.read_text()
    root = next(iter(fault.failing))
    assert failed[root].findings[0].function == fault.function


async def test_features_that_nobody_drops_pass(live_update: LiveUpdateFactory, tmp_path: Path) -> None:
    async with live_update(experiment("everything on", EVERYTHING_ON, "", tmp_path)) as run:
        verdict = await run.finish()
    outcomes = {entry.rule.id: entry.result.outcome for entry in verdict.rules}
    roots = (
        "SLOT-POWER",
        "ERROR-REPORTING",
        "SLOT-CONTROL",
        "DPC",
        "DOE",
        "IDE",
        "ATS",
        "PRI-PASID",
        "SRIOV",
        "L1SS",
    )
    assert {rule: outcomes[rule] for rule in roots} == dict.fromkeys(roots, "PASS"), (
        run.run.report.read_text()
    )
