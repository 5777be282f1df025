# SPDX-License-Identifier: MIT
"""What became of the guest: updated, refused, cancelled, rebooted, panicked, or nobody knows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydev.recording.format import Mark
from pydev.recording.messages import AgentMessage
from pydev.recording.phases import Blackout, is_panic
from pydev.recording.timeline import Timeline

GUESTS: Final = ("updated", "refused", "cancelled", "rebooted", "panic", "unknown")

# printk's optional prefixes: time, and the caller. Nothing else may precede the words.
_PREFIX: Final = r"^(?:\[[^\]]*\]\s*)*"
# linux kernel/liveupdate/kexec_handover.c kho_populate; luo_core.c luo_early_startup
_HANDOVER: Final = re.compile(_PREFIX + r"KHO: found kexec handover data")
_RETRIEVED: Final = re.compile(_PREFIX + r"luo: Retrieved live update data, liveupdate number: (\d+)")


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """Why an update does not count as one."""

    message: str
    t_ns: int | None = None
    is_of_set: bool = False
    """What is not taken back, or a kernel that dies of it: PRESERVED-SET says why."""


def expected_guest(timeline: Timeline) -> str:
    """What the experiment wants to become of the guest, as the header says: `updated` if it does not."""
    experiment = timeline.header.get("experiment")
    wanted = experiment.get("expect_guest") if isinstance(experiment, dict) else None
    return wanted if wanted in GUESTS else "updated"


def is_meant_to_stay(timeline: Timeline) -> bool:
    """Whether the experiment wants no update, and there was none: nothing of one can be examined."""
    return expected_guest(timeline) in ("refused", "cancelled") and not timeline.blackouts


def shortcomings(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    """What is missing to prove that the guest was live-updated, and what disproves it."""
    begin_ns, end_ns = blackout.begin.t_ns, blackout.end_ns
    if blackout.refusal is not None:
        errno = blackout.refusal.members.get("errno")
        yield Shortcoming(f"reboot(2) returned: the kernel refused (errno {errno})", blackout.refusal.t_ns)
    dead_ns = _death(blackout)
    for t_ns in timeline.marks(Mark.MACHINE_RESET):
        if t_ns > begin_ns:
            is_of_set = dead_ns is not None and t_ns >= dead_ns
            yield Shortcoming("the machine was reset, which a kexec never does", t_ns, is_of_set)
    yield from _console(timeline, blackout)
    yield from _hellos(timeline, blackout)
    yield from _reports(timeline, blackout)
    for line in timeline.console:
        if line.t_ns > begin_ns and line.t_ns <= end_ns and is_panic(line.text):
            message = f"the kernel panicked: {line.text.strip()}"
            yield Shortcoming(message, line.t_ns, dead_ns is not None)


def _death(blackout: Blackout) -> int | None:
    """When the incoming kernel panicked, having begun to enumerate what was handed over."""
    is_incoming = blackout.start_of("enumeration") is not None
    return blackout.panic.t_ns if blackout.panic is not None and is_incoming else None


def _console(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    inside = [t for t in timeline.console if blackout.begin.t_ns < t.t_ns <= blackout.end_ns]
    if not any(_HANDOVER.match(line.text) for line in inside):
        yield Shortcoming("the incoming kernel did not say that it found kexec handover data")
    numbers = [int(m.group(1)) for line in inside if (m := _RETRIEVED.match(line.text))]
    if not numbers:
        yield Shortcoming("the incoming kernel did not say that it retrieved live update data")
        return
    if numbers != [_number_due(timeline, blackout)]:
        yield _miscounted(timeline, blackout, ", ".join(map(str, numbers)))


def _number_due(timeline: Timeline, blackout: Blackout) -> int:
    """The orchestrator counts the updates that were made, not those that it refused."""
    return 1 + sum(b.refusal is None for b in timeline.blackouts if b.update < blackout.update)


def _miscounted(
    timeline: Timeline, blackout: Blackout, counted: object, t_ns: int | None = None
) -> Shortcoming:
    due = _number_due(timeline, blackout)
    return Shortcoming(f"the kernel counts live update {counted} where this is number {due}", t_ns)


def _hellos(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    hellos = [m for m in timeline.messages if not m.to_guest and m.members.get("event") == "hello"]
    before = [m for m in hellos if m.t_ns <= blackout.begin.t_ns]
    inside = [m for m in hellos if blackout.begin.t_ns < m.t_ns <= blackout.end_ns]
    if not inside:
        message = "no agent said hello after the guest was frozen"
        yield Shortcoming(message, is_of_set=_death(blackout) is not None)
        return
    if len(inside) > 1:
        yield Shortcoming(f"the guest started {len(inside)} times after it was frozen", inside[1].t_ns)
    hello = inside[0]
    if hello.members.get("incoming") is not True:
        yield Shortcoming("the agent says that its kernel is not an incoming one", hello.t_ns)
    if hello.members.get("liveupdate") is not True:
        yield Shortcoming("the incoming kernel has no live update orchestrator", hello.t_ns)
    counted = hello.members.get("update")
    if counted != _number_due(timeline, blackout):
        yield _miscounted(timeline, blackout, counted, hello.t_ns)
    identity = hello.members.get("boot_id")
    if identity is not None and any(m.members.get("boot_id") == identity for m in before):
        yield Shortcoming("the agent started again in the same kernel", hello.t_ns)


def _reports(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    inside = (blackout.begin.t_ns, blackout.end_ns)
    retrieves = [m for m in timeline.reports("retrieve") if inside[0] < m.t_ns <= inside[1]]
    if not retrieves:
        yield Shortcoming("nothing was retrieved in the incoming kernel", is_of_set=True)
    if not blackout.is_finished:
        yield Shortcoming("there is no finish report", is_of_set=True)


def errno_of(timeline: Timeline) -> int | None:
    """The errno of the guest's refusal: the last error that a command or reboot(2) reported."""
    numbers = [number for message in refusals(timeline) if (number := message.number("errno"))]
    return numbers[-1] if numbers else None


def refusals(timeline: Timeline) -> list[AgentMessage]:
    """Every reply and event in which the guest says that its kernel refused something."""
    return [
        message
        for message in timeline.messages
        if not message.to_guest
        and (message.members.get("ok") is False or message.members.get("event") in ("error", "reboot_failed"))
    ]


def guest_state(timeline: Timeline) -> str:
    """One of GUESTS."""
    if any(is_panic(line.text) for line in timeline.console):
        return "panic"
    blackouts = timeline.blackouts
    if not blackouts:
        if timeline.reports("unpreserve"):
            return "cancelled"
        return "refused" if refusals(timeline) else "unknown"
    if not any(True for blackout in blackouts for _ in shortcomings(timeline, blackout)):
        return "updated"
    last = blackouts[-1]
    if last.refusal is not None:
        return "refused"
    is_back = last.start_of("updated") is not None
    has_reset = any(t_ns > blackouts[0].begin.t_ns for t_ns in timeline.marks(Mark.MACHINE_RESET))
    return "rebooted" if is_back or has_reset else "unknown"


def proof_shortcomings(timeline: Timeline, wanted: str) -> Iterator[Shortcoming]:
    """What is missing to prove that the guest refused, cancelled or panicked, as the experiment wants it."""
    blackouts = timeline.blackouts
    last = blackouts[-1] if blackouts else None
    is_last_done = last is None or (last.refusal is None and last.panic is None)
    for blackout in blackouts if is_last_done else blackouts[:-1]:
        yield from shortcomings(timeline, blackout)
    if wanted == "panic":
        if last is None or last.panic is None:
            yield Shortcoming("no kernel panicked after the guest was frozen")
        return
    since_ns = last.end_ns if last is not None and is_last_done else 0
    if wanted == "refused":
        if last is not None and last.panic is not None:
            yield Shortcoming(f"the kernel panicked: {last.panic.text.strip()}", last.panic.t_ns)
            return
        found = [m.t_ns for m in refusals(timeline) if m.t_ns > since_ns]
        if not found:
            yield Shortcoming("the guest never refused")
    else:
        found = [m.t_ns for m in timeline.reports("unpreserve") if m.t_ns > since_ns]
        if not found:
            yield Shortcoming("nothing was un-preserved")
        if last is not None and not is_last_done:
            yield Shortcoming("the guest was frozen, and nothing cancelled that", last.begin.t_ns)
    if found:
        yield from _goes_on(timeline, found[-1])


def _goes_on(timeline: Timeline, since_ns: int) -> Iterator[Shortcoming]:
    """What disproves that the same kernel went on after a refusal, or shows nothing of it."""
    for t_ns in timeline.marks(Mark.MACHINE_RESET):
        if t_ns > since_ns:
            yield Shortcoming("the machine was reset", t_ns)
    for line in timeline.console:
        if line.t_ns > since_ns and is_panic(line.text):
            yield Shortcoming(f"the kernel panicked: {line.text.strip()}", line.t_ns)
    guest = [m for m in timeline.messages if not m.to_guest and m.damage is None]
    after = [m for m in guest if m.t_ns > since_ns]
    for message in after:
        if message.members.get("event") == "hello":
            yield Shortcoming("the agent started again", message.t_ns)
    known = [m.members["boot_id"] for m in guest if m.t_ns <= since_ns and "boot_id" in m.members]
    others = [m for m in after if known and m.members.get("boot_id", known[-1]) != known[-1]]
    if others:
        yield Shortcoming("another kernel answers", others[0].t_ns)
    if not any(m.members.get("ok") is True for m in after):
        yield Shortcoming("the guest was not heard of again")


def bench_ended_early(timeline: Timeline) -> bool:
    """The endpoint server died, the run was given up or interrupted, or the runner itself is gone."""
    given_up = timeline.marks(Mark.ABORTED) or timeline.marks(Mark.SERVER_LOST)
    return bool(given_up) or timeline.recording.trailer is None


def has_died(timeline: Timeline) -> bool:
    """Whether the run could not be performed to its end, and not by the bench's doing."""
    return bool(timeline.trailer.get("incomplete")) and not bench_ended_early(timeline)
