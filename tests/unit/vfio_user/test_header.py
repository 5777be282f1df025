# SPDX-License-Identifier: MIT
import pytest

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.header import (
    HEADER_BYTES,
    MESSAGE_MAX_BYTES,
    Command,
    Header,
    HeaderFlag,
    command,
    error_reply,
    reply,
)


def test_a_header_is_sixteen_little_endian_bytes() -> None:
    header = Header(0x1234, Command.DMA_MAP, 48, HeaderFlag.NO_REPLY, 0)

    assert header.encode() == bytes.fromhex("34 12 02 00 30 00 00 00 10 00 00 00 00 00 00 00")
    assert Header.decode(header.encode()) == header


@pytest.mark.parametrize("size_bytes", [0, HEADER_BYTES - 1, MESSAGE_MAX_BYTES + 1, 0xFFFFFFFF])
def test_a_size_that_no_message_can_have_is_refused(size_bytes: int) -> None:
    with pytest.raises(RemoteProtocolError, match=str(size_bytes)):
        Header.decode(Header(1, Command.VERSION, size_bytes).encode())


def test_a_type_that_is_neither_command_nor_reply_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="type 2"):
        Header.decode(Header(1, Command.VERSION, 16, HeaderFlag(2)).encode())


def test_an_error_reply_is_a_header_only_and_names_its_command() -> None:
    data = error_reply(Header(7, Command.DMA_MAP, 48), 17)

    answer = Header.decode(data)
    assert len(data) == HEADER_BYTES
    assert (answer.message_id, answer.command, answer.error) == (7, Command.DMA_MAP, 17)
    assert answer.is_reply
    assert answer.is_error


def test_a_reply_has_its_commands_id_and_is_no_error() -> None:
    asked = Header.decode(command(9, Command.DEVICE_RESET))

    answer = Header.decode(reply(asked, b"abcd"))

    assert (answer.message_id, answer.command, answer.size_bytes) == (9, Command.DEVICE_RESET, 20)
    assert answer.is_reply
    assert not answer.is_error


def test_a_posted_command_says_that_it_wants_no_reply() -> None:
    data = command(1, Command.REGION_WRITE, b"", wants_reply=False)
    assert Header.decode(data).flags == HeaderFlag.NO_REPLY
