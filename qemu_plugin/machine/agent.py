# SPDX-License-Identifier: MIT
"""Commands to the guest's agent and what comes back, over the stream that is its second serial port.

The protocol itself is in `agent_line`; the commands and their members are in `guest_images/agent`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from qemu_plugin.errors import BenchError
from qemu_plugin.machine.agent_line import LineCodec, excerpt
from qemu_plugin.machine.agent_line import LineFaultError as LineFaultError
from qemu_plugin.machine.agent_line import Message as Message
from qemu_plugin.machine.agent_line import Reply as Reply

RECENT_LINES: Final = 6

OnLine = Callable[[int, str, bool], object]
"""Called for each line: CLOCK_MONOTONIC ns, the text without its newline, whether it goes to the guest."""


class AgentLostError(BenchError):
    """The agent's end of the channel is gone, or a new boot of the guest has taken its place."""


class AgentTimeoutError(BenchError):
    """The agent did not say in time what was waited for; the text tells what it said instead."""


class AgentChannel:
    """Commands to the agent and what comes back, over the stream that is the guest's second serial port.

    Reading begins at once. A damaged or missing line is a *fault*: it fails the commands under way and every
    wait after it, until a hello starts afresh; a wait for the hello itself outlives it. The end of the stream
    fails everything.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, on_line: OnLine | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_line = on_line
        self._codec = LineCodec()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._given_up: set[int] = set()
        self._events: list[Message] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._recent: deque[tuple[int, str]] = deque(maxlen=RECENT_LINES)
        self._has_hello = False
        self._fault: LineFaultError | None = None
        self._lost: AgentLostError | None = None
        # Owned: close() ends and awaits it, and _read turns whatever stops it into self._lost.
        self._task = asyncio.get_running_loop().create_task(self._read())

    @property
    def fault(self) -> LineFaultError | None:
        """The damage since the last hello, if any."""
        return self._fault

    async def command(self, name: str, /, *, timeout_s: float = 10.0, **members: str | int) -> Reply:
        """Send a command, after the agent's hello, and return its reply: a refusal is returned, not raised.

        AgentTimeoutError, AgentLostError or LineFaultError where no reply can be had; whether the guest has
        carried the command out is then unknown.
        """
        began_ns = time.monotonic_ns()
        what = f"the reply to {name}"
        try:
            async with asyncio.timeout(timeout_s):
                while not self._has_hello:
                    await self._next_line()
                reply = await self._send_for_reply(name, members)
        except TimeoutError:
            raise self._timeout(what, timeout_s, began_ns) from None
        return reply

    async def send(self, name: str, /, **members: str | int) -> None:
        """Send a command that has no reply (`frozen_ack`)."""
        self._check()
        await self._write({"cmd": name, **members})

    async def event(self, *names: str, timeout_s: float) -> Message:
        """Take the earliest event of these names that nobody has taken; wait for it if there is none.

        Errors as `command`. Events of other names stay where they are.
        """
        began_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for index, event in enumerate(self._events):
                        if event.get("event") in names:
                            return self._events.pop(index)
                    self._check(tolerates_fault="hello" in names)
                    await self._next_line()
        except TimeoutError:
            raise self._timeout(" or ".join(names), timeout_s, began_ns) from None

    async def close(self) -> None:
        """Stop reading and close the stream; waits that are under way fail. Never raises for what is gone."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._lose(AgentLostError("the agent channel was closed"))
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _send_for_reply(self, name: str, members: Mapping[str, str | int]) -> Reply:
        self._check()
        seq = await self._write({"cmd": name, **members})
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[seq] = future
        try:
            return await future
        finally:
            if self._replies.get(seq) is future:
                del self._replies[seq]
                self._given_up.add(seq)

    async def _write(self, members: Mapping[str, str | int]) -> int:
        seq, line = self._codec.send(members)
        if self._on_line is not None:
            self._on_line(time.monotonic_ns(), line[:-1].decode(), True)
        self._writer.write(line)
        try:
            await self._writer.drain()
        except OSError as error:
            raise AgentLostError(
                f"the agent channel broke while {members.get('cmd')} was sent: {error}"
            ) from error
        return seq

    async def _read(self) -> None:
        reason = "the guest closed the agent channel"
        try:
            while data := await self._reader.read(1 << 16):
                self._take(data, time.monotonic_ns())
        except OSError as error:
            reason = f"the agent channel broke: {error}"
        except Exception as error:  # of on_line's: waits must not hang on it
            reason = f"a line of the agent's could not be handled: {error!r}"
        if self._codec.unfinished:
            reason += f", in the middle of a line: {excerpt(self._codec.unfinished)}"
        self._lose(AgentLostError(f"{reason}; before that {self._said()}"))

    def _take(self, data: bytes, arrived_ns: int) -> None:
        try:
            lines = self._codec.feed(data)
        except LineFaultError as error:
            self._fail(error)
            return
        for line in lines:
            if self._on_line is not None:
                self._on_line(arrived_ns, line.decode(errors="backslashreplace"), False)
            try:
                message = self._codec.receive(line, arrived_ns)
            except LineFaultError as error:
                self._recent.append((arrived_ns, "a damaged line"))
                self._fail(error)
            else:
                self._recent.append((arrived_ns, message.name))
                self._dispatch(message)
        self._wake()

    def _dispatch(self, message: Message) -> None:
        if isinstance(message, Reply):
            self._answer(message)
            return
        if message.get("event") == "hello":
            self._restart()
        self._events.append(message)
        if message.get("unanswered"):
            self._fail(
                LineFaultError(f"the agent did not understand a line of the host's: {message.get('what')}")
            )

    def _answer(self, reply: Reply) -> None:
        future = self._replies.pop(reply["re"], None)
        if future is not None and not future.done():
            future.set_result(reply)
        elif reply["re"] in self._given_up:
            self._given_up.discard(reply["re"])
        else:
            self._fail(
                LineFaultError(f"the agent answers line {reply['re']}, which awaits no answer: {reply!r}")
            )

    def _restart(self) -> None:
        self._has_hello = True
        self._fault = None
        self._given_up.clear()
        self._fail_replies(AgentLostError("the guest booted anew before it replied"))

    def _fail(self, fault: LineFaultError) -> None:
        self._fault = self._fault or fault
        self._fail_replies(fault)

    def _lose(self, error: AgentLostError) -> None:
        self._lost = self._lost or error
        self._fail_replies(self._lost)
        self._wake()

    def _fail_replies(self, error: Exception) -> None:
        for future in self._replies.values():
            if not future.done():
                future.set_exception(error)
        self._replies.clear()

    def _check(self, *, tolerates_fault: bool = False) -> None:
        if self._lost is not None:
            raise self._lost
        if self._fault is not None and not tolerates_fault:
            raise self._fault

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _next_line(self) -> None:
        if self._lost is not None:
            raise self._lost
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _said(self, since_ns: int = 0) -> str:
        said = [name for arrived_ns, name in self._recent if arrived_ns >= since_ns]
        return f"the agent said {', '.join(said)}" if said else "the agent said nothing"

    def _timeout(self, what: str, timeout_s: float, began_ns: int) -> AgentTimeoutError:
        text = f"no {what} from the agent within {timeout_s:g} s; since then {self._said(began_ns)}"
        if self._codec.unfinished:
            text += f" and began a line: {excerpt(self._codec.unfinished)}"
        if self._fault is not None:
            text += f"; earlier: {self._fault}"
        return AgentTimeoutError(text)
