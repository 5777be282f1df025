# SPDX-License-Identifier: MIT
import io
import subprocess
import sys

import pytest
from rich.console import Console

from guest_images.progress import PlainProgress, TerminalProgress


def test_plain_progress_prints_steps_and_ends_and_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.step("building")
    for n in range(10):
        progress.output(f"  CC one{n}.o")
    now_s += 20.0
    progress.output("  CC two.o")
    progress.output("  CC three.o")
    progress.done("built")
    assert stream.getvalue().splitlines() == ["building ...", "building: 11 lines, now CC two.o", "built"]


def test_a_terminal_shows_the_step_the_count_and_then_the_end() -> None:
    stream = io.StringIO()
    progress = TerminalProgress(Console(file=stream, force_terminal=True, width=100))
    progress.step("building [luo]")
    progress.output("  CC [M] one.o")
    progress.output("  CC [M] two.o")
    assert progress._status is not None
    shown = Console(width=100, file=io.StringIO(), record=True)
    shown.print(progress._status.status)
    assert shown.export_text().strip() == "building [luo] 2 CC [M] two.o"
    progress.done("built [luo]")
    progress.stop()
    assert stream.getvalue().rstrip().endswith("built [luo]")


def test_a_long_line_of_output_does_not_make_the_live_line_two() -> None:
    progress = TerminalProgress(Console(file=io.StringIO(), force_terminal=True, width=60))
    progress.step("downloading")
    progress.output("x" * 500)
    assert progress._status is not None
    shown = Console(width=60, file=io.StringIO(), record=True)
    shown.print(progress._status.renderable)
    progress.stop()
    assert len(shown.export_text().rstrip().splitlines()) == 1


def test_text_that_looks_like_markup_is_shown_as_it_is() -> None:
    stream = io.StringIO()
    progress = TerminalProgress(Console(file=stream, width=100))
    progress.step("[bold]")
    progress.output("[/red] \\[x] \\")
    progress.done("end [/bold]")
    assert "end [/bold]" in stream.getvalue()


def test_the_set_up_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; sys.modules['rich'] = None; sys.modules['numpy'] = None\n"
        "from guest_images import prerequisites, build\n"
        "print('imported')"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.stdout == "imported\n", finished.stderr
