# SPDX-License-Identifier: MIT
"""What became of the guest: updated, refused, cancelled, rebooted, panicked, or nobody knows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydev.recording.format import Mark
from pydev.recording.messages import AgentMessage
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Timeline

GUESTS: Final = ("updated", "refused", "cancelled", "rebooted", "panic", "unknown")

# printk's optional prefixes: time, and the caller. Nothing else may precede the words.
_PREFIX: Final = r"^(?:\[[^\]]*\]\s*)*"
# linux kernel/liveupdate/kexec_handover.c kho_populate; luo_core.c luo_early_startup
_HANDOVER: Final = re.compile(_PREFIX + r"KHO: found kexec handover data")
_RETRIEVED: Final = re.compile(_PREFIX + r"luo: Retrieved live update data, liveupdate number: (\d+)")
_PANIC: Final = re.compile(_PREFIX + r"Kernel panic - not syncing")


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """Why an update does not count as one."""

    message: str
    t_ns: int | None = None


def shortcomings(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    """What is missing to prove that the guest was live-updated, and what disproves it."""
    begin_ns, end_ns = blackout.begin.t_ns, blackout.end_ns
    if blackout.refusal is not None:
        errno = blackout.refusal.members.get("errno")
        yield Shortcoming(f"reboot(2) returned: the kernel refused (errno {errno})", blackout.refusal.t_ns)
    for t_ns in timeline.marks(Mark.MACHINE_RESET):
        if t_ns > begin_ns:
            yield Shortcoming("the machine was reset, which a kexec never does", t_ns)
    yield from _console(timeline, blackout)
    yield from _hellos(timeline, blackout)
    yield from _reports(timeline, blackout)
    for line in timeline.console:
        if line.t_ns > begin_ns and line.t_ns <= end_ns and _PANIC.match(line.text):
            yield Shortcoming(f"the kernel panicked: {line.text.strip()}", line.t_ns)


def _console(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    inside = [t for t in timeline.console if blackout.begin.t_ns < t.t_ns <= blackout.end_ns]
    if not any(_HANDOVER.match(line.text) for line in inside):
        yield Shortcoming("the incoming kernel did not say that it found kexec handover data")
    numbers = [int(m.group(1)) for line in inside if (m := _RETRIEVED.match(line.text))]
    if not numbers:
        yield Shortcoming("the incoming kernel did not say that it retrieved live update data")
        return
    # The orchestrator counts the updates that were made, not those that it refused.
    due = 1 + sum(b.refusal is None for b in timeline.blackouts if b.update < blackout.update)
    if numbers != [due]:
        text = ", ".join(map(str, numbers))
        yield Shortcoming(f"the kernel counts live update {text} where this is number {due}")


def _hellos(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    hellos = [m for m in timeline.messages if not m.to_guest and m.members.get("event") == "hello"]
    before = [m for m in hellos if m.t_ns <= blackout.begin.t_ns]
    inside = [m for m in hellos if blackout.begin.t_ns < m.t_ns <= blackout.end_ns]
    if not inside:
        yield Shortcoming("no agent said hello after the guest was frozen")
        return
    if len(inside) > 1:
        yield Shortcoming(f"the guest started {len(inside)} times after it was frozen", inside[1].t_ns)
    hello = inside[0]
    if hello.members.get("incoming") is not True:
        yield Shortcoming("the agent says that its kernel is not an incoming one", hello.t_ns)
    if hello.members.get("liveupdate") is not True:
        yield Shortcoming("the incoming kernel has no live update orchestrator", hello.t_ns)
    identity = hello.members.get("boot_id")
    if identity is not None and any(m.members.get("boot_id") == identity for m in before):
        yield Shortcoming("the agent started again in the same kernel", hello.t_ns)


def _reports(timeline: Timeline, blackout: Blackout) -> Iterator[Shortcoming]:
    inside = (blackout.begin.t_ns, blackout.end_ns)
    retrieves = [m for m in timeline.reports("retrieve") if inside[0] < m.t_ns <= inside[1]]
    if not retrieves:
        yield Shortcoming("nothing was retrieved in the incoming kernel")
    if not blackout.is_finished:
        yield Shortcoming("there is no finish report")


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
    if any(_PANIC.match(line.text) for line in timeline.console):
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
