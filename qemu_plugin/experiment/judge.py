# SPDX-License-Identifier: MIT
"""From a run's directory to its verdict: at the end of a run, and again at any later time, without QEMU."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydev.continuity import Expectation, Timeline, Verdict, load_policy, load_timeline, verify
from pydev.continuity.policy_text import flattened
from pydev.errors import PolicyError, RecordingError
from pydev.report import render_text, verdict_json
from qemu_plugin.errors import UsageError
from qemu_plugin.experiment.rundir import RunDirectory
from qemu_plugin.experiment.spec import Expect, Experiment, parse

EXIT_AS_EXPECTED = 0
EXIT_NOT_AS_EXPECTED = 1
EXIT_UNDECIDED = 4


def judge_run(run: RunDirectory, experiment: Experiment, *, started_ns: int) -> Verdict:
    """Judge a run that has just ended, and write `verdict.json` and `report.txt` beside its recording.

    `started_ns` is the CLOCK_MONOTONIC ns of QEMU's start, for the time from start to verdict.
    """
    timeline = load_timeline(run.recording)
    verdict = _verify(timeline, experiment, _policy_of(run, timeline, experiment))
    seconds = (time.monotonic_ns() - started_ns) / 1e9
    verdict = verdict.with_start_to_verdict(round(seconds, 3))
    run.verdict.write_text(as_json(verdict) + "\n", encoding="utf-8")
    run.report.write_text(render_text(timeline, verdict), encoding="utf-8")
    return verdict


def judge_again(run: RunDirectory, policy: str | None = None) -> tuple[Timeline, Verdict]:
    """Judge a run's recording again, by the policy that it was judged by or another.

    The time from start to verdict is the first judgement's, as that is not in the recording. UsageError
    where the recording cannot be read.
    """
    experiment = parse(_text(run.experiment), str(run.experiment))
    try:
        timeline = load_timeline(run.recording)
        verdict = _verify(timeline, experiment, policy or _policy_of(run, timeline, experiment))
    except RecordingError as error:
        raise UsageError(f"{run.recording}: {error}") from error
    return timeline, verdict.with_start_to_verdict(_measured_before(run))


def check(experiment: Experiment) -> None:
    """UsageError, before anything runs, where the experiment's policy or expectation names what is not there."""
    try:
        policy = load_policy(experiment.policy)
        expectation(experiment.expect, [rule.id for rule in policy.user_rules])
    except PolicyError as error:
        raise UsageError(str(error)) from error


def keep_policy(run: RunDirectory, name: str | Path) -> None:
    """Copy a user's policy, and the files of rules that it names, into the run's directory.

    A policy that comes with this project is found by its name at any later time. UsageError where it cannot
    be read.
    """
    try:
        policy = load_policy(name)
    except PolicyError as error:
        raise UsageError(str(error)) from error
    if policy.path is None:
        run.policy.unlink(missing_ok=True)  # of a run that did not get as far as a recording
        return
    text, rules = flattened(policy)
    run.policy.parent.mkdir(exist_ok=True)
    run.policy.write_text(text, encoding="utf-8")
    for file, source in rules.items():
        (run.policy.parent / file).write_text(source, encoding="utf-8")


def _verify(timeline: Timeline, experiment: Experiment, name: str | Path) -> Verdict:
    try:
        policy = load_policy(name)
        # What an experiment may expect was checked before it ran; another policy need not know those rules.
        return verify(timeline, policy, expectation(experiment.expect, experiment.expect.failing_rules))
    except PolicyError as error:
        raise UsageError(str(error)) from error


def expectation(expect: Expect, user_rules: Sequence[str]) -> Expectation:
    """The verifier's form of an experiment's `[expect]`, which may name a policy's own rules."""
    return Expectation(
        user_rules=tuple(user_rules),
        outcome=expect.outcome,
        failing_rules=tuple(expect.failing_rules),
        guest=expect.guest,
        errno=expect.errno,
        console=tuple(expect.console),
    )


def as_json(verdict: Verdict) -> str:
    """`verdict.json`: design's schema, readable and stable."""
    return json.dumps(verdict_json(verdict), indent=1)


def exit_status(verdict: Verdict) -> int:
    """0 as expected, 1 judged and not as expected, 4 VACUOUS or UNKNOWN that nobody expected."""
    if verdict.as_expected:
        return EXIT_AS_EXPECTED
    return EXIT_UNDECIDED if verdict.outcome in ("VACUOUS", "UNKNOWN") else EXIT_NOT_AS_EXPECTED


def _policy_of(run: RunDirectory, timeline: Timeline, experiment: Experiment) -> str | Path:
    """The policy that the run was judged by: its own copy, else by name.

    Its command line may have named another than its experiment does.
    """
    if run.policy.is_file():
        return run.policy
    recorded = timeline.header.get("experiment", {}).get("policy")
    return recorded if isinstance(recorded, str) else experiment.policy


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _measured_before(run: RunDirectory) -> float | None:
    try:
        document: Any = json.loads(run.verdict.read_text(encoding="utf-8"))
        value = document["measurements"]["start_to_verdict_s"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) else None
