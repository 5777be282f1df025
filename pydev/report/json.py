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
        "rules": [_rule(entry, verdict.started_ns) for entry in verdict.rules],
        "measurements": _measurements(verdict),
        "recording": {"events": verdict.events, "dropped": verdict.dropped, "complete": verdict.complete},
        "kernels": dict(verdict.kernels),
        "updates": verdict.updates,
    }


def _rule(entry: RuleVerdict, started_ns: int) -> dict[str, Any]:
    return {
        "id": entry.rule.id,
        "hazards": list(entry.rule.hazards),
        "outcome": str(entry.result.outcome),
        "required": entry.required,
        "caused_by": entry.result.caused_by,
        "examined": int(entry.result.examined),
        "findings": [_finding(finding, started_ns) for finding in entry.result.findings],
    }


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
        # Attribution to kernel functions needs the TCG plugin's events.
        "function": None,
        "stack": [],
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
