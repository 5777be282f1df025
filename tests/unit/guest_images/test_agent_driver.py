# SPDX-License-Identifier: MIT
"""The agent where the kernel has a driver for the endpoint: the same commands, asked of the driver.

Driver, orchestrator and config space are those of `fake_driver.c`; that they are like the real ones a guest
has to show.
"""

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import guest_images
from qemu_plugin.machine.agent_line import LineCodec, Message, Reply

AGENT = Path(guest_images.__file__).parent / "agent"
FAKE = Path(__file__).parent / "fake_driver.c"
WRAPPED = ("open", "access", "opendir", "ioctl", "close")
BDF = "0000:03:00.0"
WAIT_S = 10.0
NO_REGISTER_IS_WRITTEN = {"write config", "write enable", "write resource0"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("agent")
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address"]
    sources = sorted(str(path) for path in AGENT.glob("*.c") if path.name != "main.c")
    main = directory / "main.o"
    subprocess.run(
        ["gcc", *flags, "-Dmain=main_of_the_agent", "-c", "-o", main, AGENT / "main.c"], check=True
    )
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
    output = directory / "agent"
    subprocess.run(["gcc", *flags, f"-I{AGENT}", *wraps, "-o", output, FAKE, main, *sources], check=True)
    return output


@dataclass
class Guest:
    """The agent in a guest with one endpoint that has a driver."""

    connection: socket.socket
    codec: LineCodec
    log: Path
    hello: Message

    def command(self, name: str, /, **members: str | int) -> Reply:
        self.connection.sendall(self.codec.send({"cmd": name, **members})[1])
        reply = _receive(self.connection, self.codec)
        assert isinstance(reply, Reply)
        return reply

    @property
    def asked(self) -> list[str]:
        """What driver and orchestrator were asked, and which files of the function were opened for what."""
        return self.log.read_text().splitlines() if self.log.exists() else []


def _receive(connection: socket.socket, codec: LineCodec) -> Message:
    while True:
        data = connection.recv(1 << 16)
        assert data, "the agent closed the channel"
        for line in codec.feed(data):
            return codec.receive(line)


@contextmanager
def guest(program: Path, where: Path, has_driver: bool = True, **settings: int) -> Iterator[Guest]:
    (where / "dev").mkdir()
    if has_driver:
        (where / "dev" / f"luscope-{BDF}").touch()
    fakes = {"FAKE_DEV": str(where / "dev"), "FAKE_LOG": str(where / "log")}
    environment = {**os.environ, **fakes, **{name: str(value) for name, value in settings.items()}}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [str(program), f"fd:{theirs.fileno()}"]
        with subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=environment) as process:
            theirs.close()
            ours.settimeout(WAIT_S)
            codec = LineCodec()
            try:
                yield Guest(ours, codec, where / "log", _receive(ours, codec))
            finally:
                ours.close()
                process.wait(WAIT_S)


def preserved(agent: Guest) -> Reply:
    assert agent.command("session", name="s").ok
    return agent.command("buffer", bdf=BDF, pages=4, preserve=1, token=26)


@pytest.mark.parametrize("has_driver", [True, False])
def test_the_hello_says_whether_there_is_a_driver(program: Path, tmp_path: Path, has_driver: bool) -> None:
    with guest(program, tmp_path, has_driver) as agent:
        assert agent.hello["driver"] is has_driver


def test_a_buffer_is_the_drivers_ring_and_its_file_is_what_is_preserved(
    program: Path, tmp_path: Path
) -> None:
    with guest(program, tmp_path) as agent:
        reply = preserved(agent)

    assert (reply.ok, reply["report"], reply["driver"], reply["token"]) == (True, "preserve", True, 26)
    assert (reply["ranges"], reply["mailbox_gpa"]) == ([[0x1000, 4]], 0x1004 * 4096)
    assert agent.asked == ["open", "setup 4", "preserve 1 26"]


def test_a_buffer_that_is_not_preserved_is_the_drivers_too(program: Path, tmp_path: Path) -> None:
    with guest(program, tmp_path) as agent:
        reply = agent.command("buffer", bdf=BDF, pages=4)

    assert (reply.ok, reply["driver"], reply["ranges"]) == (True, True, [[0x1000, 4]])
    assert "report" not in reply


def test_a_stream_is_armed_started_claimed_and_stopped_without_a_write_past_the_driver(
    program: Path, tmp_path: Path
) -> None:
    with guest(program, tmp_path) as agent:
        preserved(agent)
        replies = [
            agent.command("arm", bdf=BDF, vector=0, guest_vector=0xF7),
            agent.command(
                "stream", bdf=BDF, period_ns=1000, interrupt_every=8, generation=2, interrupt_enable=1
            ),
            agent.command("claim", bdf=BDF),
            agent.command("stop", bdf=BDF),
        ]

    assert [(reply.ok, reply["driver"]) for reply in replies] == [(True, True)] * 4
    assert (replies[2]["command_before"], replies[2]["command_after"]) == (6, 6)
    assert [line for line in agent.asked if line.split()[0] in ("start", "stop")] == [
        "start 1000 8 2",
        "stop",
    ]
    assert not NO_REGISTER_IS_WRITTEN & set(agent.asked)


def test_a_stream_without_interrupts_asks_for_none(program: Path, tmp_path: Path) -> None:
    with guest(program, tmp_path) as agent:
        agent.command("buffer", bdf=BDF, pages=4)
        agent.command("stream", bdf=BDF, period_ns=1000, interrupt_every=8)

    assert "start 1000 0 0" in agent.asked


def test_the_status_has_what_the_driver_has_seen(program: Path, tmp_path: Path) -> None:
    with guest(program, tmp_path) as agent:
        reply = agent.command("status", bdf=BDF)

    assert (reply["driver"], reply["interrupts_seen"], reply["catch_up_seen"]) == (True, 7, 1)
    assert (reply["running"], reply["incoming"]) == (False, False)


def test_a_buffer_that_streams_is_not_replaced_and_one_that_is_preserved_neither(
    program: Path, tmp_path: Path
) -> None:
    with guest(program, tmp_path) as agent:
        agent.command("buffer", bdf=BDF, pages=4)
        agent.command("stream", bdf=BDF)
        streaming = agent.command("buffer", bdf=BDF, pages=4)
        agent.command("stop", bdf=BDF)
        preserved(agent)
        held = agent.command("buffer", bdf=BDF, pages=4)

    assert (streaming.errno, held.errno) == (errno.EBUSY, errno.EEXIST)


def test_what_is_retrieved_is_mapped_checked_and_finished(program: Path, tmp_path: Path) -> None:
    with guest(program, tmp_path, FAKE_PAGES=4) as agent:
        retrieved = agent.command("retrieve", session="s", token=26, bdf=BDF, pages=4)
        checked = agent.command("check", bdf=BDF)
        finished = agent.command("finish", session="s")

    assert (retrieved.ok, retrieved["driver"], retrieved["ranges"]) == (True, True, [[0x1000, 4]])
    assert (checked.ok, checked["driver"], checked["bad_count"]) == (True, True, 0)
    assert (finished["driver"], finished["buffers"]) == (True, [[BDF, 26]])


def test_a_page_that_was_refused_is_named_and_the_device_can_be_stopped(
    program: Path, tmp_path: Path
) -> None:
    with guest(program, tmp_path, FAKE_REFUSED=2) as agent:
        retrieved = agent.command("retrieve", session="s", token=26, bdf=BDF, pages=4)
        stopped = agent.command("stop", bdf=BDF)

    assert (retrieved.ok, retrieved.errno) == (False, errno.EFAULT)
    assert (retrieved["driver"], retrieved["page"]) == (True, 2)
    assert (stopped.ok, stopped["driver"]) == (True, True)


def test_without_a_driver_the_buffer_is_a_memfd(program: Path, tmp_path: Path) -> None:
    with guest(program, tmp_path, has_driver=False) as agent:
        reply = agent.command("buffer", bdf=BDF, pages=1)

    assert "driver" not in reply
    assert "open" not in agent.asked
