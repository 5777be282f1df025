# SPDX-License-Identifier: MIT
"""Who made a write, for the text report: a call stack that fits into a mail, or why there is none."""

from collections.abc import Sequence
from typing import Any, Final

from pydev.recording.attribution import declaration, without_accessors
from pydev.recording.timeline import Timeline

# linux arch/x86/entry, kernel/fork.c: below these every stack looks the same
_ENTRIES: Final = frozenset(
    {
        "x64_sys_call", "do_syscall_64", "entry_SYSCALL_64_after_hwframe", "ret_from_fork", "ret_from_fork_asm",
        "kernel_init", "kthread",
    }
)  # fmt: skip


def call_path(stack: Sequence[str]) -> str:
    """`by pci_clear_master <- pci_device_shutdown <- ... <- kernel_kexec`: without accessors and entry code."""
    frames = list(without_accessors(stack))
    is_cut = False
    while len(frames) > 1 and frames[-1].partition(" ")[0] in _ENTRIES:
        frames.pop()
        is_cut = True
    return "by " + " <- ".join(frames) + (" ..." if is_cut else "")


def no_attribution(timeline: Timeline) -> str | None:
    """Why no write of this recording, or not every one, can be given its author; None where all can."""
    has_plugin, reason = declaration(timeline.header)
    if not has_plugin:
        return f"none: {reason}"
    summary: Any = timeline.trailer.get("attribution")
    problems = summary.get("problems") if isinstance(summary, dict) else None
    said = "; ".join(str(problem) for problem in problems) if isinstance(problems, list) else ""
    if not any(write.attribution and write.attribution.frames for write in timeline.plugin.writes):
        return f"none: {said or 'no call stack could be named'}"
    return f"not of every write: {said}" if said else None
