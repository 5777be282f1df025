# SPDX-License-Identifier: MIT
import pytest

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.version import Version, answer

QEMU_11_1 = (
    b"\x00\x00\x00\x00"
    b'{"capabilities": {"migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, "max_msg_fds": 16, '
    b'"max_data_xfer_size": 1048576, "max_dma_maps": 65535, "pgsizes": 4096, "write_multiple": true}}\x00'
)


def test_what_qemu_proposes_is_understood() -> None:
    version = Version.decode(QEMU_11_1)

    assert (version.major, version.minor) == (0, 0)
    assert version.capabilities["max_dma_maps"] == 65535


def test_the_answer_has_no_higher_minor_and_at_most_128_kib_of_data() -> None:
    answered = answer(Version.decode(QEMU_11_1))

    assert (answered.major, answered.minor) == (0, 0)
    assert answered.capabilities["max_data_xfer_size"] <= 128 << 10
    assert answered.capabilities["write_multiple"] is True


def test_a_capability_that_was_not_proposed_is_not_answered() -> None:
    assert "write_multiple" not in answer(Version(0, 1)).capabilities


def test_the_version_data_is_optional() -> None:
    assert Version.decode(b"\x00\x00\x01\x00") == Version(0, 1, {})


def test_an_encoded_version_ends_in_nul_and_decodes_to_itself() -> None:
    version = Version(0, 1, {"max_msg_fds": 3})
    assert version.encode().endswith(b"\0")
    assert Version.decode(version.encode()) == version


def test_another_major_version_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="major version 1"):
        answer(Version(1, 0))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0{",
        b"\0\0\0\0[]\0",
        b'\0\0\0\0{"capabilities": 3}\0',
        b"\0\0\0\0\xff\xfe",
        b"\0" * 4 + b"[" * 60000,
    ],
)
def test_what_is_no_version_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Version.decode(payload)
