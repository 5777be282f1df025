# SPDX-License-Identifier: MIT
"""The vmlinux inside a bzImage. Nothing here reads what the vmlinux holds.

Follows linux Documentation/arch/x86/boot.rst: protocol 2.08 and later say where the payload lies; its last
four bytes are the length that it expands to (linux scripts/Makefile.lib size_append).
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import lz4.block
import zstandard

from guest_images import bzimage
from guest_images.errors import ImageError
from qemu_plugin.attribution.errors import AttributionError

_SETUP_SECTS: Final = 0x1F1  # u8
_PAYLOAD: Final = 0x248  # u32 offset from the end of the setup code, u32 length
_SECTOR_BYTES: Final = 512
_PAYLOAD_PROTOCOL: Final = 0x0208
_ELF: Final = b"\x7fELF"
_LZ4_BLOCK_BYTES: Final = 8 << 20  # linux lib/decompress_unlz4.c LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE


def vmlinux(image: Path) -> bytes:
    """The ELF file that `image` boots: a bzImage's payload expanded, or the file itself where it is one.

    A relocatable kernel's table of relocations follows the ELF file in the same bytes. AttributionError where
    `image` is neither, damaged, or compressed in a way that is not supported (lzo).
    """
    try:
        data = image.read_bytes()
    except OSError as error:
        raise AttributionError(f"cannot read the kernel {image}: {error.strerror}") from error
    if data.startswith(_ELF):
        return data
    try:
        header = bzimage.parse_header(data, image)
    except ImageError as error:
        raise AttributionError(str(error)) from error
    if header.protocol < _PAYLOAD_PROTOCOL:
        raise AttributionError(
            f"{image}: boot protocol {header.protocol:#x} does not say where its payload lies"
        )
    return _expanded(_payload(data, image), image)


def _payload(data: bytes, image: Path) -> bytes:
    offset, count = struct.unpack_from("<II", data, _PAYLOAD)
    begin = ((data[_SETUP_SECTS] or 4) + 1) * _SECTOR_BYTES + offset
    if count < 8 or begin + count > len(data):
        raise AttributionError(
            f"{image}: a payload of {count} bytes at {begin:#x} does not fit a file of {len(data)} bytes"
        )
    return data[begin : begin + count]


def _expanded(payload: bytes, image: Path) -> bytes:
    if payload.startswith(_ELF):
        return payload  # CONFIG_KERNEL_UNCOMPRESSED
    for magic, name, expand in _COMPRESSIONS:
        if not payload.startswith(magic):
            continue
        if expand is None:
            raise AttributionError(
                f"{image}: {name} compression is not supported; give its vmlinux, or use zstd"
            )
        try:
            data = expand(payload)
        except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise AttributionError(f"{image}: its {name} payload does not expand: {error}") from error
        except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
            raise AttributionError(f"{image}: its {name} payload does not expand: {error}") from error
        (expected,) = struct.unpack_from("<I", payload, len(payload) - 4)
        if len(data) != expected:
            raise AttributionError(
                f"{image}: its {name} payload expands to {len(data)} bytes, its last word says {expected}"
            )
        if not data.startswith(_ELF):
            raise AttributionError(f"{image}: its {name} payload is no ELF file")
        return data
    raise AttributionError(f"{image}: a payload that begins {payload[:6].hex()} is of no known compression")


def _lz4(payload: bytes) -> bytes:
    """The legacy format: blocks of u32 length and data. What follows them is the length of the whole."""
    chunks = []
    position = 4
    while position + 4 < len(payload):
        (count,) = struct.unpack_from("<I", payload, position)
        position += 4
        if count > len(payload) - position:
            raise ValueError(f"a block of {count} bytes, {len(payload) - position} are left")
        block = payload[position : position + count]
        chunks.append(lz4.block.decompress(block, uncompressed_size=_LZ4_BLOCK_BYTES))
        position += count
    return b"".join(chunks)


_COMPRESSIONS: Final[tuple[tuple[bytes, str, Callable[[bytes], bytes] | None], ...]] = (
    # linux lib/decompress.c compressed_formats; all but the last tell their own end
    (b"\x1f\x8b", "gzip", lambda payload: zlib.decompressobj(wbits=31).decompress(payload)),
    (b"\x42\x5a\x68", "bzip2", lambda payload: bz2.BZ2Decompressor().decompress(payload)),
    (b"\x5d\x00\x00", "lzma", lambda payload: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload)),
    (b"\xfd7zXZ\x00", "xz", lambda payload: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)),
    (b"\x89LZO", "lzo", None),
    (b"\x02\x21\x4c\x18", "lz4", _lz4),
    (
        b"\x28\xb5\x2f\xfd",
        "zstd",
        lambda payload: zstandard.ZstdDecompressor().decompressobj().decompress(payload),
    ),
)
