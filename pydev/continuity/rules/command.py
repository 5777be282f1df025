# SPDX-License-Identifier: MIT
"""Bus Master Enable, of preserved endpoints and of the bridges above them.

Writers, linux 7.3: `pci_device_shutdown` → `pci_clear_master` (drivers/pci/pci-driver.c: hazards 1, 2);
`do_pci_disable_device` through a driver's shutdown (4); the VFIO series at freeze (3); `vfio_pci_core_enable`
(61) and `vfio_pci_core_disable` (63); for bridges also
`pcie_port_device_register` (drivers/pci/pcie/portdrv.c: 53).
"""

from typing import Final

from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.evidence import Evidence, WatchedField, absent, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import field_values, known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout


def _judge(evidence: Evidence, functions: tuple[FunctionEntry, ...]) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in functions:
            name = evidence.name(function, blackout.begin.t_ns)
            watched = watch(evidence, function, blackout, "COMMAND", "bus_master")
            if watched is None:
                absent(evidence, judgement, function, "COMMAND", "bus_master")
                continue
            if known(watched.initial) is None:
                judgement.doubt(Finding(f"COMMAND.bus_master of {name} is not known when frozen"))
                continue
            judgement.examined += 1
            for change, is_at_edge in watched.changes:
                before, after = watched.values(change)
                if 0 not in after or 1 not in before:
                    continue
                is_certain = known(before) == 1 and known(after) == 0 and change.cause != "read"
                note = " (at the blackout's edge)" if is_at_edge else "" if is_certain else " (perhaps)"
                finding = transition(evidence, function, change, "COMMAND", watched.entry, note)
                if is_certain and not is_at_edge:
                    judgement.fail(finding, reset_cause(evidence, function, change))
                else:
                    judgement.doubt(finding)
            if known(watched.initial) == 0:
                judgement.vacuous(f"{name} was no bus master when frozen")
            if not blackout.is_over:
                judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=_nothing(evidence))


def _nothing(evidence: Evidence) -> str:
    return "the guest was never frozen" if not evidence.blackouts else "nothing is preserved"


def _controls(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        sweep = blackout.start_of("enumeration")
        for function in evidence.endpoints:
            if function.preserve:
                continue
            watched = watch(evidence, function, blackout, "COMMAND", "bus_master")
            if watched is None or known(watched.initial) != 1:
                continue
            name = evidence.name(function, blackout.begin.t_ns)
            if sweep is None:
                judgement.vacuous(f"{name}: no incoming kernel was seen")
                continue
            judgement.examined += 1
            _judge_control(evidence, judgement, blackout, function, watched, sweep)
    nothing = "no endpoint that is not preserved was bus master when frozen"
    return judgement.result(nothing=nothing if evidence.blackouts else "the guest was never frozen")


def _judge_control(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    watched: WatchedField,
    sweep_ns: int,
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    at_sweep = field_values(watched.history.at(sweep_ns), watched.entry)
    if known(at_sweep) is None:
        judgement.doubt(Finding(f"COMMAND.bus_master of {name} is not known when the incoming kernel begins"))
    elif known(at_sweep) == 1:
        finding = Finding(
            f"COMMAND.bus_master of {name} was left set for the incoming kernel, and it is not preserved",
            t_ns=sweep_ns,
            phase="enumeration",
            bdf=evidence.timeline.bdf_at(function.index, blackout.begin.t_ns),
            register="COMMAND",
            field="bus_master",
        )
        judgement.fail(finding)


def _endpoints(evidence: Evidence) -> Result:
    return _judge(evidence, evidence.preserved)


def _bridges(evidence: Evidence) -> Result:
    return _judge(evidence, evidence.bridges)


BME_ENDPOINT: Final = Rule(
    id="BME-ENDPOINT",
    title="A preserved endpoint stays bus master from frozen to finished",
    hazards=(1, 3, 4, 61, 63),
    severity="D",
    why="With Bus Master Enable clear a function may issue no memory request: DMA and interrupts stop.",
    acceptable="The function is not preserved. Phase 1 of the VFIO series gives the device up: it resets it and leaves "
    "COMMAND = INTX_DISABLE at freeze (hazard 3), clears the bit and resets again when the device is opened (61) and "
    "closed (63); RESET then names the reset, and this rule what it took away.",
    source="PCIe 6.0 7.5.1.1.3; linux drivers/pci/pci-driver.c pci_device_shutdown, pci.c pci_clear_master, "
    "do_pci_disable_device; drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_enable, vfio_pci_core_disable",
    planted_fault="one write of COMMAND with bit 2 clear to a preserved endpoint during shutdown",
    judge=_endpoints,
    registers=("COMMAND.bus_master",),
    writers=(
        "pci_clear_master (drivers/pci/pci.c)",
        "pci_device_shutdown (drivers/pci/pci-driver.c)",
        "do_pci_disable_device (drivers/pci/pci.c)",
        "vfio_pci_core_enable (drivers/vfio/pci/vfio_pci_core.c)",
    ),
    examines="COMMAND of each preserved endpoint, in each update, every write of it from frozen to finished",
    vacuous_when="nothing is preserved, or an endpoint was no bus master when frozen",
)
BME_BRIDGE: Final = Rule(
    id="BME-BRIDGE",
    title="Every bridge above a preserved endpoint stays bus master from frozen to finished",
    hazards=(2, 53),
    severity="D",
    why="A bridge with Bus Master Enable clear forwards no memory request upstream: DMA below it stops. QEMU "
    "does not act on the bit, so only the record of the write shows it.",
    acceptable="Nothing below the bridge is preserved.",
    source="PCIe 6.0 7.5.1.1.3; linux drivers/pci/pci-driver.c pci_device_shutdown, pci.c pci_clear_master; "
    "pcie/portdrv.c pcie_port_device_register",
    planted_fault="one write of COMMAND with bit 2 clear to the port above a preserved endpoint",
    judge=_bridges,
    registers=("COMMAND.bus_master",),
    writers=(
        "pci_clear_master (drivers/pci/pci.c)",
        "pci_device_shutdown (drivers/pci/pci-driver.c)",
        "pcie_port_device_register (drivers/pci/pcie/portdrv.c)",
    ),
    examines="COMMAND of each bridge above a preserved endpoint, in each update, every write of it from "
    "frozen to finished",
    vacuous_when="nothing is preserved, or a bridge was no bus master when frozen",
)
CONTROL_CLEARED: Final = Rule(
    id="CONTROL-CLEARED",
    title="The outgoing kernel clears bus mastering of endpoints that are not preserved",
    hazards=(1,),
    severity="E",
    why="What is not handed over has no memory in the incoming kernel: its DMA would write into anybody's.",
    acceptable="The endpoint was no bus master when frozen.",
    source="linux drivers/pci/pci-driver.c pci_device_shutdown",
    planted_fault="an endpoint that is not preserved left bus master at the jump",
    judge=_controls,
    registers=("COMMAND.bus_master",),
    writers=("pci_clear_master (drivers/pci/pci.c)", "pci_device_shutdown (drivers/pci/pci-driver.c)"),
    examines="COMMAND of each endpoint that is not preserved and was bus master when frozen, at the "
    "incoming kernel's first vendor-ID sweep",
    vacuous_when="no such endpoint was bus master when frozen, or no incoming kernel was seen",
)
