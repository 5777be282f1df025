# SPDX-License-Identifier: MIT
import os
import signal
import time
from pathlib import Path

import pytest

from guest_images.command import CommandError, capture, run
from guest_images.testkit import RememberingProgress


def test_both_streams_are_shown_logged_and_returned_in_order(
    tmp_path: Path, progress: RememberingProgress
) -> None:
    log = tmp_path / "logs" / "log"
    script = "echo out; echo err >&2; echo $WORD $LC_ALL; pwd"
    lines = run(["sh", "-c", script], progress, cwd=tmp_path, env={"WORD": "w"}, log=log)
    assert lines == progress.lines == ["out", "err", "w C", str(tmp_path)]
    assert log.read_text().splitlines()[1:] == lines


def test_a_failure_carries_its_status_its_last_lines_and_where_the_log_is(
    tmp_path: Path, progress: RememberingProgress
) -> None:
    log = tmp_path / "log"
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "seq 100; echo the reason; exit 3"], progress, log=log)
    assert caught.value.status == 3
    assert len(caught.value.lines) == 40
    assert caught.value.lines[-1] == "the reason"
    assert "the reason" in str(caught.value)
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert log.read_text().count("\n") == 102


def test_a_program_that_is_not_there_is_named(progress: RememberingProgress) -> None:
    for start in (lambda: run(["no-such-program"], progress), lambda: capture(["no-such-program"])):
        with pytest.raises(CommandError, match="no-such-program") as caught:
            start()
        assert caught.value.status == 127


def test_output_that_is_not_text_does_no_harm(progress: RememberingProgress) -> None:
    assert len(run(["sh", "-c", r"printf '\377\376\n'"], progress)) == 1


def test_a_program_and_its_children_end_with_the_wait_for_them(tmp_path: Path) -> None:
    class Interrupting(RememberingProgress):
        def output(self, line: str) -> None:
            super().output(line)
            raise KeyboardInterrupt

    progress = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", "sleep 600 & echo $!; wait"], progress)
    child = int(progress.lines[0])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return  # ended; whoever adopted it has not asked for its status yet
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its program's interruption by 10 s")


def test_captured_output_leaves_out_the_other_stream_and_the_last_newline() -> None:
    assert capture(["sh", "-c", "echo one; echo two; echo aside >&2"]) == "one\ntwo"
    with pytest.raises(CommandError, match="aside"):
        capture(["sh", "-c", "echo one; echo aside >&2; exit 1"])


def test_the_environment_is_added_to_and_taken_from(
    progress: RememberingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("TAKEN", "taken")
    script = 'echo "$KEPT ${TAKEN-nothing} $ADDED"'
    assert run(["sh", "-c", script], progress, env={"TAKEN": None, "ADDED": "added"}) == [
        "kept nothing added"
    ]
