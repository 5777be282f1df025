# SPDX-License-Identifier: MIT
"""`verdict.json`, to the letter of the design. Times are ns (CLOCK_MONOTONIC) since the recording began."""

from typing import Any

from pydev.continuity.outcome import Finding
from pydev.continuity.verifier import RuleVerdict, Verdict
from pydev.units import bdf_text

SCHEMA = 1


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON-able data. `start_to_verdict_s` is null where nobody measured it."""
    return {
        "luscope": SCHEMA,
        "outcome": str(verdict.outcome),
        "expected": verdict.expectation.describe(),
        "as_expected": verdict.as_expected,
        "guest": verdict.guest,
        "rules": [_rule(verdict, entry) for entry in verdict.rules],
        "measurements": _measurements(verdict),
        "recording": {"events": verdict.events, "dropped": verdict.dropped, "complete": verdict.complete},
        "kernels": dict(verdict.kernels),
        "updates": verdict.updates,
    }


def _rule(verdict: Verdict, entry: RuleVerdict) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": entry.rule.id,
        "hazards": list(entry.rule.hazards),
        "outcome": str(entry.outcome),
        "required": entry.required,
        "caused_by": entry.result.caused_by,
        "examined": int(entry.result.examined),
        "findings": [_finding(finding, verdict.started_ns) for finding in entry.result.findings],
    }
    if entry.excused:
        # Only where the policy expects something: `outcome` is what is left of it and counts, `judged` what the
        # rule says, `expected` whether all of that is excused; each reason has the indexes of its findings.
        described["judged"] = str(entry.result.outcome)
        described["expected"] = entry.is_expected
        described["excused"] = [
            {"reason": one.failure.reason, "findings": list(one.findings)} for one in entry.excused
        ]
    unused = [failure.reason for failure in verdict.needless if entry.rule.id in failure.rules]
    if unused:
        described["unused_exceptions"] = unused
    return described


def _finding(finding: Finding, started_ns: int) -> dict[str, Any]:
    return {
        "t_ns": None if finding.t_ns is None else finding.t_ns - started_ns,
        "phase": finding.phase,
        "bdf": None if finding.bdf is None else bdf_text(finding.bdf),
        "register": finding.register,
        "field": finding.field,
        "width": finding.width,
        "before": finding.before,
        "after": finding.after,
        "function": finding.function,
        "stack": list(finding.stack),
        "message": finding.message,
    }


def _measurements(verdict: Verdict) -> dict[str, Any]:
    names = (
        "blackout_ns", "dma_gap_max_ns", "bench_lateness_max_ns", "dma_transactions", "dma_blocked",
        "dma_misdirected", "config_writes", "msi_raised", "msi_delivered", "msi_lost", "msi_after_finish",
    )  # fmt: skip
    measured = verdict.measurements
    figures: dict[str, Any] = {n: None if measured is None else int(getattr(measured, n)) for n in names}
    return figures | {"start_to_verdict_s": verdict.start_to_verdict_s}
