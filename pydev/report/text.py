# SPDX-License-Identifier: MIT
"""`report.txt`: a verdict that can be quoted in a mail to a kernel list. No line is wider than 78 columns."""

from collections.abc import Iterator
from typing import Final

from pydev.continuity.outcome import Finding, Outcome
from pydev.continuity.verifier import RuleVerdict, Verdict
from pydev.recording.functions import FunctionEntry
from pydev.recording.timeline import Timeline
from pydev.report.authors import call_path, no_attribution
from pydev.report.lines import COLUMNS, moment, wrapped
from pydev.report.policy import expected_failures, left_out
from pydev.report.questions import questions
from pydev.units import bdf_text

MOST_FINDINGS: Final = 20
_ORDER: Final = (Outcome.FAIL, Outcome.UNKNOWN, Outcome.VACUOUS, Outcome.PASS)


def render_text(timeline: Timeline, verdict: Verdict) -> str:
    """The report, with a newline at its end. Times are relative to the first `frozen`, if there is one."""
    sections = [
        _head(timeline, verdict),
        _tree(timeline),
        _phases(timeline),
        _verdict(verdict),
        *(_failed(timeline, entry) for entry in verdict.rules if entry.outcome is Outcome.FAIL),
        _gaps(timeline, verdict),
        expected_failures(verdict, lambda finding: _finding(timeline, finding)),
        _others(timeline, verdict),
        left_out(verdict),
        _measurements(verdict),
        questions(timeline),
    ]
    lines = [line for section in sections for line in (*section, "")]
    return "\n".join(_squeezed(lines)).rstrip("\n") + "\n"


def _squeezed(lines: list[str]) -> Iterator[str]:
    """Without two empty lines in a row."""
    previous = ""
    for line in lines:
        if line or previous:
            yield line
        previous = line


def _head(timeline: Timeline, verdict: Verdict) -> list[str]:
    experiment = timeline.header.get("experiment")
    experiment = experiment if isinstance(experiment, dict) else {}
    kernels = verdict.kernels
    lines = [f"luscope {timeline.header.get('luscope', '?')}: {experiment.get('name', 'a recording')}"]
    if experiment.get("description"):
        lines += wrapped(str(experiment["description"]), "  ", "")
    lines += wrapped(f"kernel    {kernels['outgoing'] or '?'} -> {kernels['incoming'] or '?'}", "", " " * 10)
    for name, text in (("qemu", _qemu(timeline)), ("authors", no_attribution(timeline))):
        lines += wrapped(f"{name:<9} {text}", "", " " * 10) if text else []
    return lines


def _qemu(timeline: Timeline) -> str:
    qemu = timeline.header.get("qemu") or timeline.trailer.get("qemu")
    if isinstance(qemu, dict):
        return " ".join(str(qemu[key]) for key in ("version", "package") if qemu.get(key))
    return str(qemu or "")


def _tree(timeline: Timeline) -> list[str]:
    """The topology, with the BDFs that hold when the guest is frozen."""
    at_ns = timeline.blackouts[0].begin.t_ns if timeline.blackouts else timeline.guest_end_ns
    children: dict[int | None, list[FunctionEntry]] = {}
    for function in timeline.functions:
        children.setdefault(function.parent, []).append(function)
    lines: list[str] = []

    def put(function: FunctionEntry, depth: int) -> None:
        bdf = timeline.bdf_at(function.index, at_ns)
        what = function.model or function.role.replace("_", " ")
        kept = ", preserved" if function.preserve else ""
        lines.append(
            f"{'  ' * depth}{'??:??.?' if bdf is None else bdf_text(bdf)} {function.id} ({what}{kept})"
        )
        for child in sorted(children.get(function.index, []), key=lambda f: f.devfn):
            put(child, depth + 1)

    for root in sorted(children.get(None, []), key=lambda f: f.devfn):
        put(root, 0)
    return ["topology", *(f"  {line}"[:COLUMNS] for line in lines)]


def _phases(timeline: Timeline) -> list[str]:
    reference = "frozen" if timeline.blackouts else "the recording's start"
    lines = [f"phases (times are relative to {reference})"]
    for phase in timeline.phases:
        inexact = f" (±{phase.uncertainty_ns / 1e6:.3f} ms)" if phase.uncertainty_ns else ""
        number = f" #{phase.update + 1}" if len(timeline.blackouts) > 1 else ""
        text = f"{moment(timeline, phase.t_ns):>16}  {phase.name + number:<12} {phase.source}{inexact}"
        lines += wrapped(text, "", " " * 31) if len(text) > COLUMNS else [text]
    return lines


def _verdict(verdict: Verdict) -> list[str]:
    expected = "as expected" if verdict.as_expected else "NOT as expected"
    text = f"verdict: {verdict.outcome} ({expected}); guest {verdict.guest}; policy {verdict.policy}"
    lines = wrapped(text)
    if verdict.failing_rules:
        lines += wrapped("failed: " + ", ".join(verdict.failing_rules))
    if verdict.expected_rules:
        lines += wrapped("failed as the policy expects: " + ", ".join(verdict.expected_rules))
    wanted = verdict.expectation
    if not verdict.as_expected:
        rules = ", ".join(wanted.failing_rules) or "none"
        also = f", errno {wanted.errno}" if wanted.errno is not None else ""
        lines += wrapped(f"expected: {wanted.outcome}, guest {wanted.guest}{also}, failing rules: {rules}")
    return lines


def _failed(timeline: Timeline, entry: RuleVerdict) -> list[str]:
    cause = f" (caused by {entry.result.caused_by})" if entry.result.caused_by else ""
    lines = wrapped(f"FAIL {entry.rule.id}: {entry.rule.title}{cause}", "", "     ")
    excused = entry.excused_findings
    counting = [f for index, f in enumerate(entry.result.findings) if index not in excused]
    for finding in counting[:MOST_FINDINGS]:
        lines += wrapped(_finding(timeline, finding), "  ", "    ")
        if finding.stack:
            lines += wrapped(call_path(finding.stack), "    ", "  ")
    more = len(counting) - MOST_FINDINGS
    if more > 0:
        lines.append(f"  and {more} more")
    hazards = ", ".join(str(number) for number in entry.rule.hazards)
    numbers = f" [hazard {hazards}]" if hazards else ""
    lines += wrapped(f"why: {entry.rule.why}{numbers}", "  ", "  ")
    return lines + wrapped(f"source: {entry.rule.source}", "  ", "  ")


def _finding(timeline: Timeline, finding: Finding) -> str:
    """`+12.345 ms shutdown 03:00.0 COMMAND.bus_master 1 -> 0`, or the message where it is no register's."""
    when = [] if finding.t_ns is None else [moment(timeline, finding.t_ns)]
    if finding.phase:
        when.append(finding.phase)
    if finding.register is None or finding.bdf is None or finding.t_ns is None:
        return " ".join([*when, finding.message])
    change, separator, note = finding.message.partition(" at ")
    if not separator:
        return " ".join([*when, finding.message])
    width = f" ({finding.width} byte{'s' if finding.width != 1 else ''})" if finding.width else ""
    remark = note.partition(", by ")[2] or note.partition(" (")[2].rstrip(")")
    tail = f" [{remark}]" if remark else ""
    raw = _raw(finding)
    return " ".join([*when, bdf_text(finding.bdf), change]) + f"{raw}{width}{tail}"


def _raw(finding: Finding) -> str:
    if finding.field is None or finding.before is None or finding.after is None:
        return ""
    return f", {finding.register} {finding.before:#x} -> {finding.after:#x}"


def _gaps(timeline: Timeline, verdict: Verdict) -> list[str]:
    if verdict.measurements is None or not verdict.measurements.gaps:
        return []
    lines = ["longest time without DMA"]
    for gap in verdict.measurements.gaps:
        begin, end = (moment(timeline, t) for t in (gap.begin_ns, gap.end_ns))
        length = (gap.end_ns - gap.begin_ns) / 1e6
        text = f"{gap.endpoint}: {length:.3f} ms, from {begin} to {end}, {gap.blocked} transactions refused"
        lines += wrapped(text, "  ")
    return lines


def _others(timeline: Timeline, verdict: Verdict) -> list[str]:
    lines: list[str] = []
    for outcome in _ORDER[1:]:
        for entry in verdict.rules:
            if entry.outcome is outcome and not entry.is_expected:
                lines += _other(timeline, entry)
    return ["other rules", *lines] if lines else []


def _other(timeline: Timeline, entry: RuleVerdict) -> list[str]:
    result = entry.result
    if result.outcome is Outcome.PASS:
        return [f"  {'PASS':<7} {entry.rule.id:<16} {result.examined} examined"]
    reasons = [_finding(timeline, finding) for finding in result.findings] or list(result.reasons)
    optional = "" if entry.counts else " (optional: does not count)"
    first = reasons[0] if reasons else "nothing to examine"
    lines = wrapped(f"{result.outcome!s:<7} {entry.rule.id:<16} {first}{optional}", "  ", " " * 25)
    most = MOST_FINDINGS if entry.counts else 1
    for reason in reasons[1:most]:
        lines += wrapped(reason, " " * 27, "")
    if len(reasons) > most:
        lines.append(" " * 27 + f"and {len(reasons) - most} more")
    return lines


def _measurements(verdict: Verdict) -> list[str]:
    measured = verdict.measurements
    if measured is None:
        return ["measurements: none, measuring failed"]
    rows = [
        ("blackout", f"{measured.blackout_ns / 1e6:.3f} ms"),
        ("DMA gap, longest", f"{measured.dma_gap_max_ns / 1e6:.3f} ms"),
        ("bench lateness, worst", f"{measured.bench_lateness_max_ns / 1e6:.3f} ms"),
        (
            "DMA",
            (
                f"{measured.dma_transactions} transactions, {measured.dma_blocked} refused, "
                f"{measured.dma_misdirected} misdirected"
            ),
        ),
        ("config writes", str(measured.config_writes)),
        (
            "MSI",
            (
                f"{measured.msi_raised} raised, {measured.msi_delivered} delivered, "
                f"{measured.msi_lost} lost, {measured.msi_after_finish} after finish"
            ),
        ),
        (
            "recording",
            (
                f"{verdict.events} events, {verdict.dropped} dropped, "
                f"{'complete' if verdict.complete else 'NOT complete'}"
            ),
        ),
        ("updates", str(verdict.updates)),
    ]
    if verdict.start_to_verdict_s is not None:
        rows.append(("start to verdict", f"{verdict.start_to_verdict_s:.1f} s"))
    lines = ["measurements"]
    for name, value in rows:
        lines += wrapped(f"{name:<22} {value}", "  ", " " * 23)
    return lines
