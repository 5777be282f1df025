# SPDX-License-Identifier: MIT
"""Bus numbers of the bridges above preserved endpoints, and the requester IDs that follow from them.

Writers, linux 7.3: `pci_scan_bridge_extend` (drivers/pci/probe.c: hazards 25, 26), by read-modify-write of
the dword at 18h.
"""

from typing import Final

import numpy as np

from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.evidence import Evidence, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import known
from pydev.recording.format import Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout
from pydev.recording.timeline import UNCERTAIN, UNNUMBERED
from pydev.units import bdf_text

_REGISTERS: Final = ("PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS")


def _bus_numbers(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for bridge in evidence.bridges:
            for register in _REGISTERS:
                _judge_register(evidence, judgement, blackout, bridge, register)
            judgement.examined += 1
            if not blackout.is_over:
                name = evidence.name(bridge, blackout.begin.t_ns)
                judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _judge_register(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, bridge: FunctionEntry, register: str
) -> None:
    name = evidence.name(bridge, blackout.begin.t_ns)
    watched = watch(evidence, bridge, blackout, register)
    if watched is None:
        judgement.doubt(Finding(f"the recording does not declare {register} of {bridge.id}"))
        return
    held = known(watched.initial)
    if held is None or (register != "PRIMARY_BUS" and held == 0):
        judgement.doubt(Finding(f"{register} of {name} has no certain value when frozen"))
        return
    for change, is_at_edge in watched.changes:
        before, after = watched.values(change)
        if len(before | after) == 1:
            continue  # written with the value it had
        is_certain = not before & after and change.cause != "read"
        note = " (at the blackout's edge)" if is_at_edge else "" if is_certain else " (not certain)"
        finding = transition(evidence, bridge, change, register, None, note)
        if is_certain and not is_at_edge:
            judgement.fail(finding, reset_cause(evidence, bridge, change))
        else:
            judgement.doubt(finding)


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
    slots = np.union1d(
        timeline.of_kind(Kind.DMA_WRITE, function.index), timeline.of_kind(Kind.DMA_READ, function.index)
    )
    slots = slots[~timeline.is_blocked(slots)]
    times = np.sort(timeline.t_ns[slots])
    margin = timeline.trace_uncertainty_ns
    before = timeline.bdf_at(function.index, blackout.begin.t_ns - margin - 1)
    if before is None:
        judgement.doubt(Finding(f"the bus number above {function.id} is not known when frozen"))
        return
    first, last = np.searchsorted(times, [blackout.begin.t_ns, blackout.end_ns], side="right")
    times = times[first:last]
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
            )
        )
    elif doubtful.any() or changed:
        judgement.doubt(
            Finding(
                f"the requester ID of {bdf_text(before)} changed, and the trace is too coarse to say "
                "whether a transaction carried another"
            )
        )


def _bus_changed(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> bool:
    if function.parent is None:
        return False
    history = evidence.timeline.secondary_bus(function.parent)
    changes = history.between(blackout.begin.t_ns, blackout.end_ns)
    return any(len(change.before | change.after) > 1 for change in changes)


BUS_NUMBERS: Final = Rule(
    id="BUS-NUMBERS",
    title="Bridges above a preserved endpoint keep their bus numbers, without a moment of others",
    hazards=(25, 26, 65),
    severity="R",
    why="A function's bus number is the secondary number of the port above, and completions are routed by "
    "it: zeroed or changed, requests carry another ID and their completions go astray, IOMMU or not.",
    acceptable="Nothing below the bridge is preserved; or the same numbers are written again. A bus rescan (65) has "
    "no rule of its own: what it writes is judged by this one, BAR-FINAL and those of each register.",
    source="PCIe 6.0 2.2.6.2, 7.5.1.3; linux drivers/pci/probe.c pci_scan_bridge_extend",
    planted_fault="the dword at 18h of the port above a preserved endpoint written 0 and then back",
    judge=_bus_numbers,
)
REQUESTER_ID: Final = Rule(
    id="REQUESTER-ID",
    title="Every transaction of a preserved endpoint carries the requester ID it had when frozen",
    hazards=(25,),
    severity="R",
    why="An IOMMU translates by requester ID and completions return to it: another one is another device.",
    acceptable="Never while the function is preserved.",
    source="PCIe 6.0 2.2.6.2",
    planted_fault="the secondary bus number above a streaming endpoint changed while it streams",
    judge=_requester_id,
)
