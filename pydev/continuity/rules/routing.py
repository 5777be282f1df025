# SPDX-License-Identifier: MIT
"""Bus numbers of bridges, and the requester IDs of preserved endpoints that follow from them.

All three of a bridge above a preserved endpoint; of the other numbered bridges the two that routing goes by, as
a neighbour's range that grows takes buses from ours.

Writers, linux 7.3: `pci_scan_bridge_extend` (drivers/pci/probe.c), by read-modify-write of the dword at 18h (hazard
25) and by a write of SUBORDINATE_BUS alone when the buses below are counted (26).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.evidence import Evidence, absent, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, known
from pydev.recording.format import Kind
from pydev.recording.functions import FunctionEntry, upstream_path
from pydev.recording.phases import Blackout
from pydev.recording.timeline import UNCERTAIN, UNNUMBERED
from pydev.units import bdf_text

_REGISTERS: Final = ("PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS")
_ROUTING: Final = _REGISTERS[1:]


def _bus_numbers(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for bridge in _others(evidence):
            for register in _ROUTING:
                _judge_register(evidence, judgement, blackout, bridge, register, is_above=False)
        for bridge in evidence.bridges:
            for register in _REGISTERS:
                _judge_register(evidence, judgement, blackout, bridge, register)
            judgement.examined += 1
            if not blackout.is_over:
                name = evidence.name(bridge, blackout.begin.t_ns)
                judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _others(evidence: Evidence) -> list[FunctionEntry]:
    """Bridges above no preserved endpoint, where anything is preserved at all."""
    above = {
        port.index
        for function in evidence.timeline.functions
        if function.is_endpoint and function.preserve
        for port in upstream_path(evidence.timeline.functions, function.index)
    }
    return [f for f in evidence.functions if above and not f.is_endpoint and f.index not in above]


def _judge_register(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    bridge: FunctionEntry,
    register: str,
    *,
    is_above: bool = True,
) -> None:
    name = evidence.name(bridge, blackout.begin.t_ns)
    watched = watch(evidence, bridge, blackout, register)
    if watched is None:
        absent(evidence, judgement, bridge, register)
        return
    held = known(watched.initial)
    if not is_above and (held == 0 or (held is None and not watched.changes)):
        return  # what has no number yet may get one
    if held is None or (register in _ROUTING and held == 0):
        judgement.doubt(Finding(f"{register} of {name} has no certain value when frozen"))
        return
    for change, is_at_edge in watched.changes:
        before, after = watched.values(change)
        if len(before | after) == 1:
            continue  # written with the value it had
        is_certain = not before & after and change.cause != "read"
        note = "" if is_above else " (above nothing preserved)"
        if is_certain:
            note += ", as it was" if known(after) == held else _meaning(evidence, bridge, register, change)
        note += " (at the blackout's edge)" if is_at_edge else "" if is_certain else " (not certain)"
        finding = transition(evidence, bridge, change, register, None, note)
        if is_certain and not is_at_edge:
            judgement.fail(finding, reset_cause(evidence, bridge, change))
        else:
            judgement.doubt(finding)


def _meaning(evidence: Evidence, bridge: FunctionEntry, register: str, change: Change) -> str:
    """What follows from a change of one number, in words."""
    old, new = known(change.before), known(change.after)
    if register == "PRIMARY_BUS":
        return (
            ": a scan takes a bridge for broken whose primary bus is not the one above, and numbers it anew"
        )
    if register == "SECONDARY_BUS":
        return ": the bus number of every requester ID below"
    secondary = evidence.timeline.secondary_bus(bridge.index)
    is_alone = secondary.at(change.t_ns - 1) == secondary.at(change.t_ns)
    if old is None or new is None or not is_alone:
        return ""
    lost = range(new + 1, old + 1) if new < old else range(old + 1, new + 1)
    buses = f"bus {lost[0]}" if len(lost) == 1 else f"buses {lost[0]} to {lost[-1]}"
    if new < old:
        return f", alone: {buses} below can no longer be reached, nor completions routed there"
    return f", alone: {buses} now lead below it, whoever had them"


def _requester_id(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_requester(evidence, judgement, blackout, function)
    is_caused = evidence.failed("BUS-NUMBERS")
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by="BUS-NUMBERS" if is_caused else None, nothing=nothing)


def _judge_requester(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    timeline = evidence.timeline
    margin = timeline.bridge_uncertainty_ns
    before = timeline.bdf_at(function.index, blackout.begin.t_ns - margin - 1)
    if before is None:
        judgement.doubt(Finding(f"the bus number above {function.id} is not known when frozen"))
        return
    times = _times(evidence, function, blackout)
    if not len(times):
        judgement.vacuous(f"no transaction of {bdf_text(before)} reached memory between frozen and finished")
        return
    judgement.examined += len(times)
    if not blackout.is_over:
        judgement.doubt(
            Finding(f"no finish report: {bdf_text(before)} was not seen through the whole blackout")
        )
    # Only what differs on both sides of the uncertainty is certain.
    early = timeline.bdfs_at(function.index, times - np.uint64(margin))
    late = timeline.bdfs_at(function.index, times + np.uint64(margin))
    certain = (early != UNCERTAIN) & (late != UNCERTAIN) & (early != before) & (late != before)
    doubtful = ~certain & ((early != before) | (late != before))
    # A number that came and went within the margin of a transaction shows on neither side.
    changed = _bus_changed(evidence, function, blackout)
    if certain.any():
        at = int(times[np.argmax(certain)])
        other = int(early[np.argmax(certain)])
        other = function.devfn if other == UNNUMBERED else other
        judgement.fail(
            Finding(
                f"{int(certain.sum())} transactions with requester ID {bdf_text(other)}, "
                f"not {bdf_text(before)}",
                t_ns=at,
                phase=timeline.phase_at(at),
                bdf=before,
                before=before,
                after=other,
                count=int(certain.sum()),
            )
        )
    elif doubtful.any() or changed:
        judgement.doubt(
            Finding(
                f"the requester ID of {bdf_text(before)} changed, and the trace is too coarse to say "
                "whether a transaction carried another"
            )
        )


def _times(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> npt.NDArray[np.uint64]:
    """When each transaction of a function in the blackout reached memory, in order."""
    found = []
    for kind in (Kind.DMA_WRITE, Kind.DMA_READ):
        dma = evidence.timeline.transactions(kind, function.index)
        is_inside = (dma.t_ns > blackout.begin.t_ns) & (dma.t_ns <= blackout.end_ns)
        found.append(dma.t_ns[is_inside & ~dma.is_blocked])
    times = np.concatenate(found)
    times.sort()
    return times


def _bus_changed(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> bool:
    if function.parent is None:
        return False
    history = evidence.timeline.secondary_bus(function.parent)
    changes = history.between(blackout.begin.t_ns, blackout.end_ns)
    return any(len(change.before | change.after) > 1 for change in changes)


BUS_NUMBERS: Final = Rule(
    id="BUS-NUMBERS",
    title="Numbered bridges keep their bus numbers, without a moment of others",
    hazards=(25, 26, 65),
    severity="R",
    why="A function's bus number is the secondary number of the port above, and completions are routed by secondary "
    "and subordinate number: zeroed or changed, requests carry another ID and their completions go astray, IOMMU or "
    "not. A subordinate number that changes alone cuts buses off, or takes them from a neighbour. The primary number "
    "routes nothing on PCI Express, but the next scan takes a bridge for broken where it is wrong and numbers it.",
    acceptable="Nothing at all is preserved; the same numbers are written again; a bridge that had none gets some. "
    "Of bridges above nothing preserved, secondary and subordinate number are judged: the series keeps them as well. "
    "A bus rescan (65) has no rule of its own: what it writes is judged by this one, BAR-FINAL and those of each "
    "register.",
    source="PCIe 6.0 2.2.4.2, 2.2.6.2, 7.5.1.3.2 to 7.5.1.3.4; linux drivers/pci/probe.c pci_scan_bridge_extend",
    planted_fault="the dword at 18h of the port above a preserved endpoint written 0 and then back",
    judge=_bus_numbers,
    registers=_REGISTERS,
    writers=(
        "pci_scan_bridge_extend (drivers/pci/probe.c)",
        "pci_rescan_bus -> pci_scan_child_bus -> pci_scan_bridge_extend (drivers/pci/probe.c)",
    ),
    examines="the three bus numbers of each bridge above a preserved endpoint, in each update (it counts those), and "
    "secondary and subordinate number of every other numbered bridge",
    unknown_when="where a bridge's numbers were not known when frozen",
    vacuous_when="nothing is preserved",
)
REQUESTER_ID: Final = Rule(
    id="REQUESTER-ID",
    title="Every transaction of a preserved endpoint carries the requester ID it had when frozen",
    hazards=(25,),
    severity="R",
    why="An IOMMU translates by requester ID and completions return to it: another one is another device.",
    acceptable="Never while the function is preserved.",
    source="PCIe 6.0 2.2.6.2; linux drivers/pci/probe.c pci_scan_bridge_extend",
    planted_fault="the secondary bus number above a streaming endpoint changed while it streams",
    judge=_requester_id,
    registers=("SECONDARY_BUS",),
    writers=("pci_scan_bridge_extend (drivers/pci/probe.c)",),
    examines="each transaction of a preserved endpoint that reached memory from frozen to finished; its "
    "number is the secondary bus number above it at that moment",
    unknown_when="where the number changed within the trace's uncertainty of a transaction",
    vacuous_when="no transaction reached memory",
)
