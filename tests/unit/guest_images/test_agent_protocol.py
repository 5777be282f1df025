# SPDX-License-Identifier: MIT
"""The agent itself, compiled for this machine, over a socket pair: what it does with lines good and bad."""

import asyncio
import errno
import json
import socket
import subprocess
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import guest_images
from qemu_plugin.machine.agent import AgentChannel, LineFaultError
from qemu_plugin.machine.agent_line import LineCodec, Message, Reply, encode

AGENT = Path(guest_images.__file__).parent / "agent"
WAIT_S = 10.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("agent") / "agent"
    sources = sorted(path.name for path in AGENT.glob("*.c"))
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address"]
    subprocess.run(["gcc", *flags, "-o", str(output), *sources], cwd=AGENT, check=True)
    return output


class Host:
    """A host that may say anything, and reads with the codec that the bench uses."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.codec = LineCodec()
        self._messages: list[Message] = []

    def receive(self) -> Message:
        while not self._messages:
            data = self.connection.recv(1 << 16)
            assert data, "the agent closed the channel"
            self._messages += [self.codec.receive(line) for line in self.codec.feed(data)]
        return self._messages.pop(0)

    def say(self, line: bytes) -> Message:
        self.connection.sendall(line)
        return self.receive()

    def command(self, name: str, **members: str | int) -> Reply:
        reply = self.say(self.codec.send({"cmd": name, **members})[1])
        assert isinstance(reply, Reply)
        return reply


@contextmanager
def agent(program: Path) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [str(program), "--channel", f"fd:{theirs.fileno()}"]
        with subprocess.Popen(argv, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process:
            theirs.close()
            ours.settimeout(WAIT_S)
            try:
                yield ours, process
            finally:
                ours.close()
                process.wait(WAIT_S)


@pytest.fixture
def host(program: Path) -> Iterator[Host]:
    with agent(program) as (connection, _):
        speaker = Host(connection)
        assert speaker.receive()["event"] == "hello"
        yield speaker


def crafted(body: str) -> bytes:
    """A line with a good crc whatever is in it; `body` lacks its closing brace."""
    return body.encode() + b',"crc":"%08x"}\n' % zlib.crc32(body.encode())


def test_the_hello_says_which_kernel_this_is_and_that_nothing_was_handed_over(program: Path) -> None:
    with agent(program) as (connection, _):
        hello = Host(connection).receive()

    assert hello["seq"] == 1
    assert hello["release"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert (hello["incoming"], hello["update"], hello["kho"], hello["luo_number"]) == (False, 0, False, 0)


def test_a_ping_is_answered_with_its_number(host: Host) -> None:
    first, second = host.command("ping"), host.command("ping")

    assert (first.ok, first["re"], second["re"]) == (True, 1, 2)


def test_the_devices_are_those_of_sysfs(host: Host) -> None:
    functions = Path("/sys/bus/pci/devices")
    names = sorted(path.name for path in functions.iterdir()) if functions.is_dir() else None

    reply = host.command("devices")

    if names is None:
        assert reply.errno == errno.ENOENT
    else:
        assert sorted(name for name, _, _ in reply["devices"]) == names


def test_the_state_is_told_of_each_function_asked_for_and_of_one_that_is_not_there(host: Host) -> None:
    functions = Path("/sys/bus/pci/devices")
    present = sorted(path.name for path in functions.iterdir())[:2] if functions.is_dir() else []

    reply = host.command("state", bdfs=" ".join([*present, "ffff:ff:1f.7"]))

    if not functions.is_dir():
        assert reply.errno == errno.ENOENT
        return
    *told, absent = reply["functions"]
    assert [entry["bdf"] for entry in told] == present
    assert absent == {"bdf": "ffff:ff:1f.7", "absent": True}
    for entry in told:
        enabled = (functions / entry["bdf"] / "enable").read_text().strip()
        assert (str(entry["enable"]), "absent" in entry) == (enabled, False)


def test_the_state_of_what_is_no_function_is_refused(host: Host) -> None:
    reply = host.command("state", bdfs="0000:00:00.0 ../../../../etc")

    assert reply.errno == errno.EINVAL


def test_the_interrupts_are_sums_of_rows(host: Host) -> None:
    counts = host.command("interrupts")["counts"]

    assert all(isinstance(count, int) and count > 0 for count in counts.values())


@pytest.mark.parametrize(
    "body",
    [
        '{"seq":1,"cmd":"ping","more":{}',
        '{"seq":1,"cmd":"ping","more":[1]',
        '{"seq":1,"cmd":"ping","more":null',
        '{"seq":1,"cmd":"ping","more":-1',
        '{"seq":1,"cmd":"ping","more":1.5',
        '{"seq":1,"cmd":"ping","more":18446744073709551616',
        '{"seq":1,"cmd":"ping","cmd":"poweroff"',
        '{"seq":1,"cmd":"pi\\x6eg"',
        '{"seq":1,"cmd":"\\ud800"',
        '{"seq":1,"cmd":"ping"}{"seq":2',
        '{"seq":1,,"cmd":"ping"',
        '{"cmd":"ping"',
        '{"seq":"1","cmd":"ping"',
        "{" + ",".join(f'"m{number}":0' for number in range(40)),
        "",
    ],
)
def test_a_malformed_line_is_reported_and_does_not_end_the_agent(host: Host, body: str) -> None:
    event = host.say(crafted(body))

    assert (event["event"], event["errno"], event["unanswered"]) == ("error", errno.EBADMSG, True)
    assert host.command("ping").ok


def test_a_line_with_another_crc_is_reported_with_both(host: Host) -> None:
    line = encode(1, {"cmd": "ping"})

    event = host.say(line.replace(b"ping", b"pinG"))

    assert event["errno"] == errno.EBADMSG
    assert line[-11:-3].decode() in event["what"]
    assert host.command("ping").ok


def test_a_line_without_a_crc_is_reported(host: Host) -> None:
    assert "does not end in a crc" in host.say(b'{"seq":1,"cmd":"ping"}\n')["what"]
    assert host.command("ping").ok


def test_a_line_longer_than_the_buffer_is_dropped_whole_and_reported(host: Host) -> None:
    event = host.say(crafted('{"seq":1,"cmd":"ping","more":"' + "x" * 100_000 + '"'))

    assert (event["event"], event["errno"], event["unanswered"]) == ("error", errno.EMSGSIZE, True)
    assert host.command("ping").ok


def test_the_longest_line_that_the_host_may_send_is_taken(host: Host) -> None:
    empty = len(encode(1, {"cmd": "ping", "more": ""}))

    assert host.command("ping", more="x" * (16384 - empty)).ok


def test_a_skipped_number_is_refused_and_the_next_one_is_taken(host: Host) -> None:
    refused = host.say(encode(3, {"cmd": "ping"}))
    taken = host.say(encode(4, {"cmd": "ping"}))

    assert isinstance(refused, Reply)
    assert (refused["re"], refused.ok, refused.errno) == (3, False, errno.EPROTO)
    assert taken["ok"] is True


def test_a_repeated_number_is_refused_and_not_carried_out_twice(host: Host) -> None:
    assert host.command("ping").ok

    repeated = host.say(encode(1, {"cmd": "ping"}))

    assert (repeated["re"], repeated["ok"], repeated["errno"]) == (1, False, errno.EPROTO)


def test_an_unknown_command_is_refused_by_name(host: Host) -> None:
    reply = host.command("brew", pot="tea")

    assert (reply.ok, reply.errno) == (False, errno.ENOSYS)
    assert "brew" in reply.error


def test_a_line_without_a_command_is_refused(host: Host) -> None:
    reply = host.say(crafted('{"seq":1'))

    assert (reply["re"], reply["errno"]) == (1, errno.EINVAL)
    assert '"cmd" is missing' in reply["error"]


@pytest.mark.parametrize("name", ["poweroff", "freeze", "load", "config", "buffer", "fill", "stream", "arm"])
def test_outside_a_guest_nothing_that_touches_the_machine_is_done(host: Host, name: str) -> None:
    reply = host.command(name)

    assert (reply.ok, reply.errno) == (False, errno.EPERM)


def test_escapes_reach_the_agent_as_what_they_stand_for(host: Host) -> None:
    reply = host.command('té"a\\\n\x7f')

    assert json.dumps(reply.error, ensure_ascii=True) == json.dumps(
        'unknown command "tÃ©"a\\\n\x7f"', ensure_ascii=True
    ), "bytes beyond ASCII come back one by one: the agent knows no code points"


def test_lines_may_arrive_in_pieces_and_together(host: Host) -> None:
    lines = b"".join(host.codec.send({"cmd": "ping"})[1] for _ in range(3))

    host.connection.sendall(lines[:7])
    host.connection.sendall(lines[7:])

    assert [host.receive()["re"] for _ in range(3)] == [1, 2, 3]


def test_empty_lines_are_nothing(host: Host) -> None:
    host.connection.sendall(b"\n\n")

    assert host.command("ping").ok


def test_the_agent_ends_when_the_host_closes_the_channel(program: Path) -> None:
    with agent(program) as (connection, process):
        Host(connection).receive()
        connection.close()
        assert process.wait(WAIT_S) == 0


def test_a_channel_that_is_not_there_is_an_exit_status_and_a_reason(program: Path) -> None:
    run = subprocess.run([str(program), "--channel", "/nonexistent"], capture_output=True, check=False)

    assert run.returncode == 3
    assert b"/nonexistent" in run.stderr


PIECES = st.one_of(
    st.sampled_from(
        [
            '"',
            "\\",
            "{",
            "}",
            "[",
            ",",
            ":",
            '"seq":',
            '"cmd":"ping"',
            "\\u00e9",
            "\\u",
            "-",
            "9" * 25,
            "true",
        ]
    ),
    st.text(max_size=6),
)


def test_no_line_however_mangled_ends_the_agent(program: Path) -> None:
    with agent(program) as (connection, process):
        speaker = Host(connection)
        speaker.receive()

        @settings(max_examples=300, deadline=None)
        @given(st.lists(PIECES, max_size=12))
        def every_line_is_answered(pieces: list[str]) -> None:
            body = "".join(pieces).replace("\n", "").replace("\r", "")
            answer = speaker.say(crafted(body))
            assert answer.get("errno") or answer["ok"]

        every_line_is_answered()
        assert process.poll() is None


@asynccontextmanager
async def channel(program: Path) -> AsyncIterator[tuple[AgentChannel, list[tuple[int, str, bool]]]]:
    lines: list[tuple[int, str, bool]] = []

    def on_line(t_ns: int, line: str, is_to_guest: bool) -> None:
        lines.append((t_ns, line, is_to_guest))

    with agent(program) as (connection, _):
        reader, writer = await asyncio.open_connection(sock=connection)
        served = AgentChannel(reader, writer, on_line=on_line)
        try:
            yield served, lines
        finally:
            await served.close()


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_the_bench_and_the_agent_understand_each_other(program: Path) -> None:
    async def scenario() -> None:
        async with channel(program) as (served, lines):
            hello = await served.event("hello", timeout_s=WAIT_S)
            reply = await served.command("ping", timeout_s=WAIT_S)
            refused = await served.command("poweroff", timeout_s=WAIT_S)

            assert hello["seq"] == 1
            assert reply.ok
            assert (refused.ok, refused.errno) == (False, errno.EPERM)
            assert [is_to_guest for _, _, is_to_guest in lines] == [False, True, False, True, False]
            assert [t_ns for t_ns, _, _ in lines] == sorted(t_ns for t_ns, _, _ in lines)

    run(scenario())


def test_a_line_lost_on_its_way_to_the_agent_is_a_fault_of_the_command(program: Path) -> None:
    async def scenario() -> None:
        async with channel(program) as (served, _):
            await served.event("hello", timeout_s=WAIT_S)
            damaged = encode(1, {"cmd": "ping"}).replace(b"ping", b"pong")
            served._writer.write(damaged)
            with pytest.raises(LineFaultError, match="did not understand"):
                while True:
                    await served.command("ping", timeout_s=WAIT_S)

    run(scenario())
