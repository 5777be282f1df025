# SPDX-License-Identifier: MIT
"""The command line prints what it is asked for, and one line with the right status for what is wrong."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pydev.testkit.story import Story
from qemu_plugin.cli import cli
from qemu_plugin.experiment import spec


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
            "id", "title", "hazards", "severity", "why", "acceptable", "source", "planted_fault"
        }  # fmt: skip


def test_a_rule_is_explained_and_an_unknown_one_is_not() -> None:
    assert "Bus Master Enable" in run("rules", "explain", "BME-ENDPOINT").stdout
    result = run("rules", "explain", "BME-ENDPINT")
    assert result.exit_code == 2
    assert "BME-ENDPOINT" in result.stderr


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
