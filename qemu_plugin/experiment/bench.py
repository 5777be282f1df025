# SPDX-License-Identifier: MIT
"""The bench: recording, endpoint server, QEMU and its channels of one run, started together, ended together."""

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydev.recording.format import Flag, Kind, Mark
from qemu_plugin.errors import BenchError, UsageError
from qemu_plugin.experiment import sockets
from qemu_plugin.experiment.header import header
from qemu_plugin.experiment.images import Images
from qemu_plugin.experiment.loss import BenchLostError, LostError, Watch
from qemu_plugin.experiment.rundir import RunDirectory
from qemu_plugin.experiment.spec import Experiment
from qemu_plugin.machine.agent import AgentChannel
from qemu_plugin.machine.commandline import Attachment, Machine, arguments
from qemu_plugin.machine.console import SerialPort, read_lines
from qemu_plugin.machine.process import Child, python_argv
from qemu_plugin.machine.qmp import Monitor
from qemu_plugin.machine.trace import realtime_minus_monotonic_ns
from qemu_plugin.native.recording import RecordingWriter

RESERVE_INTERVAL_S = 0.02
"""How often the recording's head-room is looked after: an extent lasts for seconds, not for this long."""
POLL_S = 0.002
EXTENT_EVENTS = 1 << 18
"""Events that the recording is extended by at a time (16 MiB)."""
START_TIMEOUT_S = 20.0
PANIC = "Kernel panic - not syncing"  # linux kernel/panic.c vpanic
CONSOLE_LINES_SHOWN = 30


class Bench:
    """Everything of one run that lives while the guest does. `start` and `close` are its whole life.

    After `close` nothing is left: no process, no socket, no temporary folder; the recording is on disk,
    not yet closed (the trace has still to be joined to it).
    """

    def __init__(self, experiment: Experiment, images: Images, run: RunDirectory) -> None:
        self.experiment = experiment
        self.images = images
        self.run = run
        self.watch = Watch()
        self.agent: AgentChannel
        self.recording: RecordingWriter
        self.qemu_started_ns = 0
        self.clock_offsets_ns: list[int] = []
        self.console_tail: list[str] = []
        self.panicked = asyncio.Event()
        """The console has shown a kernel's panic."""
        self._is_ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._folder: Path | None = None
        self._server: Child | None = None
        self._qemu: Child | None = None
        self._monitor = Monitor()
        self._ports: list[SerialPort] = []
        self._console_log = run.console_log.open("w", encoding="utf-8", buffering=1)
        self._agent_log = run.agent_log.open("w", encoding="utf-8", buffering=1)

    async def start(self) -> None:
        """Create the recording, start the server, then QEMU; returns when the guest's first instruction may run.

        BenchError where any part does not come up; `close` is to be called in any case.
        """
        self.recording = RecordingWriter.create(
            self.run.recording, header(self.experiment, self.images), extent=EXTENT_EVENTS
        )
        self._begin(self._keep_reserved())
        self._folder = sockets.create_folder()
        attachments = [
            Attachment(endpoint.id, endpoint.port, self._folder / f"{endpoint.id}.sock")
            for endpoint in self.experiment.endpoints
        ]
        console = SerialPort("console", self._folder / "console.sock")
        agent = SerialPort("agent", self._folder / "agent.sock")
        self._ports = [console, agent]
        server = asyncio.create_task(self._start_server(attachments))
        try:
            initrd = self._folder / "initrd"
            await asyncio.to_thread(self.images.write_initrd, initrd)
            for port in self._ports:
                await port.listen()
            await self._monitor.listen(self._folder / "qmp.sock")
        finally:
            await server
        await self._start_qemu(attachments, console, agent, initrd)

    async def _start_server(self, attachments: list[Attachment]) -> None:
        assert self._folder is not None
        spec = self._folder / "server.json"
        endpoints = [
            {
                "index": index,
                "model": endpoint.model,
                "options": dict(endpoint.options),
                "socket": str(attachment.socket),
            }
            for index, (endpoint, attachment) in enumerate(
                zip(self.experiment.endpoints, attachments, strict=True)
            )
        ]
        spec.write_text(
            json.dumps(
                {"recording": str(self.run.recording), "endpoints": endpoints, "reference_period_us": 1000}
            )
        )
        self._server = await Child.start(
            "the endpoint server",
            python_argv("qemu_plugin.server", str(spec)),
            log=self.run.server_log,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._server.process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await self._server.process.stdout.readline()
        except TimeoutError:
            raise BenchError(f"the endpoint server was not ready within {START_TIMEOUT_S:g} s") from None
        if not line:
            await self._server.wait()
            raise BenchError(
                f"the endpoint server {self._server.status_text()}: {self._server.last_words(3)}"
            )
        self._begin(self._watch_server(self._server))

    async def _start_qemu(
        self, attachments: list[Attachment], console: SerialPort, agent: SerialPort, initrd: Path
    ) -> None:
        assert self._folder is not None
        guest = self.experiment.guest
        machine = Machine(
            ports=self.experiment.ports,
            attachments=attachments,
            memory_mib=guest.memory_mib,
            cpus=guest.cpus,
            kernel=self.images.kernel.image,
            initrd=initrd,
            command_line=command_line(self.experiment),
            console_chardev=console.chardev(),
            agent_chardev=agent.chardev(),
            qmp_socket=self._folder / "qmp.sock",
            trace_log=self.run.trace_log,
            accelerator=guest.accelerator,
            iommu=guest.iommu,
            plugin=self.images.plugin.option(self.run.recording),
        )
        self.clock_offsets_ns.append(realtime_minus_monotonic_ns())
        self.qemu_started_ns = time.monotonic_ns()
        self.mark(Mark.QEMU_STARTED)
        self._qemu = await Child.start(
            "QEMU", [*self.images.qemu.argv, *arguments(machine)], log=self.run.qemu_log
        )
        self._begin(self._watch_qemu(self._qemu))
        await self.watch.guard(
            self._monitor.accept(START_TIMEOUT_S, self._on_qmp_event),
            "QEMU's QMP connection",
            START_TIMEOUT_S,
        )
        self.mark(Mark.MACHINE_RUNNING)
        reader, _ = await self.watch.guard(console.streams(START_TIMEOUT_S), "the console", START_TIMEOUT_S)
        self._begin(read_lines(reader, self._on_console_line))
        reader, writer = await self.watch.guard(
            agent.streams(START_TIMEOUT_S), "the agent port", START_TIMEOUT_S
        )
        self.agent = AgentChannel(reader, writer, on_line=self._on_agent_line)

    def _begin(self, coroutine: Any) -> None:
        self._tasks.append(asyncio.create_task(coroutine))

    async def _keep_reserved(self) -> None:
        while True:
            self.recording.reserve()
            if self.recording.dropped:
                reason = f"the recording has no room ({self.run.recording}): is the disk full?"
                self.watch.lose(BenchLostError(reason))
            await asyncio.sleep(RESERVE_INTERVAL_S)

    async def _watch_server(self, child: Child) -> None:
        await child.wait()
        if not self._is_ending:
            self.mark(Mark.SERVER_LOST)
            self.watch.lose(
                BenchLostError(
                    f"the endpoint server {child.status_text()}; {child.last_words(3)}".rstrip("; ")
                )
            )

    async def _watch_qemu(self, child: Child) -> None:
        await child.wait()
        self.mark(Mark.QEMU_EXITED)
        if not self._is_ending:
            self.watch.lose(LostError(f"QEMU {child.status_text()}; {child.last_words(3)}".rstrip("; ")))

    def _on_qmp_event(self, event: Mapping[str, Any]) -> None:
        name = event.get("event")
        data = event.get("data") or {}
        self.note({"qmp": name, "data": data})
        if name == "RESET" or (name == "SHUTDOWN" and data.get("reason") == "guest-reset"):
            self.mark(Mark.MACHINE_RESET)
            if not self._is_ending:
                self.watch.lose(LostError("the guest reset its machine instead of going on"))

    def _on_console_line(self, t_ns: int, line: str) -> None:
        self.recording.append_text(Kind.CONSOLE, line.encode(), t_ns=t_ns)
        self._console_log.write(line + "\n")
        if PANIC in line:
            self.panicked.set()
        self.console_tail = [*self.console_tail[-(CONSOLE_LINES_SHOWN - 1) :], line]

    def _on_agent_line(self, t_ns: int, line: str, is_to_guest: bool) -> None:
        self.recording.append_text(
            Kind.AGENT, line.encode(), t_ns=t_ns, flags=Flag.TO_GUEST if is_to_guest else Flag(0)
        )
        self._agent_log.write(json.dumps({"t_ns": t_ns, "to_guest": is_to_guest, "line": line}) + "\n")

    @property
    def folder(self) -> Path:
        """The private folder of this run's sockets, for what QEMU is to hand over in a file."""
        assert self._folder is not None, "start() comes first"
        return self._folder

    def mark(self, mark: Mark) -> None:
        """Record a moment that only the bench knows, now."""
        self.recording.append(Kind.MARK, value=int(mark))

    def note(self, note: Mapping[str, Any]) -> None:
        """Record something about the bench itself."""
        self.recording.append_text(Kind.NOTE, json.dumps(note, default=str).encode())

    async def qmp(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """QEMU's answer to a QMP command; BenchError or LostError where there is none."""
        limit = self.experiment.deadlines.command_s
        return await self.watch.guard(
            self._monitor.execute(command, arguments, timeout_s=limit), f"QMP {command}", limit + 1
        )

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait until the recording shows `condition`; LostError at the deadline or where the machine is lost."""

        async def poll() -> None:
            while not condition():  # noqa: ASYNC110 - events come from other processes
                await asyncio.sleep(POLL_S)

        await self.watch.guard(poll(), what, timeout_s)

    @property
    def qemu_pid(self) -> int:
        """QEMU's process, for looking at it or doing it harm."""
        assert self._qemu is not None, "start() comes first"
        return self._qemu.process.pid

    def kill_qemu(self) -> None:
        """End QEMU at once, without a word: the guest has nothing left to say."""
        self._is_ending = True
        if self._qemu is not None and self._qemu.is_running:
            self._qemu.process.kill()

    async def close(self) -> None:
        """End QEMU, then the server, then the channels; remove the sockets. Never raises for what is gone."""
        self._is_ending = True
        if self._qemu is not None:
            if self._qemu.is_running:
                with contextlib.suppress(BenchError):
                    await self._monitor.execute("quit", timeout_s=2.0)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2.0):
                        await self._qemu.wait()
            await self._qemu.stop()
            self.clock_offsets_ns.append(realtime_minus_monotonic_ns())
        if self._server is not None:
            await self._server.stop()
        await self._monitor.close()
        for port in self._ports:
            await port.close()
        if self._qemu is not None:  # what the console still holds is read to its end
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "agent"):
            await self.agent.close()
        self._console_log.close()
        self._agent_log.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def command_line(experiment: Experiment, update: int = 0) -> str:
    """The kernel's command line at boot (`update` 0), or after that many updates (the agent adds the number).

    Source: facts measured on Linux 7.3: the default scratch size needs more memory than 256 MiB; the initial
    file system is kept, to be handed to the next kernel.
    """
    guest = experiment.guest
    own = guest.command_line if update == 0 or guest.next_command_line is None else guest.next_command_line
    words = "console=ttyS0 liveupdate=on kho_scratch=32M,0,32M retain_initrd panic=-1"
    return f"{words} {own}".strip()


def check_space(run: RunDirectory) -> None:
    """UsageError where the run's file system has no room for a recording worth starting."""
    if shutil.disk_usage(run.path).free < 64 << 20:
        raise UsageError(f"{run.path}: less than 64 MiB free, a recording would not fit")
