# SPDX-License-Identifier: MIT
"""The one interrupt at finish, by which a driver finds the work that it missed.

No interrupt is preserved by design, so the driver sets MSI-X up anew and has its device raise the catch-up
vector once when it is finished. The driver asks through the device's doorbell inside the finish itself: the
span begins with the host's finish command, and ends where the stream's next use begins. Only a driver does
this: where the agent's reports do not say `"driver": true`, nothing is examined.
"""

from typing import Final

import numpy as np

from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.preserved import finish_of, retrieved
from pydev.continuity.rule import Rule
from pydev.recording.format import Flag, Gate, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.messages import AgentMessage
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Slots

CATCH_UP_VECTOR: Final = 1
_MSIX: Final = 2  # linux include/uapi/linux/vfio.h VFIO_PCI_MSIX_IRQ_INDEX
_CAUSES: Final = (
    (Gate.IN_RESET, "RESET"),
    (Gate.BUS_MASTER_OFF, "RESET"),
    (Gate.BUS_MASTER_OFF, "BME-ENDPOINT"),
    (Gate.POWER_STATE, "POWER-STATE"),
)

_BEFORE: Final = ("MSIX-TAKEOVER", "MSIX-SEQUENCE")
"""Rules of what comes first: messages taken over, and vectors set up."""


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
    cause = next(iter(judgement.causes)) if len(judgement.causes) == 1 else None
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=cause, nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    timeline = evidence.timeline
    name = evidence.name(function, blackout.begin.t_ns)
    end_ns = _end(evidence, blackout)
    if not _has_driver(evidence, function, blackout, end_ns):
        judgement.vacuous(f"no driver says that it holds {name}: user space has no catch-up interrupt")
        return
    if not blackout.is_finished:
        if blackout.is_over:
            judgement.vacuous(f"the update was not finished: {name} was due no catch-up interrupt")
        else:
            judgement.doubt(Finding(f"no finish report: whether {name} was due an interrupt is not known"))
        return
    if not retrieved(evidence, function, blackout):
        judgement.vacuous(f"{name} was not retrieved: it was due no catch-up interrupt")
        return
    judgement.examined += 1
    begin_ns = _begin(evidence, blackout, function)
    bdf = timeline.bdf_at(function.index, blackout.end_ns)

    def fail(message: str, t_ns: int, cause: str | None = None) -> None:
        judgement.fail(Finding(message, t_ns=t_ns, phase=timeline.phase_at(t_ns), bdf=bdf), cause)

    raised = _raised(evidence, function, begin_ns, end_ns)
    flags = timeline.column("flags", raised)
    lost = (flags & np.uint16(int(Flag.BLOCKED))) != 0
    delivered = raised[~lost & ((flags & np.uint16(int(Flag.PENDING))) == 0)]
    for slot in raised[lost].tolist():
        error = int(timeline.records["error"][slot])
        fail(f"the catch-up interrupt of {name} was lost", int(timeline.t_ns[slot]), _cause(evidence, error))
    if not len(raised):
        fail(f"{name} raised no catch-up interrupt (vector {CATCH_UP_VECTOR})", blackout.end_ns)
    elif len(delivered) > 1:
        words = f"{name} raised {len(delivered)} catch-up interrupts, and one is due"
        fail(words, int(timeline.t_ns[delivered[1]]))
    elif not len(delivered) and not lost.any():
        fail(f"the catch-up interrupt of {name} stayed pending", int(timeline.t_ns[raised[0]]))
    elif len(delivered) and not _is_set_up(evidence, function, blackout, int(timeline.t_ns[delivered[0]])):
        cause = next((rule for rule in _BEFORE if evidence.failed(rule, function)), None)
        words = f"MSI-X of {name} was not set up anew before its catch-up interrupt"
        fail(words, int(timeline.t_ns[delivered[0]]), cause)


def _cause(evidence: Evidence, error: int) -> str | None:
    return next((rule for gate, rule in _CAUSES if error & gate and evidence.failed(rule)), None)


def _raised(evidence: Evidence, function: FunctionEntry, begin_ns: int, end_ns: int) -> Slots:
    timeline = evidence.timeline
    slots = timeline.of_kind(Kind.INTERRUPT, function.index)
    times = timeline.t_ns[slots]
    region, vector = timeline.columns(("region", "address"), slots)
    is_ours = (region == _MSIX) & (vector == CATCH_UP_VECTOR)
    own: Slots = slots[is_ours & (times > begin_ns) & (times <= end_ns)]
    return own


def _is_set_up(evidence: Evidence, function: FunctionEntry, blackout: Blackout, t_ns: int) -> bool:
    """Whether the incoming kernel gave the vector a file before a moment."""
    timeline = evidence.timeline
    since = blackout.start_of("enumeration") or blackout.begin.t_ns
    slots = timeline.of_kind(Kind.IRQ_SETUP, function.index)
    slots = slots[(timeline.t_ns[slots] > since) & (timeline.t_ns[slots] <= t_ns)]
    first, count = timeline.column("address", slots), timeline.column("size", slots).astype(np.uint64)
    covers = (first <= CATCH_UP_VECTOR) & (first + count > CATCH_UP_VECTOR)
    is_msix = timeline.column("region", slots) == _MSIX
    return bool((covers & is_msix & (timeline.column("extra", slots) > 0)).any())


def _begin(evidence: Evidence, blackout: Blackout, function: FunctionEntry) -> int:
    """The host's finish command, in whose course the driver rings; else the incoming kernel's hello."""
    report = finish_of(evidence, function, blackout)
    command = None if report is None else evidence.timeline.command_of(report)
    if command is not None:
        return command.t_ns
    return blackout.start_of("updated") or blackout.begin.t_ns


def _end(evidence: Evidence, blackout: Blackout) -> int:
    """Where this update's time ends: the next one's preparation, or the record."""
    later = [b for b in evidence.blackouts if b.update > blackout.update]
    return min((b.start_of("prepared") or b.begin.t_ns for b in later), default=evidence.timeline.last_ns)


def _has_driver(evidence: Evidence, function: FunctionEntry, blackout: Blackout, end_ns: int) -> bool:
    """Whether a reply about this endpoint in the incoming kernel says that a driver holds it."""
    timeline = evidence.timeline

    def is_about(message: AgentMessage) -> bool:
        command = timeline.command_of(message)
        return function in (
            evidence.function_of(message),
            None if command is None else evidence.function_of(command),
        )

    return any(
        message.members.get("driver") is True and is_about(message)
        for message in timeline.messages
        if not message.to_guest and blackout.begin.t_ns < message.t_ns <= end_ns
    )


CATCH_UP: Final = Rule(
    id="CATCH-UP",
    title="A driver's device raises exactly one interrupt at finish, on vectors set up anew",
    hazards=(62,),
    severity="E",
    why="Any interrupt between freeze and finish may be lost: without one more at the end the driver waits for "
    "work that is done already.",
    acceptable="The device is driven from user space, which looks for itself.",
    source="PCIe 6.0 6.1.4; linux drivers/pci/msi/msi.c; Documentation/PCI",
    planted_fault="a driver that finishes without ringing its device's doorbell",
    judge=_judge,
    writers=(
        "a driver's finish callback, by its device's doorbell",
        "__pci_enable_msix_range (drivers/pci/msi/msi.c)",
    ),
    examines="the catch-up vector of each preserved endpoint that a driver holds, from the finish command "
    "to the next use",
    vacuous_when="no driver says that it holds the endpoint, or nothing was finished",
)
