# SPDX-License-Identifier: MIT
from collections.abc import Callable

import pytest

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.device import DeviceInfo, IrqInfo, RegionInfo, SetIrqs, SetIrqsFlag
from qemu_plugin.vfio_user.memory import DmaAccess, DmaMap, DmaUnmap, MapFlag
from qemu_plugin.vfio_user.region import RegionAccess, decode_multi, encode_multi


def test_a_dma_map_is_laid_out_as_the_specification_says() -> None:
    message = DmaMap(iova=0x1_0000_0000, size_bytes=0x2000, flags=MapFlag.READABLE, offset=0x3000)

    assert message.encode() == bytes.fromhex(
        "20000000 01000000 0030000000000000 0000000001000000 0020000000000000"
    )


def test_set_irqs_counts_its_data_in_argsz() -> None:
    flags = SetIrqsFlag.DATA_BOOL | SetIrqsFlag.ACTION_TRIGGER
    assert SetIrqs(flags, 2, 1, 3, b"\1\0\1").encode()[:4] == (23).to_bytes(4, "little")


def test_a_region_write_carries_offset_region_count_and_data() -> None:
    assert RegionAccess(7, 4, 2, b"\6\0").encode() == bytes.fromhex("0400000000000000 07000000 02000000 0600")


def test_each_write_of_a_multi_takes_24_bytes_whatever_its_width() -> None:
    writes = (RegionAccess(0, 8, 1, b"a"), RegionAccess(0, 16, 8, b"abcdefgh"))

    payload = encode_multi(writes)

    assert len(payload) == 8 + 2 * 24
    assert decode_multi(payload) == writes


@pytest.mark.parametrize("payload", [b"", bytes(8), b"\1" + bytes(30), b"\xff" * 8 + bytes(24)])
def test_a_multi_that_is_cut_off_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_multi(payload)


def test_a_multi_with_a_write_of_nine_bytes_is_a_protocol_error() -> None:
    with pytest.raises(RemoteProtocolError, match="9 bytes"):
        decode_multi(b"\1" + bytes(7) + bytes(8) + bytes(4) + b"\x09\0\0\0" + bytes(8))


@pytest.mark.parametrize(
    "decode",
    [
        DeviceInfo.decode,
        RegionInfo.decode,
        IrqInfo.decode,
        SetIrqs.decode,
        DmaMap.decode,
        DmaUnmap.decode,
        DmaAccess.decode,
        RegionAccess.decode,
    ],
)
def test_a_payload_that_is_too_short_is_a_protocol_error(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(b"\0" * 11)


def test_data_of_another_length_than_announced_is_a_protocol_error() -> None:
    with pytest.raises(RemoteProtocolError, match="4 bytes carries 3"):
        RegionAccess.decode(RegionAccess(0, 0, 4, b"abc").encode())
