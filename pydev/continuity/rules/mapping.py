# SPDX-License-Identifier: MIT
"""Where a device's addresses lead: the mappings as the server got them, whatever kind of IOMMU made them.

Writers, linux 7.3: `intel_iommu_shutdown`, `init_dmars` (drivers/iommu/intel/iommu.c: hazards 10, 13),
drivers/iommu/amd/init.c (15), `iommu_setup_default_domain` (drivers/iommu/iommu.c: 45).
"""

from collections.abc import Iterator
from typing import Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.mappings import Page, Step, Target, pages, steps
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout

_NEVER_FROZEN: Final = "the guest was never frozen"


def is_identity(evidence: Evidence, blackout: Blackout) -> bool:
    """Whether every preserved ring led, all through a blackout, to the memory of its own address."""
    for function in evidence.preserved:
        wanted = pages(evidence.timeline, function, blackout.begin.t_ns)
        told = steps(evidence.timeline, function, wanted, blackout.end_ns)
        before = [step for step in told if step.t_ns <= blackout.begin.t_ns]
        identity = tuple(page.iova for page in wanted)
        if not wanted or not before or any(s.targets != identity for s in told[len(before) - 1 :]):
            return False
    return bool(evidence.preserved)


def _mappings(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_mappings(evidence, judgement, blackout, function)
    cause = "IOMMU-TRANSLATION" if evidence.failed("IOMMU-TRANSLATION") else None
    nothing = "nothing is preserved" if evidence.blackouts else _NEVER_FROZEN
    return judgement.result(caused_by=cause, nothing=nothing)


def _judge_mappings(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    wanted = pages(evidence.timeline, function, blackout.begin.t_ns)
    if not wanted:
        judgement.vacuous(f"{name} had no ring of pages when frozen")
        return
    told = steps(evidence.timeline, function, wanted, blackout.end_ns)
    before = [step for step in told if step.t_ns <= blackout.begin.t_ns]
    if not before:
        judgement.doubt(Finding(f"where the pages of {name} led when frozen is not recorded"))
        return
    held = before[-1].targets
    judgement.examined += len(wanted)
    lost = [page for page, target in zip(wanted, held, strict=True) if target is None]
    if lost:
        judgement.vacuous(f"{len(lost)} pages of {name} led nowhere when frozen")
    for begin, end, step in _departures(told[len(before) - 1 :], held, blackout.end_ns):
        judgement.fail(_departure(evidence, function, wanted, held, step, begin, end))
    if not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))


def _departures(told: list[Step], held: tuple[Target, ...], end_ns: int) -> Iterator[tuple[int, int, Step]]:
    """Each span in which the pages did not lead where they had led, with its first step."""
    away: Step | None = None
    for step in told:
        if step.targets != held:
            away = away or step
        elif away is not None:
            yield away.t_ns, step.t_ns, away
            away = None
    if away is not None:
        yield away.t_ns, end_ns, away


def _departure(
    evidence: Evidence,
    function: FunctionEntry,
    wanted: tuple[Page, ...],
    held: tuple[Target, ...],
    step: Step,
    begin_ns: int,
    end_ns: int,
) -> Finding:
    rows = zip(wanted, held, step.targets, strict=True)
    moved = [(page, was, now) for page, was, now in rows if was != now]
    page, was, now = moved[0]
    bdf = evidence.timeline.bdf_at(function.index, begin_ns)
    where = evidence.name(function, begin_ns)
    message = (
        f"{len(moved)} of {len(wanted)} pages of {where} led elsewhere for {(end_ns - begin_ns) / 1e6:.3f} ms: "
        f"iova {page.iova:#x} from {_place(was)} to {_place(now)}"
    )
    return Finding(message, t_ns=begin_ns, phase=evidence.timeline.phase_at(begin_ns), bdf=bdf)


def _place(target: Target) -> str:
    return "nowhere" if target is None else f"memory at {target:#x}"


IOVA_MAPPING: Final = Rule(
    id="IOVA-MAPPING",
    title="The pages that a preserved endpoint writes to stay mapped to the same memory throughout",
    hazards=(10, 13, 15, 45),
    severity="D",
    why="A device in use knows addresses, not memory: while an IOMMU is off, has other tables or puts the "
    "device into another domain, the same address is refused or leads into somebody else's memory.",
    acceptable="Without an IOMMU and in passthrough nothing is ever mapped anew, and the rule passes.",
    source="VFIOU 'DMA_MAP', 'DMA_UNMAP'; linux drivers/iommu/intel/iommu.c intel_iommu_shutdown, init_dmars; "
    "drivers/iommu/amd/init.c; drivers/iommu/iommu.c iommu_setup_default_domain",
    planted_fault="DMA_UNMAP of a preserved endpoint's ring during the incoming kernel's boot",
    judge=_mappings,
    writers=(
        "intel_iommu_shutdown (drivers/iommu/intel/iommu.c)",
        "init_dmars (drivers/iommu/intel/iommu.c)",
        "iommu_setup_default_domain (drivers/iommu/iommu.c)",
    ),
)
