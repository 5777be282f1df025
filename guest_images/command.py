# SPDX-License-Identifier: MIT
"""Running a program whose output is shown as progress, kept in a log, and quoted when it fails."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from guest_images.errors import ImageError
from guest_images.progress import Progress

_KEPT_LINES = 40


class CommandError(ImageError):
    """A program ended with a status other than 0, or could not be started (status 127)."""

    def __init__(self, argv: Sequence[str], status: int, lines: Sequence[str], log: Path | None) -> None:
        where = f"; whole log: {log}" if log is not None else ""
        reason = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        super().__init__(f"{shlex.join(argv[:4])} ended with status {status}: {reason}{where}", lines)
        self.argv = tuple(argv)
        self.status = status
        self.lines = tuple(lines)
        self.log = log


def run(
    argv: Sequence[str],
    progress: Progress,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path | None = None,
) -> list[str]:
    """Run `argv` in the C locale and return its last 40 lines of output (both streams).

    `env` adds to the environment, or takes away what it gives as None. Each line goes to `progress.output` and is
    appended to the file `log`. The program and its children are ended if this function is left by an exception.

    Raises:
        CommandError: a status other than 0; nothing is known about what the program left behind.
    """
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    changed = {**os.environ, **(env or {}), "LC_ALL": "C"}
    environment = {name: value for name, value in changed.items() if value is not None}
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    opened: AbstractContextManager[IO[str] | None] = (
        log.open("a") if log is not None else contextlib.nullcontext()
    )
    with opened as file:
        if file is not None:
            file.write(f"$ {shlex.join(argv)}\n")
        try:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # so that its children can be ended with it
            )
        except OSError as error:
            raise CommandError(argv, 127, [str(error)], log) from error
        try:
            assert process.stdout is not None
            for line in process.stdout:
                kept.append(line.rstrip("\n"))
                if file is not None:
                    file.write(line)
                progress.output(line.rstrip("\n"))
            status = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    if status != 0:
        raise CommandError(argv, status, list(kept), log)
    return list(kept)


def capture(argv: Sequence[str]) -> str:
    """Run `argv` in the C locale and return its standard output, stripped.

    Raises:
        CommandError: it could not be started or ended with a status other than 0.
    """
    try:
        finished = subprocess.run(
            argv,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise CommandError(argv, 127, [str(error)], None) from error
    if finished.returncode != 0:
        raise CommandError(argv, finished.returncode, finished.stderr.splitlines(), None)
    return finished.stdout.strip()
