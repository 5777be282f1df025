# SPDX-License-Identifier: MIT
"""How the incoming kernel sets MSI-X of a preserved endpoint up anew, as far as the wire shows it.

Linux enables MSI-X with every vector masked at once, writes the table, and takes the mask off. Control writes
are on the wire, and so is each vector's set-up as the client makes it (IRQ_SETUP with a file: the vector was
unmasked in the table). What the table holds is not: QEMU keeps it, so addresses and data are not judged.

Writer, linux 7.3: `msix_capability_init` (drivers/pci/msi/msi.c: hazard 62).
"""

from typing import Final

import numpy as np

from pydev.continuity.evidence import Evidence, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.continuity.sent import messages_of
from pydev.recording.config import Change, field_values
from pydev.recording.format import Kind
from pydev.recording.functions import FieldEntry, FunctionEntry
from pydev.recording.phases import Blackout

_MSIX: Final = 2  # linux include/uapi/linux/vfio.h VFIO_PCI_MSIX_IRQ_INDEX


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    notes: list[str] = []
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function, notes)
    if not judgement.examined:
        for note in notes:
            judgement.vacuous(note)
    nothing = "no preserved endpoint has MSI-X" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry, notes: list[str]
) -> None:
    enable = watch(evidence, function, blackout, "MSIX_CONTROL", "enable")
    mask = watch(evidence, function, blackout, "MSIX_CONTROL", "function_mask")
    if enable is None or enable.entry is None or mask is None or mask.entry is None:
        return
    name = evidence.name(function, blackout.begin.t_ns)
    sweep = blackout.phases.get("enumeration")
    if sweep is None:
        notes.append(f"no incoming kernel was seen to set MSI-X of {name} up")
        return
    since_ns = sweep.t_ns - sweep.uncertainty_ns
    changes = [change for change, _ in enable.changes if change.t_ns > since_ns]
    risen = [change for change in changes if _moves(change, enable.entry, 0, 1)]
    if not risen:
        notes.append(f"MSI-X of {name} was not enabled anew by the incoming kernel")
        return
    for change in risen:
        judgement.examined += 1
        if field_values(change.after, mask.entry) != {1}:
            note = ", with function_mask clear: what the table held until then can be sent"
            judgement.fail(transition(evidence, function, change, "MSIX_CONTROL", enable.entry, note))
    taken = [c.t_ns for c in changes if _moves(c, enable.entry, 1, 0) and c.t_ns < risen[0].t_ns]
    _judge_messages(evidence, judgement, blackout, function, taken[-1] if taken else since_ns, risen[0].t_ns)


def _moves(change: Change, entry: FieldEntry, old: int, new: int) -> bool:
    return old in field_values(change.before, entry) and new in field_values(change.after, entry)


def _judge_messages(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    since_ns: int,
    enabled_ns: int,
) -> None:
    """No message by a vector that the incoming kernel has not set up."""
    timeline = evidence.timeline
    messages = messages_of(timeline, function, enabled_ns, blackout.end_ns)
    messages = messages[timeline.column("region", messages) == _MSIX]
    setups = timeline.of_kind(Kind.IRQ_SETUP, function.index)
    has_files = (timeline.column("region", setups) == _MSIX) & (timeline.column("extra", setups) > 0)
    setups = setups[has_files & (timeline.t_ns[setups] > since_ns)]
    vectors = timeline.column("address", messages)
    for vector in np.unique(vectors).tolist():
        own = messages[vectors == vector]
        first = timeline.column("address", setups)
        covers = (first <= vector) & (first + timeline.column("size", setups).astype(np.uint64) > vector)
        ready_ns = int(timeline.t_ns[setups[covers]].min()) if covers.any() else None
        early = own if ready_ns is None else own[timeline.t_ns[own] < ready_ns]
        if len(early):
            t_ns = int(timeline.t_ns[early].min())
            bdf = timeline.bdf_at(function.index, t_ns)
            name = evidence.name(function, t_ns)
            words = f"{len(early)} messages of {name} by vector {vector}, which the incoming kernel had not set up"
            judgement.fail(Finding(words, t_ns, timeline.phase_at(t_ns), bdf, count=len(early)))


MSIX_SEQUENCE: Final = Rule(
    id="MSIX-SEQUENCE",
    title="The incoming kernel enables MSI-X with all vectors masked, and unmasks what it has set up",
    hazards=(62,),
    severity="I",
    why="Enabled with function_mask clear, every vector whose own mask bit is clear can be sent at once, with the "
    "address and data that the outgoing kernel left in the table: a memory write to a place and a vector that mean "
    "something else now.",
    acceptable="MSI-X is not enabled anew before finished. What the table holds is QEMU's own and not on the wire: "
    "addresses and data are not judged, nor the order of table writes among themselves.",
    source="PCIe 6.0 7.7.2.2 (Function Mask, MSI-X Enable), 6.1.4.2; linux drivers/pci/msi/msi.c "
    "msix_capability_init (pci_msix_clear_and_set_ctrl with MASKALL and ENABLE, msix_setup_interrupts, MASKALL off)",
    planted_fault="MSIX_CONTROL of a preserved endpoint written with enable set and function_mask clear",
    judge=_judge,
    registers=("MSIX_CONTROL.enable", "MSIX_CONTROL.function_mask"),
    writers=(
        "pci_alloc_irq_vectors -> msix_capability_init -> pci_msix_clear_and_set_ctrl (drivers/pci/msi/msi.c)",
    ),
    examines="each write of the incoming kernel that sets MSI-X Enable of a preserved endpoint, and the messages after",
    vacuous_when="no preserved endpoint has MSI-X, or it was not enabled anew before finished",
)
