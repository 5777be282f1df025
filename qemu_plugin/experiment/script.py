# SPDX-License-Identifier: MIT
"""What the host has the guest do, phase by phase: boot, preserve, stream, freeze, retrieve, check, finish.

The script is a generator of phases: it stops at each phase that a host can hold, and goes on when asked to.
"""

import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from pydev.recording.format import RECORD, Flag, Kind, Mark
from pydev.units import bdf_text
from qemu_plugin.errors import BenchError, UsageError
from qemu_plugin.experiment import beliefs
from qemu_plugin.experiment.bench import Bench, command_line
from qemu_plugin.experiment.loss import LostError
from qemu_plugin.experiment.snapshot import SNAPSHOT_PHASES, locations, snapshot
from qemu_plugin.experiment.spec import EndpointSpec, Step

PLATFORM_IPI_VECTOR: Final = 0xF7
"""linux arch/x86/include/asm/irq_vectors.h X86_PLATFORM_IPI_VECTOR: handled without a driver, counted as PLT."""
FIRST_TOKEN: Final = 0x1A
FIRST_SLOTS: Final = 256
"""Slots that have to be in memory before the guest is updated: the stream is known to run."""


class AgentError(BenchError):
    """The agent refused a command; `reply` is what it said."""

    def __init__(self, message: str, reply: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(slots=True)
class _Streaming:
    """One endpoint that streams: where it is, and where its buffer is known under which token."""

    index: int
    spec: EndpointSpec
    bdf: str
    token: int
    is_preserved: bool = False
    is_retrieved: bool = False


def _pages(stream: _Streaming) -> int:
    assert stream.spec.stream is not None, "only streaming endpoints are driven"
    return stream.spec.stream.pages


@dataclass(slots=True)
class Script:
    """The standard live update of an experiment, with its own steps in between."""

    bench: Bench
    on_phase: Callable[[str], None] | None = None
    phase: str = "boot"
    """The phase that has begun last, of those that a host can hold."""
    is_frozen: bool = False
    """The outgoing kernel was let go, and the incoming one has not finished."""
    update: int = 0
    streams: list[_Streaming] = field(default_factory=list)
    hello: Mapping[str, Any] = field(default_factory=dict)

    async def phases(self) -> AsyncIterator[str]:
        """Perform the experiment; yields each holdable phase when it has begun and its steps are done."""
        deadlines = self.bench.experiment.deadlines
        self.hello = await self._event("hello", deadlines.boot_s)
        yield await self._enter("normal")
        await self._find_endpoints()
        for _ in range(self.bench.experiment.update.count):
            async for phase in self._one_update():
                yield phase

    async def _one_update(self) -> AsyncIterator[str]:
        update = self.bench.experiment.update
        is_orchestrated = bool(self.hello.get("liveupdate")) and update.preserve_memory
        is_whole = await self._prepare(is_orchestrated)
        yield await self._enter("prepared")
        for stream in self.streams:
            await self._start(stream)
        if not is_whole:
            await self._go_on()
            yield await self._enter("finished")
            return
        if update.cancel_first:
            await self._cancel_and_prepare_anew()
        self.update += 1
        await self.command("load", cmdline=command_line(self.bench.experiment, self.update))
        written = [_WrittenSlots(self.bench, stream.index) for stream in self.streams]
        await beliefs.ask(self.bench, self.command)
        for stream, seen in zip(self.streams, written, strict=True):
            await self._slots_written(stream, FIRST_SLOTS, seen)
        await self.command("freeze")
        await self._event("frozen", self.bench.experiment.deadlines.command_s)
        yield await self._enter("frozen")
        self.is_frozen = True
        self.bench.mark(Mark.FROZEN_ACKNOWLEDGED)
        await self.bench.agent.send("frozen_ack")
        hello = await self._hello_or_refusal()
        if hello is None:
            self.is_frozen = False
            await self._go_on()
            yield await self._enter("finished")
            return
        self.hello = hello
        await beliefs.ask(self.bench, self.command)
        yield await self._enter("updated")
        early = update.finish_early
        for stream in self.streams:
            await self._take_back(stream)
            if early is not None and stream.is_retrieved:
                await self._perform_command("finish", {"session": update.session}, early)
                early = None
        await self._finish(is_orchestrated)
        yield await self._enter("finished")

    async def _prepare(self, is_orchestrated: bool) -> bool:
        """Make every stream's buffer and hand over what is to be preserved; False where the kernel refused one.

        A refusal undoes the whole session: what was preserved before it is preserved no longer.
        """
        if is_orchestrated:
            for session in self._sessions():
                await self.command("session", name=session)
        for stream in self.streams:
            try:
                await self._buffer(stream, is_orchestrated)
            except AgentError as error:
                if not is_orchestrated or self.bench.experiment.expect.guest == "updated":
                    raise
                self.bench.note({"refused": dict(error.reply)})
                await self._unpreserve()
                await self.command(
                    "buffer", bdf=stream.bdf, pages=_pages(stream), token=stream.token, preserve=0
                )
                return False
        return True

    async def _unpreserve(self) -> None:
        """Close the sessions: everything in them is un-preserved."""
        for session in self._sessions():
            held = [
                stream for stream in self.streams if stream.is_preserved and self._session(stream) == session
            ]
            for stream in held:
                stream.is_preserved = False
            if held:
                await self.command("unpreserve", token=held[0].token)

    def _session(self, stream: _Streaming) -> str:
        return stream.spec.session or self.bench.experiment.update.session

    def _sessions(self) -> list[str]:
        """The sessions that are needed, in the order of their first endpoints."""
        return list(dict.fromkeys(self._session(stream) for stream in self.streams if stream.spec.preserve))

    async def _cancel_and_prepare_anew(self) -> None:
        """Un-preserve everything, see that the streams go on, and preserve the same buffers again."""
        again = [stream for stream in self.streams if stream.is_preserved]
        await self._unpreserve()
        for stream in self.streams:
            await self._slots_written(stream, FIRST_SLOTS)
        for session in self._sessions():
            await self.command("session", name=session)
        for stream in again:
            await self.command("preserve", bdf=stream.bdf, token=stream.token, session=self._session(stream))
            stream.is_preserved = True

    async def _go_on(self) -> None:
        """The guest was not updated: every stream has to go on, until it is stopped and looked at."""
        for stream in self.streams:
            await self._slots_written(stream, FIRST_SLOTS)
        for stream in self.streams:
            await self.command("stop", bdf=stream.bdf)
            await self.command("check", bdf=stream.bdf)
        await self._unpreserve()
        await self.command("ping")

    async def _finish(self, is_orchestrated: bool) -> None:
        """Stop and check the streams, and finish the session.

        A driver has its device finished while it is in use, and catches up with what it missed; user space has
        nothing that could be finished after the stream's end.
        """
        is_retrieved = is_orchestrated and any(stream.is_retrieved for stream in self.streams)
        is_driven = bool(self.hello.get("driver"))
        sessions = self._sessions()
        if is_retrieved and is_driven:
            for session in sessions:
                await self.command("finish", session=session)
                for stream in self.streams:
                    if stream.is_retrieved:
                        await self._resumed(stream)
        for stream in self.streams:
            # A driver lets nobody near a preserved device that was not retrieved.
            if self.bench.experiment.update.retrieve or not (is_driven and stream.is_preserved):
                await self._end(stream)
        if is_retrieved and not is_driven:
            for session in sessions:
                await self.command("finish", session=session)
        if is_orchestrated and not self.bench.experiment.update.retrieve:
            with contextlib.suppress(AgentError):  # the refusal is in the record, and judged
                await self.command("finish", session=sessions[0])
        await beliefs.ask(self.bench, self.command)
        self.is_frozen = False

    async def _enter(self, phase: str) -> str:
        self.phase = phase
        if self.on_phase is not None:
            self.on_phase(phase)
        if phase in SNAPSHOT_PHASES:
            await snapshot(self.bench, phase if self.update == 1 else f"{phase}-{self.update}")
        for step in self.bench.experiment.steps:
            if step.phase == phase:
                await self._perform(step)
        return phase

    async def _perform(self, step: Step) -> None:
        if step.agent is not None:
            members = {key: self._filled(value) for key, value in step.agent.items() if key != "cmd"}
            await self._perform_command(step.agent["cmd"], members, step.errno)
        if step.qmp is not None:
            await self.bench.qmp(step.qmp["execute"], step.qmp.get("arguments"))

    async def _perform_command(self, name: str, members: Mapping[str, Any], wanted: str | None) -> None:
        """A step's command; where it names an errno, the kernel has to refuse with exactly that."""
        try:
            await self.command(name, **members)
        except AgentError as error:
            got = error.reply.get("errno")
            if wanted is None or got != getattr(errno, wanted):
                raise
            return
        if wanted is not None:
            raise BenchError(f"the kernel was to refuse {name} with {wanted}, and did not")

    def _filled(self, value: Any) -> Any:
        """`@ep0` in a step stands for the BDF of that endpoint."""
        if isinstance(value, str) and value.startswith("@"):
            for stream in self.streams:
                if stream.spec.id == value[1:]:
                    return stream.bdf
            raise UsageError(f"a step names {value!r}, but no streaming endpoint is called {value[1:]!r}")
        return value

    async def command(self, name: str, /, **members: Any) -> Mapping[str, Any]:
        """The agent's reply to a command. AgentError where it refuses, LostError where it does not answer."""
        limit = self.bench.experiment.deadlines.command_s
        reply = await self.bench.watch.guard(
            self.bench.agent.command(name, timeout_s=limit, **members),
            f"the agent's reply to {name}",
            limit + 1,
        )
        if not reply.get("ok"):
            raise AgentError(f"the agent refused {name}: {reply.get('error', reply)}", reply)
        return reply

    async def _event(self, name: str, timeout_s: float) -> Mapping[str, Any]:
        return await self.bench.watch.guard(
            self.bench.agent.event(name, timeout_s=timeout_s), f"the agent's {name}", timeout_s + 1
        )

    async def _hello_or_refusal(self) -> Mapping[str, Any] | None:
        """The incoming kernel's hello; None where the system call came back with an error, as was expected.

        LostError where nobody expected it.
        """
        limit = self.bench.experiment.deadlines.update_s
        event = await self.bench.watch.guard(
            self.bench.agent.event("hello", "reboot_failed", timeout_s=limit),
            "the incoming kernel's agent",
            limit + 1,
        )
        if event.get("event") == "reboot_failed":
            if self.bench.experiment.expect.guest != "refused":
                raise LostError(f"the kernel refused to update: errno {event.get('errno')}")
            return None
        return event

    async def _find_endpoints(self) -> None:
        """Ask QEMU where the guest's firmware and kernel have put each endpoint."""
        found = dict(locations(await self.bench.qmp("query-pci")))
        for index, spec in enumerate(self.bench.experiment.endpoints):
            if spec.id not in found:
                raise BenchError(f"the guest's firmware gave endpoint {spec.id} no bus number")
            if spec.stream is not None:
                self.streams.append(
                    _Streaming(index, spec, f"0000:{bdf_text(found[spec.id])}", FIRST_TOKEN + index)
                )

    async def _buffer(self, stream: _Streaming, is_orchestrated: bool) -> None:
        assert stream.spec.stream is not None
        wanted = is_orchestrated and stream.spec.preserve
        stream.is_retrieved = False
        await self.command(
            "buffer",
            bdf=stream.bdf,
            pages=_pages(stream),
            token=stream.token,
            preserve=int(wanted),
            **({"session": self._session(stream)} if wanted else {}),
        )
        stream.is_preserved = wanted

    async def _start(self, stream: _Streaming) -> None:
        program = stream.spec.stream
        assert program is not None
        if program.interrupt:
            await self.command("arm", bdf=stream.bdf, vector=0, guest_vector=PLATFORM_IPI_VECTOR)
        await self.command(
            "stream",
            bdf=stream.bdf,
            period_ns=round(program.period_us * 1000),
            interrupt_every=program.interrupt_every,
            vector=0,
            generation=self.update + 1,
            interrupt_enable=int(program.interrupt),
        )

    async def _take_back(self, stream: _Streaming) -> None:
        """In the incoming kernel: the buffer from the orchestrator, then the device with bus mastering on.

        A buffer that did not come back may be anybody's memory by now: the device is not let near it.
        """
        assert stream.spec.stream is not None
        if not stream.is_preserved or not self.hello.get("liveupdate"):
            return
        if not self.bench.experiment.update.retrieve:
            return
        session = self._session(stream)
        try:
            await self.command(
                "retrieve",
                session=session,
                token=stream.token,
                bdf=stream.bdf,
                pages=stream.spec.stream.pages,
            )
        except AgentError as error:
            self.bench.note({"retrieve": stream.bdf, "refused": dict(error.reply)})
            return
        stream.is_retrieved = True
        await self.command("claim", bdf=stream.bdf)
        await self._resumed(stream)

    async def _resumed(self, stream: _Streaming) -> None:
        """Wait for slots of a stream that runs; one that a reset has stopped will not write any more."""
        status = await self.command("status", bdf=stream.bdf)
        if status.get("running"):
            await self._slots_written(stream, self.bench.experiment.update.resume_slots)

    async def _end(self, stream: _Streaming) -> None:
        await self.command("stop", bdf=stream.bdf)
        if stream.is_retrieved:
            await self.command("check", bdf=stream.bdf)

    async def _slots_written(
        self, stream: _Streaming, count: int, since: "_WrittenSlots | None" = None
    ) -> None:
        """Wait until `count` more slots of this stream have reached memory, as the recording shows it."""
        seen = since or _WrittenSlots(self.bench, stream.index)
        limit = self.bench.experiment.deadlines.command_s
        await self.bench.until(
            lambda: seen.count() >= count, f"{count} slots of {stream.spec.id} in memory", limit
        )


class _WrittenSlots:
    """Counts the stream writes of one function that reached memory, from now on."""

    def __init__(self, bench: Bench, function: int) -> None:
        self._bench = bench
        self._function = function
        self._next = bench.recording.head
        self._total = 0

    def count(self) -> int:
        """How many since this object was made."""
        head = self._bench.recording.head
        records = self._bench.recording.view(self._next, head)
        assert records.dtype == RECORD
        published = records["seq"] != 0
        if not published.all():  # a claimed slot is being written: look again from there
            records = records[: int(np.argmin(published))]
        self._next += len(records)
        written = (
            (records["kind"] == Kind.DMA_WRITE)
            & (records["function"] == self._function)
            & ((records["flags"] & (Flag.STREAM | Flag.BLOCKED)) == Flag.STREAM)
        )
        self._total += int(np.count_nonzero(written))
        return self._total
