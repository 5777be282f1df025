# SPDX-License-Identifier: MIT
"""Resets of preserved endpoints: their own, by power state, and from a bridge above.

Writers, linux 7.3: the driver's phase of the series at freeze (hazard 3), `vfio_pci_core_enable` (61) and
`_disable` (63), `pci_bridge_secondary_bus_reset` and the hot reset of a sibling (64), all in drivers/.
"""

from typing import Final

from pydev.continuity.causes import RESET_NS, author_of, by_author, resets, shared
from pydev.continuity.evidence import Evidence, absent, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import known
from pydev.recording.format import ResetKind
from pydev.recording.functions import FunctionEntry, upstream_path
from pydev.recording.phases import Blackout

_WORDS: Final = {
    ResetKind.POWER_ON: "was powered on anew",
    ResetKind.DEVICE: "was reset from above",
    ResetKind.FUNCTION_LEVEL: "did a Function Level Reset",
    ResetKind.POWER_STATE: "was reset by its return to D0",
}


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for bridge in evidence.bridges:
            _judge_bridge(evidence, judgement, blackout, bridge)
        for function in evidence.preserved:
            judgement.examined += 1
            _judge_endpoint(evidence, judgement, blackout, function)
            if not blackout.is_over:
                name = evidence.name(function, blackout.begin.t_ns)
                judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    cause = shared(evidence, judgement.causes)
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=cause, nothing=nothing)


def _judge_endpoint(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    timeline = evidence.timeline
    bdf = timeline.bdf_at(function.index, blackout.begin.t_ns)
    name = evidence.name(function, blackout.begin.t_ns)
    done = resets(evidence, function, blackout.begin.t_ns, blackout.end_ns)
    for t_ns, kind in done:
        words = _WORDS.get(kind, f"was reset (kind {kind})") if isinstance(kind, ResetKind) else "was reset"
        finding = Finding(f"{name} {words}", t_ns=t_ns, phase=timeline.phase_at(t_ns), bdf=bdf)
        judgement.fail(
            by_author(finding, author_of(evidence, function, t_ns)),
            _cause(evidence, function, kind, t_ns),
        )
    for t_ns in _asked(evidence, function, blackout):
        if not any(abs(t_ns - when) <= RESET_NS for when, _ in done):
            judgement.doubt(Finding(f"{name} was told to reset itself, and no reset was recorded", t_ns=t_ns))


def _cause(evidence: Evidence, function: FunctionEntry, kind: ResetKind | int, t_ns: int) -> str | None:
    """The rule whose failure led to a reset: the way to D3hot, or the power of a slot above."""
    if kind == ResetKind.POWER_STATE:
        return "POWER-STATE" if evidence.failed("POWER-STATE", function) else None
    slots = evidence.results.get("SLOT-POWER")
    if kind != ResetKind.DEVICE or slots is None or not evidence.failed("SLOT-POWER"):
        return None
    above = {
        evidence.timeline.bdf_at(port.index, t_ns)
        for port in upstream_path(evidence.timeline.functions, function.index)
    }
    switched = (f.t_ns for f in slots.findings if f.bdf in above and f.t_ns is not None)
    return "SLOT-POWER" if any(when <= t_ns + RESET_NS for when in switched) else None


def _asked(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> list[int]:
    """When DEVCTL.Initiate_FLR was written with 1, to a function that has it."""
    timeline = evidence.timeline
    control, can = function.registers.get("DEVCTL"), function.registers.get("DEVCAP")
    entry = control.fields.get("initiate_flr") if control is not None else None
    if control is None or entry is None:
        return []
    capable = can.fields.get("flr_capable") if can is not None else None
    if can is not None and capable is not None and function.config is not None:
        image = function.config[can.offset : can.offset + can.width]
        if not capable.extract(int.from_bytes(image, "little")):
            return []
    slots = timeline.config_writes(function.index)
    names = ("t_ns", "address", "size", "value")
    rows = zip(*(timeline.column(name, slots).tolist() for name in names), strict=True)
    bit = 8 * control.offset + entry.lsb
    return [
        t_ns
        for t_ns, address, size, value in rows
        if blackout.begin.t_ns < t_ns <= blackout.end_ns
        and 8 * address <= bit < 8 * (address + size)
        and value >> (bit - 8 * address) & 1
    ]


def _judge_bridge(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, bridge: FunctionEntry
) -> None:
    watched = watch(evidence, bridge, blackout, "BRIDGE_CONTROL", "secondary_bus_reset")
    if watched is None:
        absent(evidence, judgement, bridge, "BRIDGE_CONTROL", "secondary_bus_reset")
        return
    if known(watched.initial) == 1:
        judgement.doubt(Finding(f"{evidence.name(bridge, blackout.begin.t_ns)} held its bus in reset"))
    for change, is_at_edge in watched.changes:
        before, after = watched.values(change)
        if 1 not in after or 0 not in before:
            continue
        is_certain = known(before) == 0 and known(after) == 1 and change.cause != "read"
        note = " (at the blackout's edge)" if is_at_edge else "" if is_certain else " (perhaps)"
        finding = transition(evidence, bridge, change, "BRIDGE_CONTROL", watched.entry, note)
        if is_certain and not is_at_edge:
            judgement.fail(finding)
        else:
            judgement.doubt(finding)


RESET: Final = Rule(
    id="RESET",
    title="No preserved function is reset from frozen to finished, itself or from above",
    hazards=(3, 61, 63, 64),
    severity="D",
    why="A reset ends DMA, clears COMMAND and the BARs, and loses the state that the device was preserved for.",
    acceptable="Nothing below the bridge is preserved. Phase 1 of the VFIO series keeps the file and not the device's "
    "state: it resets the function by design at freeze (hazard 3) and when the device is opened (61) and closed (63).",
    source="PCIe 6.0 6.6.1, 6.6.2, 7.5.1.3.13; linux drivers/pci/pci.c pcie_flr, "
    "pci_bridge_secondary_bus_reset; drivers/vfio/pci/vfio_pci_core.c",
    planted_fault="DEVCTL.Initiate_FLR of a preserved endpoint written with 1 when it is probed",
    judge=_judge,
    registers=("DEVCTL.initiate_flr", "BRIDGE_CONTROL.secondary_bus_reset"),
    writers=(
        "pcie_flr (drivers/pci/pci.c)",
        "pci_bridge_secondary_bus_reset (drivers/pci/pci.c)",
        "vfio_pci_core_enable (drivers/vfio/pci/vfio_pci_core.c)",
        "vfio_pci_core_disable (drivers/vfio/pci/vfio_pci_core.c)",
    ),
    examines="the resets that the endpoint server recorded of each preserved endpoint, and Secondary Bus "
    "Reset of each bridge above",
    unknown_when="where a function was told to reset itself and no reset was recorded",
    vacuous_when="nothing is preserved",
)
