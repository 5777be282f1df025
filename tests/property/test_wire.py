# SPDX-License-Identifier: MIT
"""Every message survives its encoding, however the stream is cut; nonsense is a protocol error, no more."""

from hypothesis import given
from hypothesis import strategies as st

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.device import DeviceInfo, IrqInfo, RegionInfo, SetIrqs, SetIrqsFlag
from qemu_plugin.vfio_user.header import HEADER_BYTES, MESSAGE_MAX_BYTES, Command, Header, HeaderFlag, command
from qemu_plugin.vfio_user.memory import DmaAccess, DmaMap, DmaUnmap, MapFlag
from qemu_plugin.vfio_user.messages import Message, MessageReader
from qemu_plugin.vfio_user.region import RegionAccess, decode_multi, encode_multi
from qemu_plugin.vfio_user.version import Version

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)

headers = st.builds(
    Header,
    message_id=U16,
    command=U16,
    size_bytes=st.integers(HEADER_BYTES, MESSAGE_MAX_BYTES),
    flags=st.sampled_from([HeaderFlag(0), HeaderFlag.REPLY, HeaderFlag.NO_REPLY]),
    error=U32,
)
payloads = st.one_of(
    st.builds(DeviceInfo, region_count=U32, irq_count=U32),
    st.builds(RegionInfo, index=U32, size_bytes=U64, offset=U64),
    st.builds(IrqInfo, index=U32, count=U32),
    st.builds(
        SetIrqs,
        flags=st.just(SetIrqsFlag.DATA_BOOL | SetIrqsFlag.ACTION_TRIGGER),
        index=U32,
        start=U32,
        count=U32,
        data=st.binary(max_size=8),
    ),
    st.builds(DmaMap, iova=U64, size_bytes=U64, flags=st.just(MapFlag.READABLE), offset=U64),
    st.builds(DmaUnmap, iova=U64, size_bytes=U64),
    st.binary(max_size=64).map(lambda data: DmaAccess(0x1000, len(data), data)),
    st.binary(max_size=64).map(lambda data: RegionAccess(7, 4, len(data), data)),
    st.builds(
        Version, major=U16, minor=U16, capabilities=st.dictionaries(st.text(), st.integers() | st.booleans())
    ),
)


@given(headers)
def test_a_header_decodes_to_itself(header: Header) -> None:
    assert Header.decode(header.encode()) == header


@given(payloads)
def test_a_payload_decodes_to_itself(payload: Version) -> None:
    assert type(payload).decode(payload.encode()) == payload


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1))
def test_the_writes_of_a_multi_decode_to_themselves(data: list[bytes]) -> None:
    writes = tuple(RegionAccess(index, 8 * index, len(item), item) for index, item in enumerate(data))
    assert decode_multi(encode_multi(writes)) == writes


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.data())
def test_messages_are_the_same_however_the_stream_is_cut(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(command(index, Command.DMA_READ, body) for index, body in enumerate(bodies))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=20)))
    reader, found = MessageReader(), list[Message]()

    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        found += reader.messages()

    assert [message.payload for message in found] == bodies
    assert [message.header.message_id for message in found] == list(range(len(bodies)))
    assert reader.is_between_messages


@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), min_size=1, max_size=8), st.data())
def test_fds_stay_with_their_message_when_reads_end_as_the_kernel_ends_them(
    bodies: list[tuple[bytes, bool]], data: st.DataObject
) -> None:
    """A read may join segments up to one that carries fds, and end anywhere inside any of them."""
    segments = [
        (command(i, Command.DMA_MAP, body), i if has else None) for i, (body, has) in enumerate(bodies)
    ]
    reader, found = MessageReader(), list[Message]()

    pending = list(segments)
    while pending:
        room = data.draw(st.integers(1, reader.wanted_bytes(64)))
        taken, fds = b"", list[int]()
        while pending and len(taken) < room and not fds:
            segment, fd = pending.pop(0)
            part = segment[: room - len(taken)]
            taken += part
            if fd is not None:
                fds.append(fd)
            if len(part) < len(segment):
                pending.insert(0, (segment[len(part) :], None))
        reader.feed(taken, fds)
        found += reader.messages()

    assert [message.fds for message in found] == [() if fd is None else (fd,) for _, fd in segments]


@given(st.binary(max_size=256))
def test_nonsense_is_a_protocol_error_or_a_message_and_nothing_else(data: bytes) -> None:
    reader = MessageReader()
    reader.feed(data)
    try:
        messages = list(reader.messages())
    except RemoteProtocolError:
        return
    for message in messages:
        assert len(message.payload) == message.header.size_bytes - HEADER_BYTES


@given(st.binary(max_size=128))
def test_a_nonsense_version_is_a_protocol_error_or_a_version_and_nothing_else(data: bytes) -> None:
    try:
        version = Version.decode(data)
    except RemoteProtocolError:
        return
    assert Version.decode(version.encode()).major == version.major
