# SPDX-License-Identifier: MIT
"""What the experiment declares preserved against what the guest reports: preserved, retrieved, finished, in order.

From the guest's own reports (`preserve`, `unpreserve`, `retrieve`, `finish`) and from its refusals. A driver whose
device the kernel has finished already says `"incoming": false` in a reply (`status`, `retrieve`) before the host's
finish.
"""

from collections.abc import Iterable
from typing import Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.guest import expected_guest, has_died
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.preserved import Buffer, buffers, finish_of
from pydev.continuity.rule import Rule
from pydev.recording.functions import FunctionEntry
from pydev.recording.messages import AgentMessage
from pydev.recording.phases import Blackout

_ASKING: Final = ("buffer", "preserve")


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
    nothing = "nothing is declared preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    if not _has_orchestrator(evidence, blackout):
        judgement.vacuous(f"the kernel has no orchestrator that could have preserved {name}")
        return
    held = buffers(evidence, function, blackout)
    if not held:
        _judge_absence(evidence, judgement, blackout, function)
        return
    judgement.examined += 1
    if blackout.refusal is not None:
        return
    if blackout.panic is not None:
        if expected_guest(evidence.timeline) != "panic":
            words = f"{blackout.panic.text.strip()}: {name} was not finished"
            judgement.fail(_finding(evidence, blackout, function, blackout.panic.t_ns, words))
        return
    _judge_retrieved(evidence, judgement, blackout, function, held)
    _judge_finished(evidence, judgement, blackout, function)


def _has_orchestrator(evidence: Evidence, blackout: Blackout) -> bool:
    hellos = [
        m for m in _guest(evidence) if m.members.get("event") == "hello" and m.t_ns <= blackout.begin.t_ns
    ]
    return bool(hellos) and hellos[-1].members.get("liveupdate") is True


def _judge_absence(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    begin_ns = _previous_end(evidence, blackout)
    for message in _guest(evidence):
        if not begin_ns < message.t_ns <= blackout.begin.t_ns:
            continue
        if message.members.get("report") == "preserve" and evidence.function_of(message) is function:
            words = f"{name} was un-preserved before the guest was frozen"
            judgement.fail(_finding(evidence, blackout, function, blackout.begin.t_ns, words))
            return
        if message.members.get("ok") is False and _is_about(evidence, message, function, _ASKING):
            words = f"the guest refused to preserve {name}{_why(message)}"
            judgement.fail(_finding(evidence, blackout, function, message.t_ns, words))
            return
    judgement.doubt(Finding(f"{name} is declared preserved, and the guest reported no preserve for it"))


def _judge_retrieved(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    held: tuple[Buffer, ...],
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    inside = _inside(evidence, blackout)
    reports = [m for m in inside if _is_use(evidence, m, function)]
    for message in _finished_early(evidence, blackout, function):
        words = f"{name} was finished too early: its driver says that it is no longer incoming"
        judgement.fail(_finding(evidence, blackout, function, message.t_ns, words))
        break
    missing = {buffer.token for buffer in held} - {report.number("token") for report in reports}
    if not missing:
        return
    refused = [
        message
        for message in inside
        if message.members.get("ok") is False and _is_about(evidence, message, function, ("retrieve",))
    ]
    for message in refused:
        words = f"the guest could not retrieve {name}{_why(message)}"
        judgement.fail(_finding(evidence, blackout, function, message.t_ns, words))
    if not refused:
        words = f"{name} was preserved and never retrieved"
        _miss(evidence, judgement, blackout, _finding(evidence, blackout, function, blackout.end_ns, words))


def _finished_early(evidence: Evidence, blackout: Blackout, function: FunctionEntry) -> list[AgentMessage]:
    """Replies before the finish, about a function, by which its driver no longer holds it as incoming."""
    timeline = evidence.timeline
    updated = blackout.start_of("updated")
    if updated is None:
        return []
    finish = finish_of(evidence, function, blackout)
    command = None if finish is None else timeline.command_of(finish)
    end_ns = blackout.end_ns if command is None else command.t_ns
    return [
        message
        for message in _guest(evidence)
        if updated < message.t_ns < end_ns
        and message.members.get("incoming") is False
        and function in (evidence.function_of(message), _subject(evidence, message))
    ]


def _subject(evidence: Evidence, message: AgentMessage) -> FunctionEntry | None:
    """The function that the command names which this line answers."""
    command = evidence.timeline.command_of(message)
    return None if command is None else evidence.function_of(command)


def _judge_finished(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    inside = _inside(evidence, blackout)
    finish = finish_of(evidence, function, blackout)
    if finish is None:
        refused = [m for m in inside if m.members.get("ok") is False and _command(evidence, m) == "finish"]
        words = f"{name} was never finished{_why(refused[-1]) if refused else ''}"
        _miss(evidence, judgement, blackout, _finding(evidence, blackout, function, blackout.end_ns, words))
        return
    late = [m for m in inside if _is_use(evidence, m, function) and m.t_ns > finish.t_ns]
    if late:
        words = f"{name} was finished before its use of what was preserved had ended"
        judgement.fail(_finding(evidence, blackout, function, finish.t_ns, words))


def _is_use(evidence: Evidence, message: AgentMessage, function: FunctionEntry) -> bool:
    """Whether a report takes something of a function out of the handover."""
    is_retrieve = message.members.get("report") == "retrieve" and message.members.get("ok") is True
    return is_retrieve and evidence.function_of(message) is function


def _is_about(
    evidence: Evidence, message: AgentMessage, function: FunctionEntry, commands: Iterable[str]
) -> bool:
    """Whether a reply is about a function, by its own BDF or by that of the command that it answers."""
    command = evidence.timeline.command_of(message)
    if command is None or command.string("cmd") not in tuple(commands):
        return False
    return function in (evidence.function_of(message), _subject(evidence, message))


def _command(evidence: Evidence, message: AgentMessage) -> str | None:
    command = evidence.timeline.command_of(message)
    return None if command is None else command.string("cmd")


def _guest(evidence: Evidence) -> list[AgentMessage]:
    return [m for m in evidence.timeline.messages if not m.to_guest and m.damage is None]


def _previous_end(evidence: Evidence, blackout: Blackout) -> int:
    return max((b.end_ns for b in evidence.blackouts if b.update < blackout.update), default=0)


def _inside(evidence: Evidence, blackout: Blackout) -> list[AgentMessage]:
    """The guest's lines from frozen to the next one, or to the record's end."""
    later = [b.begin.t_ns for b in evidence.blackouts if b.update > blackout.update]
    end_ns = min(later, default=evidence.timeline.last_ns)
    return [m for m in _guest(evidence) if blackout.begin.t_ns < m.t_ns <= end_ns]


def _miss(evidence: Evidence, judgement: Judgement, blackout: Blackout, finding: Finding) -> None:
    """Something did not happen: the guest's fault if the host asked for the finish, or if the guest died before."""
    later = [b.begin.t_ns for b in evidence.blackouts if b.update > blackout.update]
    end_ns = min(later, default=evidence.timeline.last_ns)
    asked = any(
        m.to_guest and m.members.get("cmd") == "finish" and blackout.begin.t_ns < m.t_ns <= end_ns
        for m in evidence.timeline.messages
    )
    if asked or has_died(evidence.timeline):
        judgement.fail(finding)
    else:
        judgement.doubt(finding)


def _why(message: AgentMessage) -> str:
    """What a refusal says of itself: page, errno, text."""
    members = message.members
    page = message.number("page")
    parts = [
        *([f"page {page}"] if page is not None else []),
        *([f"errno {members['errno']}"] if members.get("errno") is not None else []),
        *([str(members["error"])] if members.get("error") else []),
    ]
    return f": {', '.join(parts)}" if parts else ""


def _finding(
    evidence: Evidence, blackout: Blackout, function: FunctionEntry, t_ns: int, message: str
) -> Finding:
    bdf = evidence.timeline.bdf_at(function.index, blackout.begin.t_ns)
    return Finding(message, t_ns=t_ns, phase=evidence.timeline.phase_at(t_ns), bdf=bdf)


PRESERVED_SET: Final = Rule(
    id="PRESERVED-SET",
    title="What is declared preserved was preserved when frozen, then retrieved, then finished",
    hazards=(63,),
    severity="U",
    why="A device or a page of its buffer that is lost on the way goes on being written to, as somebody else's "
    "memory; and one that is finished early is anybody's while it is still in use.",
    acceptable="Never; a kernel that refuses the whole update keeps everything.",
    source="linux kernel/liveupdate/luo_session.c, luo_file.c; Documentation/PCI",
    planted_fault="a retrieve that the incoming kernel refuses because one page was not preserved",
    judge=_judge,
    examines="each endpoint that the experiment declares preserved, against the guest's own reports",
    unknown_when="where the guest never reported a preserve, and did not refuse one",
    vacuous_when="nothing is declared preserved, or the kernel has no orchestrator",
)
