# SPDX-License-Identifier: MIT
"""A run has a directory of its own, and never takes another's."""

from pathlib import Path

import pytest

from qemu_plugin.errors import UsageError
from qemu_plugin.experiment import rundir


def test_two_runs_of_one_name_in_one_second_get_two_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rundir.create("x", None).path != rundir.create("x", None).path


def test_a_directory_that_holds_a_recording_is_refused(tmp_path: Path) -> None:
    rundir.create("x", tmp_path / "run").recording.touch()
    with pytest.raises(UsageError, match="already holds a recording"):
        rundir.create("x", tmp_path / "run")


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        rundir.create("x", tmp_path / "file" / "run")


def test_a_run_is_opened_by_its_directory_or_its_recording(tmp_path: Path) -> None:
    run = rundir.create("x", tmp_path / "run")
    run.recording.touch()
    assert rundir.opened(run.path) == rundir.opened(run.recording) == run


def test_where_no_run_is_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run is here"):
        rundir.opened(tmp_path)
