# SPDX-License-Identifier: MIT
from qemu_plugin.vfio_user.header import Command, command
from qemu_plugin.vfio_user.messages import MessageReader

FIRST = command(1, Command.REGION_READ, b"0123456789abcdef")
SECOND = command(2, Command.DMA_MAP, bytes(32))


def test_fds_belong_to_the_message_that_holds_the_last_byte_of_their_read() -> None:
    reader = MessageReader()

    reader.feed(FIRST + SECOND, [7])

    assert [message.fds for message in reader.messages()] == [(), (7,)]


def test_fds_of_an_unfinished_message_wait_for_its_rest() -> None:
    reader = MessageReader()

    reader.feed(FIRST + SECOND[:20], [7])
    early = [message.fds for message in reader.messages()]
    wanted = reader.wanted_bytes(4096)
    reader.feed(SECOND[20:])

    assert early == [()]
    assert wanted == len(SECOND) - 20
    assert [message.fds for message in reader.messages()] == [(7,)]


def test_a_reader_that_waits_for_nothing_takes_whatever_there_is() -> None:
    assert MessageReader().wanted_bytes(4096) == 4096


def test_a_stream_may_end_between_messages_and_not_inside_one() -> None:
    reader = MessageReader()
    reader.feed(FIRST[:5])
    assert not reader.is_between_messages
    reader.feed(FIRST[5:])
    assert len(list(reader.messages())) == 1
    assert reader.is_between_messages
