# SPDX-License-Identifier: MIT
"""What a policy made of a verdict, for the text report: failures that it expects, and what it leaves out."""

from collections.abc import Callable, Iterator
from typing import Final

from pydev.continuity.outcome import Finding, Outcome
from pydev.continuity.verifier import RuleVerdict, Verdict
from pydev.report.lines import wrapped

MOST_FINDINGS: Final = 3
"""Of an expected failure: what does not count need not be listed in full. verdict.json has all."""


def expected_failures(verdict: Verdict, quote: Callable[[Finding], str]) -> list[str]:
    """The findings that do not count, each with the reason; `quote` says a finding as the report does."""
    lines = [line for entry in verdict.rules if entry.excused for line in _expected(entry, quote)]
    return [f"expected failures (policy {verdict.policy})", *lines] if lines else []


def _expected(entry: RuleVerdict, quote: Callable[[Finding], str]) -> Iterator[str]:
    word = "XFAIL" if entry.is_expected else "part of FAIL"
    for excused in entry.excused:
        yield from wrapped(f"{word} {entry.rule.id}: {excused.failure.reason}", "  ", "  ")
        for index in excused.findings[:MOST_FINDINGS]:
            yield from wrapped(quote(entry.result.findings[index]), "    ", "  ")
        more = len(excused.findings) - MOST_FINDINGS
        if more > 0:
            yield f"    and {more} more"
    if entry.is_expected and entry.outcome is not Outcome.PASS:
        left = [quote(doubt) for doubt in entry.result.doubts] or list(entry.result.reasons)
        first = left[0] if left else "nothing else was examined"
        yield from wrapped(f"what is left of {entry.rule.id} is {entry.outcome}: {first}", "    ", "  ")


def left_out(verdict: Verdict) -> list[str]:
    """What this policy does not judge, what it names and is not there, what it expects and did not come."""
    lines: list[str] = []
    if verdict.off:
        lines += wrapped("off: " + ", ".join(rule.id for rule in verdict.off), "  ", "     ")
    for rule_id, text in verdict.unmatched:
        lines += wrapped(f"not in this recording: {text}, which the policy names for {rule_id}", "  ", "  ")
    for failure in verdict.needless:
        what = f"{', '.join(failure.rules)}{failure.scope}"
        lines += wrapped(f"did not fail as expected, no longer needed? {what}: {failure.reason}", "  ", "  ")
    return [f"policy {verdict.policy}", *lines] if lines else []
