# SPDX-License-Identifier: MIT
"""What the kernel believes against what the hardware holds: each state report, with what differs marked."""

from collections.abc import Iterator

from pydev.continuity.beliefs import Belief, Resource, StateReport
from pydev.continuity.comparison import Comparison, compare
from pydev.continuity.evidence import Evidence
from pydev.recording.config import field_values
from pydev.report.lines import by, moment, name, wrapped

MARK = "!!"


def told(
    evidence: Evidence, report: StateReport, indexes: list[int], before: dict[int, str]
) -> Iterator[str]:
    """One report: how much agrees, what each function of `indexes` is believed to be, and every difference.

    What is as in `before`, the report before this one, is not said again; `before` is brought up to date.
    """
    timeline = evidence.timeline
    phase = timeline.phase_at(report.t_ns) or "before the first phase"
    compared = {belief.function.index: compare(evidence, belief) for belief in report.beliefs}
    count = sum(len(comparisons) for comparisons in compared.values())
    wrong = sum(not one.agrees for comparisons in compared.values() for one in comparisons)
    kernel = "the outgoing kernel" if not _is_incoming(evidence, report) else "the incoming kernel"
    said = f"{count} registers compared, {f'{wrong} of them not' if wrong else 'all'} as believed"
    yield from wrapped(f"{moment(timeline, report.t_ns)} {phase}, {kernel}: {said}", "  ", "    ")
    if report.damage is not None:
        yield from wrapped(f"{MARK} the report cannot be read: {report.damage}", "    ")
    known = {belief.function.index: belief for belief in report.beliefs}
    for index in indexes:
        words = _believed(evidence, known[index]) if index in known else None
        if words is not None and before.get(index) != words:
            before[index] = words
            yield from wrapped(words, "    ")
    for index, comparisons in compared.items():
        for one in comparisons:
            if not one.agrees:
                yield from wrapped(_difference(evidence, known[index], one), "    ")


def _is_incoming(evidence: Evidence, report: StateReport) -> bool:
    hellos = [m for m in evidence.timeline.messages if m.members.get("event") == "hello"]
    latest = [m for m in hellos if m.t_ns <= report.t_ns]
    return bool(latest) and latest[-1].members.get("incoming") is True


def _believed(evidence: Evidence, belief: Belief) -> str:
    """A function in one sentence."""
    words = [belief.driver or "no driver"]
    if belief.enable_count is not None:
        is_master = not belief.enable_count and _is_master(evidence, belief)
        words.append(f"enable count {belief.enable_count}{', though it is bus master' if is_master else ''}")
    words.append(belief.power or "power state not told")
    words += [_interrupts(belief)]
    words += [f"BAR{r.index} {r.address:#x}" for r in belief.resources if _is_bar(r)]
    if belief.secondary is not None:
        words.append(f"bus {belief.secondary:02x} below")
    words += [f"window {r.address:#x}-{r.last:#x}" for r in belief.resources if _is_window(r)]
    return f"{name(evidence.timeline, belief.function, belief.t_ns)}: {', '.join(words)}"


def _is_master(evidence: Evidence, belief: Belief) -> bool:
    history = evidence.timeline.history(belief.function.index, "COMMAND")
    entry = None if history is None else history.register.fields.get("bus_master")
    if history is None or entry is None:
        return False
    return field_values(history.at(belief.t_ns), entry) == {1}


def _is_bar(resource: Resource) -> bool:
    return resource.index < 6 and resource.is_assigned


def _is_window(resource: Resource) -> bool:
    return resource.index > 6 and resource.is_assigned


def _interrupts(belief: Belief) -> str:
    for what, numbers in (("MSI-X", belief.msix), ("MSI", belief.msi)):
        if numbers:
            return f"{what} as IRQ {', '.join(map(str, numbers))}"
    return f"INTx as IRQ {belief.irq}" if belief.irq else "no interrupt set up"


def _difference(evidence: Evidence, belief: Belief, one: Comparison) -> str:
    timeline = evidence.timeline
    where = name(timeline, one.function, belief.t_ns)
    if belief.is_absent:
        return f"{MARK} {where} is there, and the kernel knows no such function"
    since = "" if one.change is None else f", since {moment(timeline, one.change.t_ns)}{by(one.change)}"
    return f"{MARK} {where} {one.name} holds {one.held}{since}; the kernel believes {one.believed}"
