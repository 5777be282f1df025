# SPDX-License-Identifier: MIT
"""Child processes that cannot outlive the bench: started in their own session, killed with it, reaped."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from qemu_plugin.errors import BenchError

_PR_SET_PDEATHSIG = 1  # linux include/uapi/linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent(parent: int) -> None:
    """In the child, before exec: SIGKILL when the bench's main thread is gone, at once if it already is."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)


class Child:
    """A running child process and where its words go.

    Its own session keeps a terminal's Ctrl-C away from it: the bench decides the order of the ending.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path | None) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls,
        name: str,
        argv: Sequence[str],
        *,
        log: Path | None = None,
        stdin: int | None = asyncio.subprocess.DEVNULL,
        stdout: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Child":
        """Start `argv`; standard error (and output, unless `stdout` says otherwise) go to the file `log`.

        BenchError where the program cannot be executed.
        """
        parent = os.getpid()
        sink = log.open("ab") if log is not None else None
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=stdout if stdout is not None else (sink or asyncio.subprocess.DEVNULL),
                stderr=sink or asyncio.subprocess.DEVNULL,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(parent),
            )
        except OSError as error:
            raise BenchError(f"{name} cannot be started: {argv[0]}: {error.strerror}") from error
        finally:
            if sink is not None:
                sink.close()
        return cls(name, process, log)

    @property
    def is_running(self) -> bool:
        """Whether the process has not been reaped yet."""
        return self.process.returncode is None

    def status_text(self) -> str:
        """How it ended, in words: `exited with status 1`, `was killed by SIGKILL`."""
        code = self.process.returncode
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def last_words(self, lines: int = 8) -> str:
        """The end of its log, for an error message."""
        if self.log is None or not self.log.exists():
            return ""
        text = self.log.read_text(errors="replace").rstrip().splitlines()
        return "\n".join(text[-lines:])

    async def wait(self) -> int:
        """Its exit status, when it has one (negative: the signal)."""
        return await self.process.wait()

    async def stop(self, *, grace_s: float = 3.0) -> None:
        """End it: close its standard input, SIGTERM, after `grace_s` SIGKILL; returns when it is reaped."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if not self.is_running:
            return
        for signum in (signal.SIGTERM, signal.SIGKILL):
            try:
                self.process.send_signal(signum)
            except ProcessLookupError:
                break
            try:
                async with asyncio.timeout(grace_s):
                    await self.process.wait()
                    return
            except TimeoutError:
                continue
        await self.process.wait()


def python_argv(module: str, *arguments: str) -> list[str]:
    """The command line that runs `module` in this interpreter, isolated from the user's environment."""
    return [sys.executable, "-P", "-m", module, *arguments]
