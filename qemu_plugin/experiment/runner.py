# SPDX-License-Identifier: MIT
"""Performs an experiment and judges it: the one way from a TOML file to a verdict, for the command line and tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pydev.continuity import Verdict
from pydev.recording.format import Mark
from qemu_plugin.errors import BenchError, LuscopeError, RemoteProtocolError, UsageError
from qemu_plugin.experiment import judge, rundir
from qemu_plugin.experiment.bench import Bench, check_space
from qemu_plugin.experiment.images import Images
from qemu_plugin.experiment.loss import BenchLostError, LostError
from qemu_plugin.experiment.rundir import RunDirectory
from qemu_plugin.experiment.script import Script
from qemu_plugin.experiment.spec import HOLDABLE_PHASES, Experiment
from qemu_plugin.experiment.trailer import join_and_close
from qemu_plugin.machine.agent import AgentLostError

REAP_S = 1.0
"""How long a broken channel waits for the end of the process behind it."""


class LiveUpdate:
    """One experiment being performed. Use `live_update`; a test holds the guest at a phase and looks.

    The guest advances only inside `phase` and `finish`: between them it waits for the host.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: Images,
        run: RunDirectory,
        on_phase: Callable[[str], None] | None = None,
    ) -> None:
        self.experiment = experiment
        self.run = run
        self.bench = Bench(experiment, images, run)
        self.script = Script(self.bench, on_phase=on_phase)
        self._images = images
        self._phases: AsyncIterator[str] = self.script.phases()
        self._incomplete: list[str] = []
        self._verdict: Verdict | None = None
        self._is_closed = False

    @property
    def loss(self) -> str | None:
        """Why the experiment could not be performed to its end, if so."""
        return self._incomplete[0] if self._incomplete else None

    async def phase(self, name: str) -> None:
        """Let the guest go on until phase `name` has begun, and hold it there.

        UsageError for a phase that cannot be held or is over; BenchError where the guest does not get there.
        """
        if name not in HOLDABLE_PHASES:
            raise UsageError(f"phase {name!r} cannot be held; these can: {', '.join(HOLDABLE_PHASES)}")
        async for reached in self._phases:
            if reached == name:
                return
        raise UsageError(f"phase {name!r} is over: the experiment has reached {self.script.phase!r}")

    async def qmp(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """QEMU's answer to a QMP command."""
        return await self.bench.qmp(command, arguments)

    async def agent(self, command: str, /, **members: Any) -> Mapping[str, Any]:
        """The agent's reply to a command of the channel, while the guest is held."""
        return await self.script.command(command, **members)

    async def finish(self) -> Verdict:
        """Perform what is left, end the machine, judge. The verdict is also in the run's directory."""
        if self._verdict is None:
            await self._perform()
            await self._close()
            self._verdict = judge.judge_run(self.run, self.experiment, started_ns=self.bench.qemu_started_ns)
        return self._verdict

    async def _perform(self) -> None:
        try:
            async for _ in self._phases:
                pass
        except (BenchError, RemoteProtocolError) as error:
            reason = await self._reason(error)
            if self.script.phase == "boot":
                raise BenchError(self._with_console(reason)) from error
            if not await self._has_panicked_as_wanted():
                self._lost(f"{reason} (phase reached: {self.script.phase})")

    async def _has_panicked_as_wanted(self) -> bool:
        """Whether the experiment wants the incoming kernel to panic, and it did: then that is its end.

        The console may be read a little later than the machine's reset is heard of.
        """
        if self.experiment.expect.guest != "panic" or not self.script.is_frozen:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_S):
                await self.bench.panicked.wait()
        return self.bench.panicked.is_set()

    async def _reason(self, error: LuscopeError) -> str:
        """Why, at the root: a channel that breaks is noticed before the process behind it is reaped."""
        if isinstance(error, AgentLostError):
            with contextlib.suppress(LostError):
                await self.bench.watch.guard(asyncio.Event().wait(), "the reason", REAP_S)
        return str(self.bench.watch.loss or error)

    def _lost(self, reason: str) -> None:
        """The experiment cannot be performed to its end: a guest that froze has died of it, else we gave up."""
        self._incomplete.append(reason)
        self.bench.note({"lost": reason, "phase": self.script.phase})
        if not self.script.is_frozen or isinstance(self.bench.watch.loss, BenchLostError):
            self.bench.mark(Mark.ABORTED)

    def _with_console(self, message: str) -> str:
        tail = self.bench.console_tail
        return message + (
            "\nlast console lines:\n  " + "\n  ".join(tail) if tail else "\nthe console stayed silent"
        )

    async def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self.bench.close()
        if hasattr(self.bench, "recording"):
            join_and_close(self.bench, self._images, self._incomplete)

    async def __aenter__(self) -> "LiveUpdate":
        try:
            await self.bench.start()
        except BaseException as error:
            self._incomplete.append(f"the bench did not start: {error}")
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._verdict is None and not self._is_closed:
            self._incomplete.append(f"interrupted: {kind.__name__}" if kind else "not finished")
            self.bench.mark(Mark.ABORTED)
        await self._close()


@asynccontextmanager
async def live_update(
    experiment: Experiment,
    images: Images,
    *,
    out: Path | None = None,
    on_phase: Callable[[str], None] | None = None,
) -> AsyncIterator[LiveUpdate]:
    """A live update under way: server and QEMU are started on entry; on exit nothing is left running.

    `out` is the run's directory (default: a new one below `runs/`); `on_phase` hears of each phase that can
    be held, as it begins.
    """
    judge.check(experiment)
    run = rundir.create(experiment.name, out)
    check_space(run)
    run.experiment.write_text(experiment.source, encoding="utf-8")
    judge.keep_policy(run, experiment.policy)
    async with LiveUpdate(experiment, images, run, on_phase) as update:
        yield update
