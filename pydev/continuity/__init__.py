# SPDX-License-Identifier: MIT
"""Judges a timeline: rules, policies, expectations, verdicts. `catalogue.rules()` lists the rules."""

from pydev.continuity.catalogue import explain_rule as explain_rule
from pydev.continuity.catalogue import rules_json as rules_json
from pydev.continuity.expectation import Expectation as Expectation
from pydev.continuity.outcome import Finding as Finding
from pydev.continuity.outcome import Outcome as Outcome
from pydev.continuity.outcome import Result as Result
from pydev.continuity.policy import Policy as Policy
from pydev.continuity.policy import load_policy as load_policy
from pydev.continuity.policy import policies as policies
from pydev.continuity.rule import Rule as Rule
from pydev.continuity.verifier import RuleVerdict as RuleVerdict
from pydev.continuity.verifier import Verdict as Verdict
from pydev.continuity.verifier import verify as verify
from pydev.recording.timeline import Timeline as Timeline
from pydev.recording.timeline import load_timeline as load_timeline
