# SPDX-License-Identifier: MIT
"""The command line prints what it is asked for, and one line with the right status for what is wrong."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pydev.testkit.story import Story
from qemu_plugin.cli import cli
from qemu_plugin.experiment import judge, rundir, spec


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def recorded(folder: Path, story: Story, expect: str = "") -> Path:
    """A run's directory with a synthetic recording in it."""
    folder.mkdir()
    story.save(folder / "recording.lus")
    (folder / "experiment.toml").write_text('[[endpoint]]\nid = "ep0"\nport = "dn1"\n' + expect)
    return folder


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert cli.commands[command].get_short_help_str(), command


def test_every_option_of_every_command_has_a_sentence() -> None:
    for command in cli.commands.values():
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in ("help", "form"):
                assert option.help, f"{command.name} {option.name}"


def test_the_rules_for_programs_say_everything_about_each() -> None:
    document = json.loads(run("rules", "--json").stdout)
    assert {rule["id"] for rule in document["rules"]} >= {"BME-ENDPOINT", "DMA-CONTINUITY", "RECORD-COMPLETE"}
    for rule in document["rules"]:
        assert set(rule) == {
            "id", "title", "hazards", "severity", "why", "acceptable", "source", "planted_fault", "registers",
            "writers", "policies",
        }  # fmt: skip
    assert set(document) == {"rules", "not_observable"}


def test_a_rule_is_explained_and_an_unknown_one_is_not() -> None:
    assert "Bus Master Enable" in run("rules", "explain", "BME-ENDPOINT").stdout
    result = run("rules", "explain", "BME-ENDPINT")
    assert result.exit_code == 2
    assert "BME-ENDPOINT" in result.stderr


def test_the_rules_are_a_table_that_fits_a_terminal() -> None:
    lines = run("rules").stdout.splitlines()
    assert max(map(len, lines)) <= 78
    ids = {rule["id"] for rule in json.loads(run("rules", "--json").stdout)["rules"]}
    assert ids <= {line.split(" ", 1)[0] for line in lines}
    assert "hazards that cannot show on this wire" in lines


def test_policies_are_listed_and_shown() -> None:
    listed = run("policies").stdout
    assert all(name in listed for name in ("conservative", "series", "strict", "p2p", "ats", "iommu"))
    shown = run("policies", "show", "p2p")
    assert (shown.exit_code, "extends series" in shown.stdout) == (0, True)
    assert [policy["name"] for policy in json.loads(run("policies", "--json").stdout)] == sorted(
        line.split()[0] for line in listed.splitlines()
    )
    assert json.loads(run("policies", "show", "series", "--json").stdout)["exceptions"]
    wrong = run("policies", "show", "serious")
    assert (wrong.exit_code, "did you mean 'series'" in wrong.stderr) == (2, True)


OWN_RULES = """
from pydev.continuity import Finding, Judgement, Rule


def judge(evidence):
    judgement = Judgement()
    judgement.examined = 1
    judgement.fail(Finding("nobody likes it"))
    return judgement.result()


RULES = (
    Rule(id="MINE", title="it is liked", hazards=(), severity="H", why="w", acceptable="a", source="s",
         planted_fault="p", judge=judge),
)
"""


def own_policy(folder: Path, text: str = "") -> Path:
    """A policy of the user's, with a rule of theirs that fails."""
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(OWN_RULES)
    policy = folder / "own.toml"
    policy.write_text('extends = "series"\nrules = ["own.py"]\n' + text)
    return policy


def test_a_users_policy_judges_and_its_rule_is_explained(tmp_path: Path) -> None:
    policy = own_policy(tmp_path / "home")
    result = run("verify", recorded(tmp_path / "run", Story()), "--policy", policy)
    assert result.exit_code == 1
    assert "failed: MINE" in result.stdout
    assert "it is liked" in run("rules", "explain", "mine", "--policy", policy).stdout
    assert "it is liked" in run("rules", "--policy", policy, "explain", "MINE").stdout
    assert run("rules", "explain", "MINE").exit_code == 2


def test_a_run_keeps_the_users_policy_and_is_judged_by_it_elsewhere_and_later(tmp_path: Path) -> None:
    policy = own_policy(tmp_path / "home")
    expect = '[expect]\noutcome = "FAIL"\nfailing_rules = ["MINE"]\n'
    folder = recorded(tmp_path / "run", Story(), expect)
    judge.keep_policy(rundir.opened(folder), policy)
    for file in (tmp_path / "home").iterdir():
        file.unlink()
    moved = folder.rename(tmp_path / "moved")
    result = run("verify", moved)
    assert (result.exit_code, "policy own" in result.stdout) == (0, True)
    other = run("verify", moved, "--policy", "series")
    assert (other.exit_code, "Traceback" in other.stderr) == (1, False)


def test_a_runs_directory_that_is_used_again_forgets_another_runs_policy(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", Story())
    judge.keep_policy(rundir.opened(folder), own_policy(tmp_path / "home"))
    judge.keep_policy(rundir.opened(folder), "series")
    assert "policy series" in run("verify", folder).stdout


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("RULES = (", "own.py:1: "),
        ("raise SystemExit(0)", "own.py:1: SystemExit"),
        ("RULES = 3", "RULES has to be a tuple of Rule"),
    ],
)
def test_a_mistake_in_a_users_rules_is_status_2_and_one_line(tmp_path: Path, rules: str, said: str) -> None:
    policy = own_policy(tmp_path / "home")
    (tmp_path / "home" / "own.py").write_text(rules)
    result = run("verify", recorded(tmp_path / "run", Story()), "--policy", policy)
    assert (result.exit_code, said in result.stderr, len(result.stderr.splitlines())) == (2, True, 1)


@pytest.mark.parametrize("crash", ["1 / 0", "raise SystemExit(0)", "return None"])
def test_a_users_rule_that_crashes_is_unknown_and_no_traceback(tmp_path: Path, crash: str) -> None:
    policy = own_policy(tmp_path / "home")
    (tmp_path / "home" / "own.py").write_text(
        OWN_RULES.replace("    judgement = Judgement()\n", f"    {crash}\n    judgement = Judgement()\n")
    )
    result = run("verify", recorded(tmp_path / "run", Story()), "--policy", policy)
    assert (result.exit_code, "Traceback" in result.stderr) == (4, False)


def test_an_experiments_policy_is_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = own_policy(tmp_path / "home")
    experiment = tmp_path / "home" / "experiment.toml"
    experiment.write_text('policy = "own.toml"\n[[endpoint]]\nid = "ep0"\nport = "dn1"\n')
    monkeypatch.chdir(tmp_path)
    assert Path(spec.load(str(experiment)).policy) == policy
    judge.check(spec.load(str(experiment)))


def test_endpoints_and_experiments_are_listed() -> None:
    assert "stream" in run("endpoints").stdout
    listed = run("experiments").stdout
    assert all(name in listed for name in spec.shipped())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "nothing-such"), "no experiment is called"),
        (("verify", "."), "no run is here"),
        (("report", "."), "no run is here"),
        (("serve", "nothing-such", "--socket", "/nowhere/x.sock"), "nothing-such"),
        (("serve", "stream"), "--socket"),
    ],
)
def test_the_users_mistake_is_status_2_and_no_traceback(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_clean_record_verifies_as_a_pass(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", Story())
    result = run("verify", folder, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["outcome"], document["as_expected"]) == (0, "PASS", True)


def test_a_clean_record_that_was_expected_to_fail_is_status_1(tmp_path: Path) -> None:
    expect = '[expect]\noutcome = "FAIL"\nfailing_rules = ["BME-ENDPOINT"]\n'
    assert run("verify", recorded(tmp_path / "run", Story(), expect)).exit_code == 1


def test_a_record_without_its_trailer_is_status_4_and_skipped_by_bisect(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", Story())
    recording = folder / "recording.lus"
    recording.write_bytes(recording.read_bytes()[: -4096 if recording.stat().st_size > 8192 else -1])
    assert run("verify", folder).exit_code == 4
    assert run("verify", folder, "--bisect").exit_code == 125


def test_what_is_no_recording_is_status_2(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", Story())
    (folder / "recording.lus").write_bytes(b"not a recording")
    result = run("verify", folder)
    assert result.exit_code == 2
    assert "recording.lus" in result.stderr


def test_a_report_goes_to_a_file_as_it_would_go_to_the_terminal(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", Story())
    shown = run("report", folder).stdout
    assert run("report", folder, "-o", tmp_path / "report.txt").exit_code == 0
    assert (tmp_path / "report.txt").read_text() == shown
    assert max(len(line) for line in shown.splitlines()) <= 78
