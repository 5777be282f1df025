# SPDX-License-Identifier: MIT
"""How long work shows that it is alive: what is being done, how much output it has made, and how it ended."""

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

_PLAIN_INTERVAL_S = 15.0


class Progress(Protocol):
    """Where long work reports: a `step` begins, prints lines of `output`, and is `done`."""

    def step(self, text: str) -> None:
        """Say what begins now."""

    def output(self, line: str) -> None:
        """Take one line that a program of this step has printed."""

    def done(self, text: str) -> None:
        """Say how the step ended."""


class SilentProgress:
    """Shows nothing."""

    def step(self, text: str) -> None:
        """Ignore `text`."""

    def output(self, line: str) -> None:
        """Ignore `line`."""

    def done(self, text: str) -> None:
        """Ignore `text`."""


class PlainProgress:
    """One line for a step, one when it is done and, in between, one every 15 seconds: for logs and CI."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._text = ""
        self._line_count = 0
        self._shown_at_s = 0.0

    def step(self, text: str) -> None:
        """Print what begins now."""
        self._text, self._line_count, self._shown_at_s = text, 0, time.monotonic()
        self._print(f"{text} ...")

    def output(self, line: str) -> None:
        """Count a line; show the count and this line if nothing was shown for 15 seconds."""
        self._line_count += 1
        if time.monotonic() - self._shown_at_s >= _PLAIN_INTERVAL_S:
            self._shown_at_s = time.monotonic()
            self._print(f"{self._text}: {self._line_count} lines, now {line.strip()}")

    def done(self, text: str) -> None:
        """Print how the step ended."""
        self._print(text)

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class TerminalProgress:
    """One live line on a terminal with a rising count of output lines; each ended step stays as a line."""

    def __init__(self, console: "Console | None" = None) -> None:
        # Here, because the set-up imports this module before anything is installed.
        from rich.console import Console
        from rich.markup import escape

        self._escape = escape
        self._console = console if console is not None else Console(stderr=True)
        self._status: Status | None = None
        self._text = ""
        self._line_count = 0

    def step(self, text: str) -> None:
        """Show what begins now on the live line."""
        self._text, self._line_count = text, 0
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._show("")

    def output(self, line: str) -> None:
        """Show the count and the line's text on the live line."""
        self._line_count += 1
        room = self._console.width - len(self._text) - 10  # less spinner, count and spaces: one line
        self._show(f" [dim]{self._line_count} {self._escape(line.strip()[: max(0, room)])}[/dim]")

    def done(self, text: str) -> None:
        """Take the live line away and leave `text` in its place."""
        self.stop()
        self._console.print(self._escape(text), highlight=False)

    def stop(self) -> None:
        """Take the live line away; call it after an error, before the message is printed."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _show(self, tail: str) -> None:
        if self._status is not None:
            self._status.update(f"{self._escape(self._text)}{tail}")
