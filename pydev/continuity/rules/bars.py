# SPDX-License-Identifier: MIT
"""Base address registers of preserved endpoints, and whether they are decoded: as it was when frozen, at the end.

Writers, linux 7.3: `__pci_size_bars` (drivers/pci/probe.c: hazard 19), which sizes and puts back;
`pci_std_update_resource` (drivers/pci/setup-res.c: 49), which moves. Moments in between are `sizing.py`'s.
"""

from dataclasses import replace
from typing import Final

from pydev.continuity.addresses import bars_in_use
from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.evidence import Evidence, WatchedField, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout

_BARS: Final = tuple(f"BAR{index}" for index in range(6))


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
    nothing = "no preserved endpoint has a BAR in use" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    bars = bars_in_use(evidence, function, blackout.begin.t_ns)
    if bars is None:
        name = evidence.name(function, blackout.begin.t_ns)
        judgement.doubt(Finding(f"the addresses of {name} when frozen are not known"))
        return
    for bar in bars:
        for register in bar.registers:
            if (watched := watch(evidence, function, blackout, register)) is not None:
                judgement.examined += 1
                _judge_end(evidence, judgement, blackout, function, watched)
    for field in sorted({"io_space" if bar.is_io else "memory_space" for bar in bars}):
        decode = watch(evidence, function, blackout, "COMMAND", field)
        if decode is not None and known(decode.initial) == 1:
            _judge_end(evidence, judgement, blackout, function, decode)


def _judge_end(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    watched: WatchedField,
) -> None:
    """Whether a field ends as it began."""
    name = evidence.name(function, blackout.begin.t_ns)
    register = watched.history.register.name
    label = register if watched.entry is None else f"{register}.{watched.entry.name}"
    held, final = known(watched.initial), known(watched.final)
    if held is None or final is None:
        judgement.doubt(Finding(f"{label} of {name} is not known at both ends of the blackout"))
    elif not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: where {label} of {name} ends is not known"))
    elif held != final and blackout.panic is None:
        # Sizing leaves and comes back: what matters is when it left for good.
        left = [c for c, _ in watched.changes if _left(watched, c, held)]
        last = left[-1] if left else watched.changes[-1][0]
        finding = transition(evidence, function, last, register, watched.entry)
        words = f"{label} {held:#x} -> {final:#x} at {name} in {finding.phase}"
        if watched.entry is None:
            finding = replace(finding, before=held, after=final)
        judgement.fail(replace(finding, message=words), reset_cause(evidence, function, last))


def _left(watched: WatchedField, change: Change, held: int) -> bool:
    before, after = watched.values(change)
    return held in before and held not in after


BAR_FINAL: Final = Rule(
    id="BAR-FINAL",
    title="A preserved endpoint's BARs end where they began, and decoded",
    hazards=(18, 19, 49, 65),
    severity="P",
    why="A moved BAR breaks every mapping that the outgoing kernel handed over, and it breaks peer-to-peer DMA for "
    "good: a peer goes on writing to the old address, where nobody answers or somebody else does. A BAR that is not "
    "decoded any more is the same as one that is gone.",
    acceptable="Sizing writes all ones and puts the address back; only the address at the end counts here, and the "
    "moments in between for BAR-SIZING.",
    source="PCIe 6.0 7.5.1.2.1, 7.5.1.1.3; linux drivers/pci/probe.c __pci_size_bars; setup-res.c "
    "pci_std_update_resource; setup-bus.c pci_assign_unassigned_root_bus_resources (with pci=realloc)",
    planted_fault="a BAR of a preserved endpoint left with another address after sizing",
    judge=_judge,
    registers=(*_BARS, "COMMAND.memory_space", "COMMAND.io_space"),
    writers=(
        "pci_read_bases -> __pci_size_stdbars -> __pci_size_bars (drivers/pci/probe.c)",
        "pci_assign_resource -> pci_update_resource -> pci_std_update_resource (drivers/pci/setup-res.c)",
    ),
    examines="each BAR with an address in it of each preserved endpoint, at both ends of each update",
    vacuous_when="no preserved endpoint has a BAR in use",
)
