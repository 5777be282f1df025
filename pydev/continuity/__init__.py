# SPDX-License-Identifier: MIT
"""Judges a timeline: rules, policies, expectations, verdicts. `catalogue.rules()` lists the rules.

A rule of one's own needs `Rule`, `Evidence`, `Judgement`, `Finding`, `Result`, `watch`, `transition` and `known`.
"""

from pydev.continuity.evidence import Evidence as Evidence
from pydev.continuity.evidence import transition as transition
from pydev.continuity.evidence import watch as watch
from pydev.continuity.expectation import Expectation as Expectation
from pydev.continuity.manual import explain_rule as explain_rule
from pydev.continuity.manual import rules_json as rules_json
from pydev.continuity.manual import rules_table as rules_table
from pydev.continuity.outcome import Finding as Finding
from pydev.continuity.outcome import Judgement as Judgement
from pydev.continuity.outcome import Outcome as Outcome
from pydev.continuity.outcome import Result as Result
from pydev.continuity.policy import Policy as Policy
from pydev.continuity.policy_file import load_policy as load_policy
from pydev.continuity.policy_file import policies as policies
from pydev.continuity.policy_page import policy_json as policy_json
from pydev.continuity.policy_page import policy_page as policy_page
from pydev.continuity.rule import Rule as Rule
from pydev.continuity.verifier import RuleVerdict as RuleVerdict
from pydev.continuity.verifier import Verdict as Verdict
from pydev.continuity.verifier import verify as verify
from pydev.recording.config import known as known
from pydev.recording.timeline import Timeline as Timeline
from pydev.recording.timeline import load_timeline as load_timeline
