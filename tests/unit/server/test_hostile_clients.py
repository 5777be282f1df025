# SPDX-License-Identifier: MIT
"""Whatever a peer sends, the server answers or hangs up, and is ready for the next client."""

import contextlib
import errno
import gc
import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from pydev.recording.format import Kind
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client
from qemu_plugin.vfio_user.header import MESSAGE_MAX_BYTES, Command, Header, HeaderFlag, command
from qemu_plugin.vfio_user.memory import DmaMap
from qemu_plugin.vfio_user.region import RegionAccess
from qemu_plugin.vfio_user.version import Version

Events = Callable[[Kind], npt.NDArray[Any]]
ID = 0x4C555343
PAGE = 4096


def open_files() -> int:
    gc.collect()  # what earlier tests have left to be collected is not to go between two counts
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_serves(server: EndpointServer) -> None:
    with Client(server.socket_path) as client:
        assert client.read(0, 0) == ID


@pytest.mark.parametrize("size", [0, 1, 15, MESSAGE_MAX_BYTES + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_impossible_size_ends_the_connection_and_not_the_server(
    server: EndpointServer, events: Events, size: int
) -> None:
    with Client(server.socket_path) as client:
        client.send_raw(Header(1, Command.REGION_READ, size).encode())
        with pytest.raises(ConnectionError):
            client.receive()
    assert_serves(server)
    assert events(Kind.CLIENT)["error"].tolist()[:2] == [0, errno.EPROTO]


@pytest.mark.parametrize("kind", [1, 2, 15])
def test_a_message_that_is_no_command_ends_the_connection(server: EndpointServer, kind: int) -> None:
    with Client(server.socket_path) as client:
        client.send_raw(Header(1, Command.REGION_READ, 16, HeaderFlag(kind)).encode())
        with pytest.raises(ConnectionError):
            client.receive()
    assert_serves(server)


@pytest.mark.parametrize("sent", [1, 15, 16, 20, 31])
def test_a_client_that_leaves_inside_a_message_is_forgotten(
    server: EndpointServer, events: Events, sent: int
) -> None:
    with Client(server.socket_path) as client:
        client.send_raw(command(1, Command.REGION_READ, RegionAccess(0, 0, 4).encode())[:sent])
    assert_serves(server)
    assert events(Kind.CLIENT)["error"].tolist()[1] == errno.ECONNRESET


def test_a_client_that_leaves_between_messages_left_in_order(server: EndpointServer, events: Events) -> None:
    assert_serves(server)
    assert_serves(server)
    assert events(Kind.CLIENT)["error"].tolist()[:2] == [0, 0]


def test_a_message_may_come_byte_by_byte(client: Client) -> None:
    for byte in command(1, Command.REGION_READ, RegionAccess(0, 0, 4).encode()):
        client.send_raw(bytes([byte]))
    assert RegionAccess.decode(client.receive().payload).data == ID.to_bytes(4, "little")


def test_many_messages_may_come_at_once(client: Client) -> None:
    message = command(1, Command.REGION_READ, RegionAccess(0, 0, 4).encode())
    client.send_raw(message * 500)
    assert all(RegionAccess.decode(client.receive().payload).data for _ in range(500))


def test_messages_cut_anywhere_are_answered_alike(client: Client) -> None:
    stream = command(1, Command.REGION_READ, RegionAccess(0, 0, 4).encode()) * 40
    chance = random.Random(3)
    while stream:
        cut = chance.randint(1, 100)
        client.send_raw(stream[:cut])
        stream = stream[cut:]
    for _ in range(40):
        assert client.receive().header.size_bytes == 36


@pytest.mark.parametrize("cut", [1, 8, 16, 17, 47])
@pytest.mark.parametrize("with_tail", [False, True])
def test_a_file_stays_with_its_message_wherever_that_is_cut(
    server: EndpointServer, client: Client, ram: int, cut: int, with_tail: bool
) -> None:
    message = command(1, Command.DMA_MAP, DmaMap(0, PAGE).encode())
    before = command(2, Command.DEVICE_GET_INFO, bytes(16)) if with_tail else b""
    if with_tail:
        client.send_raw(before + message[:cut])
        client.send_raw(message[cut:], [ram])
    else:
        client.send_raw(message[:cut], [ram])
        client.send_raw(message[cut:])
    replies = [client.receive() for _ in range(2 if with_tail else 1)]
    assert not any(reply.header.is_error for reply in replies)
    assert server.engine.counts().files == 1


def test_files_of_pipelined_messages_each_stay_with_their_own(
    server: EndpointServer, client: Client, ram: int
) -> None:
    other = os.memfd_create("other", os.MFD_CLOEXEC)
    os.ftruncate(other, PAGE)
    half = command(1, Command.DMA_MAP, DmaMap(0, PAGE).encode())
    client.send_raw(half[:20], [ram])
    client.send_raw(half[20:] + command(2, Command.DEVICE_GET_INFO, bytes(16)))
    client.send_raw(command(3, Command.DMA_MAP, DmaMap(PAGE, PAGE).encode()))
    client.send_raw(command(4, Command.DMA_MAP, DmaMap(2 * PAGE, PAGE).encode()), [other])
    os.close(other)
    assert not any(client.receive().header.is_error for _ in range(4))
    assert (server.engine.counts().ranges, server.engine.counts().files) == (3, 2)


def test_files_on_a_message_that_takes_none_are_closed_and_it_is_refused(
    server: EndpointServer, client: Client, ram: int
) -> None:
    before = open_files()
    for number, payload in (
        (Command.REGION_READ, RegionAccess(0, 0, 4).encode()),
        (Command.REGION_WRITE, RegionAccess(0, 0x58, 4, bytes(4)).encode()),
    ):
        with pytest.raises(OSError, match=number.name):
            client.call(number, payload, [ram] * 3)
    client.call(Command.DEVICE_GET_INFO, bytes(16), [ram] * 3)
    assert open_files() == before
    assert server.engine.counts().files == 0


@pytest.mark.parametrize("count", [17, 100, 253])
def test_more_files_than_announced_are_refused_and_none_is_kept(
    server: EndpointServer, client: Client, ram: int, count: int
) -> None:
    before = open_files()
    with pytest.raises(OSError, match="DMA_MAP") as caught:
        client.call(Command.DMA_MAP, DmaMap(0, PAGE).encode(), [ram] * count)
    assert caught.value.errno == errno.EINVAL
    assert open_files() == before
    assert client.read(0, 0) == ID


def test_files_sent_with_bytes_that_never_become_a_message_are_closed(
    server: EndpointServer, ram: int
) -> None:
    with Client(server.socket_path) as first:
        first.read(0, 0)
        before = open_files()
    for _ in range(20):
        with Client(server.socket_path) as client:
            client.send_raw(command(1, Command.DMA_MAP, DmaMap(0, PAGE).encode())[:30], [ram, ram])
    with Client(server.socket_path) as last:
        last.read(0, 0)
        assert open_files() == before


@pytest.mark.parametrize("number", [c for c in Command if c is not Command.VERSION])
def test_nothing_is_served_before_the_version_is_agreed(server: EndpointServer, number: Command) -> None:
    with Client(server.socket_path, negotiate=False) as client:
        with pytest.raises(OSError, match=number.name) as caught:
            client.call(number, bytes(64))
        assert caught.value.errno == errno.EINVAL
        client.negotiate()
        assert client.read(0, 0) == ID


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\1\0\0\0", b"\0\0\0\0{no json}\0"])
def test_a_bad_version_is_refused_and_a_good_one_may_follow(server: EndpointServer, payload: bytes) -> None:
    with Client(server.socket_path, negotiate=False) as client:
        with pytest.raises(OSError, match="VERSION"):
            client.call(Command.VERSION, payload)
        assert client.negotiate().major == 0


def test_a_second_version_is_refused(client: Client) -> None:
    with pytest.raises(OSError, match="VERSION"):
        client.call(Command.VERSION, Version().encode())


@pytest.mark.parametrize(
    "number",
    [
        Command.DEVICE_GET_REGION_IO_FDS,
        Command.DEVICE_FEATURE,
        Command.MIG_DATA_READ,
        Command.MIG_DATA_WRITE,
    ],
)
def test_a_command_that_is_not_offered_is_not_supported(client: Client, number: Command) -> None:
    with pytest.raises(OSError, match=number.name) as caught:
        client.call(number, bytes(32))
    assert caught.value.errno == errno.ENOTSUP


@pytest.mark.parametrize("number", [0, 11, 12, 14, 19, 0xFFFF])
def test_a_command_that_a_client_cannot_send_is_invalid(client: Client, number: int) -> None:
    client.send(number, bytes(32))
    header = client.receive().header
    assert (header.command, header.error, header.size_bytes) == (number, errno.EINVAL, 16)


@pytest.mark.parametrize("number", list(Command)[1:])
@pytest.mark.parametrize("length", [0, 7, 15])
def test_a_payload_that_is_cut_short_is_refused_with_a_header_only(
    client: Client, number: Command, length: int
) -> None:
    client.send(number, bytes(length))
    header = client.receive().header
    if number is not Command.DEVICE_RESET:
        assert header.is_error
    assert header.size_bytes == 16
    assert client.read(0, 0) == ID


def test_a_client_that_does_not_read_its_replies_cannot_hold_up_the_end(server: EndpointServer) -> None:
    client = Client(server.socket_path)
    client.socket.setblocking(False)
    message = command(1, Command.REGION_READ, RegionAccess(0, 0, 0x4000).encode())
    with contextlib.suppress(BlockingIOError):
        while True:
            client.socket.send(message * 64)
    server.stop()
    client.close()


def test_noise_never_stops_the_server(server: EndpointServer, ram: int) -> None:
    chance = random.Random(11)
    for _ in range(150):
        with Client(server.socket_path, negotiate=chance.random() < 0.8, timeout_s=5) as client:
            for _ in range(chance.randint(1, 8)):
                body = chance.randbytes(chance.choice([0, 4, 16, 20, 24, 32, 40, 200]))
                size = 16 + len(body) if chance.random() < 0.9 else chance.getrandbits(32)
                flags = chance.choice([0, 0, 0, 0x10, chance.getrandbits(32)])
                message = struct.pack("<HHIII", 1, chance.randint(0, 20), size, flags, 0) + body
                fds = [ram] * chance.choice([0, 0, 1, 2, 20])
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.send_raw(message, fds)
    assert_serves(server)
    assert server.model_errors == []


def test_a_client_that_connects_and_leaves_at_once_does_no_harm(server: EndpointServer) -> None:
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(server.socket_path))
    assert_serves(server)
