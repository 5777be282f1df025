# SPDX-License-Identifier: MIT
import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard

from qemu_plugin.attribution.elf import Elf
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.image import vmlinux
from qemu_plugin.attribution.testkit import bzimage

CONTENT = b"\x7fELF" + bytes(range(256)) * 5000
LENGTH = struct.pack("<I", len(CONTENT))


def legacy_lz4(data: bytes) -> bytes:
    """What `lz4 -l` writes: blocks of at most 8 MiB."""
    blocks = [lz4.block.compress(data, store_size=False)]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,  # it ends in the length itself
    "bzip2": lambda data: bz2.compress(data) + LENGTH,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE) + LENGTH,
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32) + LENGTH,
    "lz4": lambda data: legacy_lz4(data) + LENGTH,
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data) + LENGTH,  # as zstd(1)
    "none": lambda data: data,
}


def image(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_the_vmlinux_in_a_bzimage_is_expanded_whatever_compressed_it(name: str, tmp_path: Path) -> None:
    assert vmlinux(image(tmp_path, bzimage(COMPRESSIONS[name](CONTENT)))) == CONTENT


def test_a_vmlinux_is_taken_as_it_is(tmp_path: Path) -> None:
    assert vmlinux(image(tmp_path, CONTENT)) == CONTENT


@pytest.mark.parametrize("name", sorted(set(COMPRESSIONS) - {"none"}))
def test_a_payload_that_is_cut_short_is_an_error_and_never_half_a_kernel(name: str, tmp_path: Path) -> None:
    payload = COMPRESSIONS[name](CONTENT)
    with pytest.raises(AttributionError, match=f"bzImage: its {name} payload"):
        vmlinux(image(tmp_path, bzimage(payload[: len(payload) // 2])))


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])  # lzma and lz4 have no checksums
def test_a_payload_with_a_wrong_byte_is_an_error(name: str, tmp_path: Path) -> None:
    payload = bytearray(COMPRESSIONS[name](CONTENT))
    payload[len(payload) // 2] ^= 0xFF
    with pytest.raises(AttributionError, match=f"bzImage: its {name} payload"):
        vmlinux(image(tmp_path, bzimage(bytes(payload))))


def test_the_length_at_the_payloads_end_has_to_be_what_it_expands_to(tmp_path: Path) -> None:
    payload = COMPRESSIONS["zstd"](CONTENT)[:-4] + struct.pack("<I", 12)
    with pytest.raises(AttributionError, match=f"expands to {len(CONTENT)} bytes, its last word says 12"):
        vmlinux(image(tmp_path, bzimage(payload)))


def test_a_compression_that_is_not_supported_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AttributionError, match="lzo compression is not supported; give its vmlinux"):
        vmlinux(image(tmp_path, bzimage(b"\x89LZO\0\r\n\x1a\n" + bytes(100))))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"MZ", "not an x86 bzImage"),
        (bzimage(b"what is this" + bytes(10)), "77686174.* is of no known compression"),
        (bzimage(gzip.compress(b"no kernel")), "gzip payload is no ELF file"),
        (bzimage(CONTENT, protocol=0x0207), "boot protocol 0x207 does not say"),
        (bzimage(CONTENT)[:0x900], "does not fit a file of 2304 bytes"),
    ],
)
def test_what_holds_no_kernel_is_refused_with_the_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(AttributionError, match=reason):
        vmlinux(image(tmp_path, data))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(AttributionError, match=r"cannot read the kernel .*absent: No such file"):
        vmlinux(tmp_path / "absent")


@pytest.mark.parametrize("size", [0, 4, 40, 63, 70])
def test_the_beginning_of_an_elf_file_is_no_elf_file(size: int) -> None:
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    )
    with pytest.raises(AttributionError, match="vmlinux: "):
        Elf.parse(header[:size], "vmlinux")


def test_a_program_for_another_machine_is_refused() -> None:
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0)
    )
    with pytest.raises(AttributionError, match="not an x86-64 ELF file but AArch64"):
        Elf.parse(header, "vmlinux")
