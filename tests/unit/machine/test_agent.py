# SPDX-License-Identifier: MIT
import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from qemu_plugin.machine.agent import (
    AgentChannel,
    AgentLostError,
    AgentTimeoutError,
    LineFaultError,
    Message,
    OnLine,
    Reply,
)
from qemu_plugin.machine.agent_line import LINE_BYTES_MAX, LineCodec, encode

WAIT_S = 10.0
SOON_S = 0.05


class Guest:
    """An agent that says what the test wants, over the other end of the stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sent = 0
        self._received = LineCodec()

    def say_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def say(self, **members: str | int) -> None:
        self._sent += 1
        self.say_bytes(encode(self._sent, members))

    def hello(self) -> None:
        self._sent = 0
        self._received = LineCodec()
        self.say(event="hello", update=0)

    async def hear(self) -> Message:
        return self._received.receive((await self._reader.readline()).rstrip(b"\n"))

    async def answer(self, **members: str | int) -> None:
        command = await self.hear()
        self.say(re=command["seq"], **({"ok": True} | members))

    def hang_up(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(on_line: OnLine | None = None) -> AsyncIterator[tuple[AgentChannel, Guest]]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    guest = Guest(reader, writer)
    channel = AgentChannel(*await asyncio.open_connection(sock=ours), on_line=on_line)
    try:
        yield channel, guest
    finally:
        guest.hang_up()
        await channel.close()


def drive(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            await scenario()

    asyncio.run(bounded())


def test_a_line_says_its_number_first_and_the_crc_of_all_before_it_last() -> None:
    assert encode(1, {"cmd": "ping"}) == b'{"seq":1,"cmd":"ping","crc":"1f619f85"}\n'


def test_what_one_side_encodes_the_other_decodes() -> None:
    members: dict[str, str | int] = {
        "cmd": "load",
        "cmdline": 'a "b" \\ é\n',
        "token": (1 << 64) - 1,
        "debug": True,
    }

    message = LineCodec().receive(encode(1, members)[:-1], 17)

    assert dict(message) == {"seq": 1, **members}
    assert message.arrived_ns == 17


@pytest.mark.parametrize("value", [None, 1.5, [1], {"a": 1}, b"x"])
def test_a_member_that_is_not_flat_is_the_callers_mistake(value: object) -> None:
    with pytest.raises(TypeError, match="'pages'"):
        encode(1, {"pages": value})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_number_that_the_agent_cannot_hold_is_the_callers_mistake(value: int) -> None:
    with pytest.raises(ValueError, match="'pages'"):
        encode(1, {"pages": value})


def test_a_command_longer_than_the_agents_buffer_is_the_callers_mistake_and_uses_up_no_number() -> None:
    codec = LineCodec()

    with pytest.raises(ValueError, match="longer than 16384"):
        codec.send({"cmd": "load", "cmdline": "x" * 16384})

    assert codec.send({"cmd": "ping"})[0] == 1


@pytest.mark.parametrize("index", range(len(encode(1, {"event": "hello"})) - 1))
def test_no_single_flipped_bit_passes_for_a_good_line(index: int) -> None:
    line = bytearray(encode(1, {"event": "hello"})[:-1])
    line[index] ^= 0x10

    with pytest.raises(LineFaultError):
        LineCodec().receive(bytes(line))


def test_a_missing_line_is_named_by_the_numbers_on_either_side_and_the_next_is_good_again() -> None:
    codec = LineCodec()
    codec.receive(encode(1, {"event": "hello"})[:-1])

    with pytest.raises(LineFaultError, match="line 3 came where 2 was due"):
        codec.receive(encode(3, {"event": "x"})[:-1])

    assert codec.receive(encode(4, {"event": "y"})[:-1])["event"] == "y"


def test_only_a_hello_may_start_the_numbers_again() -> None:
    codec = LineCodec()
    codec.receive(encode(1, {"event": "hello"})[:-1])
    codec.receive(encode(2, {"event": "frozen"})[:-1])

    with pytest.raises(LineFaultError):
        codec.receive(encode(1, {"event": "frozen"})[:-1])
    codec.send({"cmd": "ping"})
    codec.receive(encode(1, {"event": "hello"})[:-1])

    assert codec.send({"cmd": "ping"})[0] == 1


def test_lines_come_out_whole_however_they_arrive() -> None:
    data = b"".join(encode(number, {"event": "e"}) for number in range(1, 4))
    codec = LineCodec()

    lines = [line for index in range(len(data)) for line in codec.feed(data[index : index + 1])]

    assert lines == LineCodec().feed(data) == data.splitlines()


def test_a_line_without_an_end_is_a_fault_and_not_a_full_memory() -> None:
    codec = LineCodec()

    with pytest.raises(LineFaultError, match="without a newline"):
        codec.feed(b"x" * (LINE_BYTES_MAX + 1))

    assert codec.unfinished == b""


def test_a_command_waits_for_the_hello_and_gets_its_own_reply() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            first = tasks.create_task(channel.command("ping", timeout_s=WAIT_S))
            guest.hello()
            command = await guest.hear()
            second = tasks.create_task(channel.command("devices", timeout_s=WAIT_S))
            other = await guest.hear()
            guest.say(re=other["seq"], ok=True, devices="none")
            guest.say(re=command["seq"], ok=True)

            assert (command["cmd"], other["cmd"]) == ("ping", "devices")
            assert "devices" not in await first
            assert (await second)["devices"] == "none"

    drive(scenario)


def test_a_refusal_is_a_reply_with_the_guests_errno() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            guest.hello()
            tasks.create_task(guest.answer(ok=False, errno=16, error="busy"))
            reply = await channel.command("buffer", timeout_s=WAIT_S, pages=64)

            assert isinstance(reply, Reply)
            assert (reply.ok, reply.errno, reply.error) == (False, errno.EBUSY, "busy")

    drive(scenario)


def test_events_are_taken_by_name_and_the_others_stay() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest):
            guest.hello()
            guest.say(event="frozen")
            guest.say(event="reboot_failed", errno=22)

            failed = await channel.event("hello_again", "reboot_failed", timeout_s=WAIT_S)
            frozen = await channel.event("frozen", timeout_s=WAIT_S)

            assert (failed["errno"], frozen["seq"]) == (22, 2)

    drive(scenario)


def test_a_deadline_says_what_was_awaited_and_what_came_instead() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest):
            guest.hello()
            await channel.event("hello", timeout_s=WAIT_S)
            guest.say(event="error", what="x", errno=5)
            with pytest.raises(AgentTimeoutError, match=r"no frozen from the agent .* the agent said error"):
                await channel.event("frozen", timeout_s=SOON_S)
            with pytest.raises(AgentTimeoutError, match=r"no the reply to ping .* the agent said nothing"):
                await channel.command("ping", timeout_s=SOON_S)

    drive(scenario)


def test_a_reply_after_its_deadline_disturbs_nothing() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            guest.hello()
            with pytest.raises(AgentTimeoutError):
                await channel.command("fill", timeout_s=SOON_S)
            await guest.answer()
            tasks.create_task(guest.answer())

            assert (await channel.command("ping", timeout_s=WAIT_S)).ok

    drive(scenario)


def test_a_damaged_line_fails_the_command_under_way_and_all_after_it() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            guest.hello()
            pending = tasks.create_task(_fault_of(channel.command("ping", timeout_s=WAIT_S)))
            await guest.hear()
            guest.say_bytes(encode(2, {"re": 1, "ok": True}).replace(b"true", b"tru3"))

            assert "says" in str(await pending)
            with pytest.raises(LineFaultError):
                await channel.command("ping", timeout_s=WAIT_S)
            with pytest.raises(LineFaultError):
                await channel.event("frozen", timeout_s=WAIT_S)

    drive(scenario)


async def _fault_of(wait: Awaitable[object]) -> LineFaultError:
    with pytest.raises(LineFaultError) as caught:
        await wait
    return caught.value


def test_a_line_cut_short_by_a_reset_does_not_hide_the_hello_that_follows() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            guest.hello()
            await channel.event("hello", timeout_s=WAIT_S)
            guest.say_bytes(encode(2, {"event": "frozen"})[:20] + b"\n")
            guest.hello()

            assert (await channel.event("hello", timeout_s=WAIT_S))["seq"] == 1
            assert channel.fault is None
            tasks.create_task(guest.answer())
            assert (await channel.command("ping", timeout_s=WAIT_S)).ok

    drive(scenario)


def test_a_new_boot_fails_the_command_that_the_old_one_never_answered() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            guest.hello()
            pending = tasks.create_task(_loss_of(channel.command("fill", timeout_s=WAIT_S)))
            await guest.hear()
            guest.hello()

            assert "booted anew" in str(await pending)

    drive(scenario)


async def _loss_of(wait: Awaitable[object]) -> AgentLostError:
    with pytest.raises(AgentLostError) as caught:
        await wait
    return caught.value


def test_the_end_of_the_channel_fails_every_wait_and_says_what_was_half_said() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            guest.hello()
            waits = [
                tasks.create_task(_loss_of(channel.command("ping", timeout_s=WAIT_S))),
                tasks.create_task(_loss_of(channel.event("frozen", timeout_s=WAIT_S))),
            ]
            await guest.hear()
            guest.say_bytes(b'{"seq":2,"re"')
            guest.hang_up()

            for wait in waits:
                assert '{"seq":2,"re"' in str(await wait)
            with pytest.raises(AgentLostError):
                await channel.send("frozen_ack")

    drive(scenario)


def test_a_line_of_the_hosts_that_the_agent_could_not_read_is_a_fault() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest), asyncio.TaskGroup() as tasks:
            guest.hello()
            pending = tasks.create_task(_fault_of(channel.command("ping", timeout_s=WAIT_S)))
            await guest.hear()
            guest.say(event="error", what="crc", errno=74, unanswered=True)

            assert "crc" in str(await pending)

    drive(scenario)


def test_an_answer_that_nobody_asked_for_is_a_fault() -> None:
    async def scenario() -> None:
        async with connected() as (channel, guest):
            guest.hello()
            guest.say(re=9, ok=True)

            assert "awaits no answer" in str(await _fault_of(channel.event("frozen", timeout_s=WAIT_S)))

    drive(scenario)


def test_every_line_is_handed_over_with_a_time_between_before_and_after() -> None:
    lines: list[tuple[int, str, bool]] = []

    async def scenario() -> None:
        async with (
            connected(lambda *line: lines.append(line)) as (channel, guest),
            asyncio.TaskGroup() as tasks,
        ):
            guest.hello()
            tasks.create_task(guest.answer())
            await channel.command("ping", timeout_s=WAIT_S)
            guest.say_bytes(b"noise\n")
            await _fault_of(channel.event("frozen", timeout_s=WAIT_S))

    began_ns = time.monotonic_ns()
    drive(scenario)
    times = [began_ns, *(t_ns for t_ns, _, _ in lines), time.monotonic_ns()]

    assert [is_to_guest for _, _, is_to_guest in lines] == [False, True, False, False]
    assert lines[1][1] == encode(1, {"cmd": "ping"})[:-1].decode()
    assert lines[3][1] == "noise"
    assert times == sorted(times)


def test_a_handler_that_fails_ends_the_waits_instead_of_hanging_them() -> None:
    def on_line(t_ns: int, line: str, is_to_guest: bool) -> None:
        raise RuntimeError("disk full")

    async def scenario() -> None:
        async with connected(on_line) as (channel, guest):
            guest.hello()
            with pytest.raises(AgentLostError, match="disk full"):
                await channel.event("hello", timeout_s=WAIT_S)

    drive(scenario)
