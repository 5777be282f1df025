# SPDX-License-Identifier: MIT
"""Messages that a preserved endpoint sends between the jump and the incoming kernel's takeover.

They go out with the address and data that the outgoing kernel put in place. Which of its states let an
endpoint send any, how many it did, and what became of them: delivered (the message left the function), held in
the pending bits, or refused. What interrupt controllers do with a delivered one is not on this wire.

Writers, linux 7.3: nobody, where no driver's shutdown disables MSI-X (hazard 9); `native_machine_shutdown`
(arch/x86/kernel/reboot.c: 12) takes down what would have received them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from pydev.continuity.evidence import Evidence, WatchedField, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import field_values, known
from pydev.recording.format import Flag, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout, Phase
from pydev.recording.timeline import Slots

_KINDS: Final = (("MSI", "MSI_CONTROL", 1), ("MSI-X", "MSIX_CONTROL", 2))
"""Name, register, and linux include/uapi/linux/vfio.h VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX."""


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    notes: list[str] = []
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            for kind in _KINDS:
                _judge_kind(evidence, judgement, blackout, function, kind, notes)
    if not judgement.examined:
        for note in notes:
            judgement.vacuous(note)
    nothing = "no preserved endpoint has MSI or MSI-X" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(nothing=nothing)


def _judge_kind(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    kind: tuple[str, str, int],
    notes: list[str],
) -> None:
    what, register, region = kind
    watched = watch(evidence, function, blackout, register, "enable")
    if watched is None:
        return
    name = evidence.name(function, blackout.begin.t_ns)
    jump = blackout.phases.get("jump")
    if jump is None:
        if blackout.refusal is None and known(watched.initial) != 0:
            judgement.doubt(Finding(f"no jump was seen while {what} of {name} was enabled"))
        notes.append(f"no jump was seen: {what} of {name} met no other kernel")
        return
    if field_values(watched.history.at(jump.t_ns), watched.entry) == {0}:
        notes.append(f"{what} of {name} was off at the jump")
        return
    judgement.examined += 1
    takeover_ns = _takeover(watched, jump)
    end_ns = blackout.end_ns if takeover_ns is None else takeover_ns
    raised = _Raised.of(evidence, function, region, jump.t_ns, end_ns)
    sure = _Raised.of(evidence, function, region, jump.t_ns + jump.uncertainty_ns, end_ns)
    if len(sure.delivered):
        judgement.fail(_finding(evidence, function, kind, sure, raised, end_ns))
    elif len(raised.delivered):
        words = f"{len(raised.delivered)} messages of {name} were sent around the jump; by which side of it is open"
        judgement.doubt(Finding(words, t_ns=int(evidence.timeline.t_ns[raised.delivered[0]])))
    elif takeover_ns is None and not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))


def _takeover(watched: WatchedField, jump: Phase) -> int | None:
    """When the messages were turned off; None: not in this blackout."""
    for change, _ in watched.changes:
        if change.t_ns > jump.t_ns and watched.values(change)[1] == {0}:
            return change.t_ns
    return None


@dataclass(frozen=True, slots=True)
class _Raised:
    """The interrupts of a span, by what became of them."""

    delivered: Slots
    pending: Slots
    refused: Slots

    @classmethod
    def of(
        cls, evidence: Evidence, function: FunctionEntry, region: int, begin_ns: int, end_ns: int
    ) -> "_Raised":
        timeline = evidence.timeline
        slots = timeline.of_kind(Kind.INTERRUPT, function.index)
        times = timeline.t_ns[slots]
        is_own = timeline.column("region", slots) == region
        slots = slots[is_own & (times > begin_ns) & (times <= end_ns)]
        flags = timeline.column("flags", slots)
        is_refused = (flags & np.uint64(int(Flag.BLOCKED))) != 0
        is_pending = (flags & np.uint64(int(Flag.PENDING))) != 0
        return cls(slots[~is_refused & ~is_pending], slots[is_pending], slots[is_refused])


def _finding(
    evidence: Evidence,
    function: FunctionEntry,
    kind: tuple[str, str, int],
    sure: _Raised,
    raised: _Raised,
    end_ns: int,
) -> Finding:
    timeline = evidence.timeline
    what, register, _ = kind
    t_ns = int(timeline.t_ns[sure.delivered[0]])
    count = len(sure.delivered)
    vectors = np.unique(timeline.column("address", sure.delivered)).tolist()
    last, end = (timeline.since_start_ns(t) / 1e6 for t in (int(timeline.t_ns[sure.delivered[-1]]), end_ns))
    words = (
        f"{evidence.name(function, t_ns)} sent {count} {what} message{'s' * (count != 1)} as the outgoing kernel had "
        f"set them up (vector {', '.join(map(str, vectors))}), from {timeline.since_start_ns(t_ns) / 1e6:.3f} to "
        f"{last:.3f} ms of the recording, before the incoming kernel took over at {end:.3f} ms"
    )
    doubtful = len(raised.delivered) - count
    more = [
        f"{number} {became}"
        for number, became in (
            (doubtful, "more about the jump"),
            (len(raised.pending), "held pending"),
            (len(raised.refused), "refused"),
        )
        if number
    ]
    return Finding(
        words + (f"; {', '.join(more)}" if more else ""),
        t_ns=t_ns,
        phase=timeline.phase_at(t_ns),
        bdf=timeline.bdf_at(function.index, t_ns),
        register=register,
        field="enable",
        count=count,
    )


STRAY_INTERRUPT: Final = Rule(
    id="STRAY-INTERRUPT",
    title="A preserved endpoint sends no message between the jump and the incoming kernel's takeover",
    hazards=(9, 12),
    severity="I",
    why="A message is a memory write to an address, with data, that the outgoing kernel chose: a vector of a local "
    "APIC that is off, that means something else to the incoming kernel, or an entry of a remapping table that is "
    "gone. Lost ones are the driver's to find out (CATCH-UP); one that arrives is an interrupt nobody expects.",
    acceptable="MSI and MSI-X are off at the jump, or masked: what is held in the pending bits harms nobody. By "
    "design of the series any number may be lost between freeze and finish; that none is sent at all is more than it "
    "promises.",
    source="PCIe 6.0 6.1.4, 7.7.1.2, 7.7.2.2; linux arch/x86/kernel/reboot.c native_machine_shutdown "
    "(clear_IO_APIC, lapic_shutdown); drivers/pci/msi/pcidev_msi.c pci_msix_init (the takeover)",
    planted_fault="an interrupt of a preserved endpoint delivered after the jump, with MSI-X still enabled",
    judge=_judge,
    registers=("MSI_CONTROL.enable", "MSIX_CONTROL.enable"),
    writers=(
        "nobody, where the driver's shutdown leaves MSI-X enabled",
        "pci_msix_init, pci_msi_init (drivers/pci/msi/pcidev_msi.c), which end it",
    ),
    examines="each preserved endpoint with MSI or MSI-X enabled at the jump, from then to the takeover",
    unknown_when="messages were sent about the jump, and its moment is not known well enough",
    vacuous_when="MSI and MSI-X of every preserved endpoint were off at the jump",
)
