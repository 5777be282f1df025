# SPDX-License-Identifier: MIT
"""Mutations that may pass, each with its reason: what they change nobody judges, or is as good a guest's doing.

An excuse covers as little as it can: a kind, a field, a place in time. It is asked only of a mutation that
passed; most of what an excuse covers is noticed all the same.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydev.recording.format import CONFIG_REGION, Kind, Mark
from pydev.testkit.mutations.mutation import Mutation, Site

Covers = Callable[[Mutation], bool]


@dataclass(frozen=True)
class Excuse:
    """Why some mutations are no wrong PASS."""

    id: str
    reason: str
    covers: Covers


def _kinds(*kinds: Kind) -> Covers:
    names = {kind.name for kind in kinds}
    return lambda mutation: mutation.kind in names


def _named(pattern: str, *kinds: Kind) -> Covers:
    """Mutations whose name and detail match, of some kinds."""
    is_kind = _kinds(*kinds)
    return lambda mutation: (
        is_kind(mutation) and bool(re.fullmatch(pattern, f"{mutation.name} {mutation.detail}".strip()))
    )


def _at(condition: Callable[[Site], bool]) -> Covers:
    """Mutations of events that all are so."""
    return lambda mutation: bool(mutation.sites) and all(condition(site) for site in mutation.sites)


def _both(*conditions: Covers) -> Covers:
    return lambda mutation: all(condition(mutation) for condition in conditions)


def _said(which: str, *members: str) -> Covers:
    """Mutations of some members of the header or the trailer; a pattern each."""
    patterns = [re.compile(member) for member in members]
    return lambda m: m.kind == which and any(pattern.fullmatch(m.detail) for pattern in patterns)


def _line(member: str, **told: object) -> Covers:
    """Mutations of one member of the agent's lines that say something else as well."""
    return lambda m: bool(
        m.kind == Kind.AGENT.name
        and re.fullmatch(member, m.detail)
        and m.site is not None
        and all(m.site.members.get(name) == value for name, value in told.items())
    )


def _is_before_running(site: Site) -> bool:
    running = site.clean.timeline.marks(Mark.MACHINE_RUNNING)
    return bool(running) and site.t_ns < running[0]


def _is_before_frozen(site: Site) -> bool:
    blackouts = site.clean.timeline.blackouts
    return bool(blackouts) and site.t_ns <= blackouts[0].begin.t_ns


def _is_after_finished(site: Site) -> bool:
    blackouts = site.clean.timeline.blackouts
    return bool(blackouts) and site.t_ns > blackouts[-1].end_ns


def _is_of_preserved(site: Site) -> bool:
    return site.function is not None and site.function.preserve


def _is_on_preserved_path(site: Site) -> bool:
    """Whether a function is preserved, or a bridge, which may be above one that is."""
    return site.function is None or site.function.preserve or not site.function.is_endpoint


def _is_unwatched(mutation: Mutation) -> bool:
    """Whether no rule looks at the field that a write changes."""
    site = mutation.site
    if site is None or site.function is None:
        return False
    register, _, field = mutation.detail.partition(".")
    seen = site.clean.watched
    return not {(site.function.index, register, name) for name in (field, None)} & seen


def _is_of_topology(site: Site) -> bool:
    return site.function is not None


def _is_settled_later(mutation: Mutation) -> bool:
    """Whether the guest writes the register again: the value that was changed does not last."""
    site = mutation.site
    if site is None:
        return False
    clean = site.clean
    later = clean.draft.records[site.head + 1 :]
    same = (later["kind"] == site.kind) & (later["function"] == site["function"])
    return bool((same & (later["address"] == site["address"]) & (later["t_ns"] > site.t_ns)).any())


def _is_same_order(mutation: Mutation) -> bool:
    """Whether a line that was moved is still where it was among the lines."""
    site = mutation.site
    if site is None or mutation.kind != Kind.AGENT.name:
        return False
    moved = mutation.make()
    texts = [[draft.text(head) for head in draft.of_kind(Kind.AGENT)] for draft in (site.clean.draft, moved)]
    return texts[0] == texts[1]


def _is_unjudged_word(mutation: Mutation) -> bool:
    """Whether no rule reads this member of such a line."""
    site = mutation.site
    if site is None or mutation.kind != Kind.AGENT.name or not mutation.detail:
        return False
    said = site.members
    name = said.get("event") or said.get("report") or ("cmd" if "cmd" in said else "reply")
    return mutation.detail not in JUDGED_WORDS.get(name, ())


def _is_plain_line(site: Site) -> bool:
    text = site.clean.draft.text(site.head).decode(errors="replace")
    return not re.search(r"KHO: found|luo: Retrieved|Kernel panic", text)


JUDGED_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "hello": ("event", "incoming", "liveupdate", "update", "boot_id"),
    "frozen": ("event",),
    "preserve": ("report", "ok", "bdf", "token", "ranges", "driver", "incoming"),
    "retrieve": ("report", "ok", "bdf", "token", "ranges", "driver", "incoming"),
    "check": ("report", "ok", "bdf", "slots", "bad_count", "page_crc32"),
    "finish": ("report", "ok", "bdf", "session", "buffers"),
    "state": ("report", "ok", "functions"),
    "reply": ("ok", "bdf", "driver", "incoming"),
    "cmd": ("cmd", "bdf", "token", "session"),
}
"""What rules read of each kind of line."""

_TIME: Final = "(stamp|move) (earlier|later)"
_TRACE: Final = (Kind.TRACE_READ, Kind.REGION_READ)

EXCUSES: Final[tuple[Excuse, ...]] = (
    Excuse(
        "read",
        "a guest's read changes nothing. Rules use what it shows to contradict what was written, or to tell a value "
        "that nobody wrote, and say UNKNOWN or VACUOUS where they need one that is not there",
        _kinds(*_TRACE),
    ),
    Excuse(
        "qemu's own",
        "QEMU writes it while it makes the machine: no guest is there yet, and it leaves nothing that the guest finds",
        _both(
            _kinds(Kind.REGION_WRITE), _at(lambda s: _is_before_running(s) and s["region"] == CONFIG_REGION)
        ),
    ),
    Excuse(
        "device's own register",
        "a write to a BAR is between driver and device: no rule derives anything from it, and QEMU traces none",
        _both(_kinds(Kind.REGION_WRITE), _at(lambda s: s["region"] != CONFIG_REGION)),
    ),
    Excuse(
        "not preserved",
        "of an endpoint that is not preserved only bus mastering is judged, where the incoming kernel begins, and what "
        "it does then",
        _at(lambda s: not _is_on_preserved_path(s)),
    ),
    Excuse(
        "set up otherwise",
        "all witnesses agree on another write outside of the blackout: another guest, which is kept as well",
        _both(
            lambda m: m.kind == "config write",
            _at(lambda s: _is_before_frozen(s) or _is_after_finished(s)),
        ),
    ),
    Excuse(
        "not judged",
        "all witnesses agree on a write that differs in a field which no rule of the policy looks at",
        lambda m: m.kind == "config write" and m.name == "other value" and _is_unwatched(m),
    ),
    Excuse(
        "not made",
        "all witnesses agree that the guest did not make this write: one that is not made changes nothing, and what "
        "has to be written its own rule asks for",
        lambda m: m.kind == "config write" and m.name == "never made",
    ),
    Excuse(
        "console",
        "of the console only the orchestrator's two lines, a panic and the port driver's first line are judged; said "
        "twice they say the same",
        _both(_kinds(Kind.CONSOLE), lambda m: m.name == "double" or not m.sites or _at(_is_plain_line)(m)),
    ),
    Excuse(
        "author",
        "who made a write is for people: it names a finding, and excuses one that the policy expects; nothing passes "
        "for it",
        lambda m: _kinds(Kind.ATTRIBUTION, Kind.STACK)(m) or _said("trailer", r"attribution(\..*)?")(m),
    ),
    Excuse(
        "ticks outside",
        "the bench's lateness is judged in the blackout",
        _named("drop all (before frozen|after finished)", Kind.REFERENCE),
    ),
    Excuse(
        "first and last moments",
        "QEMU's start, a connection's beginning and end, the plugin's last word: nothing is judged by how long before "
        "or after everything else they are",
        lambda m: (
            _named(_TIME, Kind.MARK, Kind.CLIENT, Kind.PLUGIN_END)(m)
            and _at(lambda s: _is_before_running(s) or _is_after_finished(s))(m)
        ),
    ),
    Excuse(
        "connection never ended",
        "a connection whose end is not recorded lasts until the recording's",
        lambda m: (
            _named("drop( all.*)?", Kind.CLIENT)(m)
            and (not m.sites or _at(lambda s: s["value"] == 0 and _is_after_finished(s))(m))
        ),
    ),
    Excuse(
        "memory map",
        "where memory is mapped is compared across the blackout: a map that was so before it, and covers the ring or "
        "nothing of it, is the machine's as it is",
        _both(
            _kinds(Kind.DMA_MAP, Kind.DMA_UNMAP),
            lambda m: not m.sites or _at(lambda s: _is_before_frozen(s) or not _is_of_preserved(s))(m),
        ),
    ),
    Excuse(
        "vectors",
        "a request that is missing, doubled or another, and every vector that is used still has its file from one "
        "before: what is off is the gate's to say",
        _kinds(Kind.IRQ_SETUP),
    ),
    Excuse(
        "late catch-up",
        "the interrupt at finish may come until the device's next use begins",
        _both(
            _named("(stamp|move) later", Kind.INTERRUPT),
            _at(lambda s: s["address"] == 1),
        ),
    ),
    Excuse(
        "names",
        "names and descriptions: reports print them, nothing is decided by them",
        _said(
            "header",
            "luscope",
            "started_ns",
            r"experiment\.(name|description|policy|accelerator|iommu)",
            r"attribution\.(accelerator|.*version.*)",
            r"(kernels|qemu|host)(\..*)?",
            r"functions\.\d+\.(id|model)",
        ),
    ),
    Excuse(
        "one update",
        "an experiment that does not say how many updates it wants wants one",
        _said("header", "experiment", r"experiment\.(updates|expect_guest)"),
    ),
    Excuse(
        "nothing said",
        "the same meaning: nothing for false, for no port above, for no bus of its own",
        _said("header", r"functions\.\d+\.(bus|parent|preserve)"),
    ),
    Excuse(
        "wanted stream",
        "what the experiment asked of a stream: what it did is judged by the engine's own record of its program",
        _said("header", r"functions\.\d+\.stream(\..*)?"),
    ),
    Excuse(
        "undeclared",
        "a register that the header does not declare is not judged by name: a rule that has nothing else to examine "
        "says so",
        lambda m: m.name == "undeclare",
    ),
    Excuse(
        "clock's figures",
        "for people: the offsets themselves and the trace's leads decide",
        _said("trailer", r"clock\.residual_(median|max)_ns", r"trace\.(lines|anchors|iommu_writes)"),
    ),
    Excuse(
        "order of the offsets",
        "the same two offsets the other way round: their difference decides",
        lambda m: m.name == "say in another order" and "realtime_minus_monotonic_ns" in m.detail,
    ),
    Excuse(
        "what was meant",
        "what the bench meant to boot: the kernels say their releases themselves",
        _said("trailer", r"kernels(\..*)?", "qemu", r"packages(\..*)?"),
    ),
    Excuse(
        "outgoing kernel's own words",
        "how many updates the outgoing kernel has behind it is not judged",
        _line("update", event="hello", incoming=False),
    ),
    Excuse(
        "words nobody judges",
        "no rule reads this member of such a line (`JUDGED_WORDS` lists what they do read)",
        _is_unjudged_word,
    ),
    Excuse(
        "said elsewhere",
        "another line says the same: that a driver holds the device, what a finish covers, what the guest believes",
        _line("driver|buffers|functions|bdf|session"),
    ),
    Excuse(
        "another moment",
        "the line is where it was among the lines: a phase begins earlier or later, and nothing that is judged lies "
        "between",
        lambda m: re.fullmatch(_TIME, m.name) is not None and _is_same_order(m),
    ),
    Excuse(
        "refused on the way",
        "a command that was refused is only judged by what came of it: what was preserved, "
        "retrieved, checked and finished has its own reports",
        _line("ok"),
    ),
    Excuse(
        "same words",
        "the same runs of slots in another order; how many slots are bad, and not which; a finish that names no "
        "session, and so is of everything",
        lambda m: (
            (_line("slots", report="check")(m) and m.name == "say in another order")
            or _line("bad", report="check")(m)
            or _line("session")(m)
        ),
    ),
    Excuse(
        "bench's notes",
        "what the bench notes of itself is for people",
        _kinds(Kind.NOTE),
    ),
    Excuse(
        "resets of the making",
        "QEMU resets a function while it makes the machine: no guest is there yet",
        _both(_kinds(Kind.RESET), _at(_is_before_running)),
    ),
    Excuse(
        "gate at the end",
        "the gate closes as the client leaves: nothing that comes after it is judged",
        _both(_kinds(Kind.GATE), _at(_is_after_finished)),
    ),
    Excuse(
        "device's reads",
        "what a device reads changes no memory; its writes are judged, each by its number, and go the same way",
        _kinds(Kind.DMA_READ),
    ),
    Excuse(
        "later said",
        "the host's acknowledgement is marked by itself; what the guest found in its pages may be said at any "
        "later time",
        _both(
            _named("(stamp|move) later", Kind.AGENT),
            _at(lambda s: s.members.get("cmd") == "frozen_ack" or s.members.get("report") == "check"),
        ),
    ),
)


def excuse_of(mutation: Mutation) -> Excuse | None:
    """The first excuse that covers a mutation."""
    return next((excuse for excuse in EXCUSES if excuse.covers(mutation)), None)
