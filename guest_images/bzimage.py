# SPDX-License-Identifier: MIT
"""What an x86 kernel image says of itself, from its boot header.

Follows linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"; all fields are little-endian.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from guest_images.errors import ImageError

_SETUP_SECTS = 0x1F1  # u8: size of the setup code in 512-byte sectors, 0 means 4
_BOOT_FLAG = 0x1FE  # u16: 0xaa55
_HEADER = 0x202  # u32: "HdrS"
_VERSION = 0x206  # u16: boot protocol
_KERNEL_VERSION = 0x20E  # u16: file offset of the release text, less 0x200
_LOADFLAGS = 0x211  # u8: bit 0, LOADED_HIGH: a bzImage
_SECTOR_BYTES = 512
_READ_BYTES = 0x10200  # all that a 16-bit pointer can reach


@dataclass(frozen=True, slots=True)
class BootHeader:
    """`protocol` is 0x020f for 2.15; `release` is what `uname -r` prints."""

    protocol: int
    release: str


def read_header(path: Path) -> BootHeader:
    """Read and check the boot header of the bzImage at `path`.

    Raises:
        ImageError: the file cannot be read or is not a bzImage.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_READ_BYTES)
    except OSError as error:
        raise ImageError(f"cannot read the kernel {path}: {error.strerror}") from error
    return parse_header(start, path)


def parse_header(start: bytes, path: Path) -> BootHeader:
    """Check the first bytes of a bzImage; `path` is for messages only."""

    def refuse(reason: str) -> ImageError:
        return ImageError(f"{path} is not an x86 bzImage ({reason}): give arch/x86/boot/bzImage or a vmlinuz")

    if start[:4] == b"\x7fELF":
        raise refuse("it is an ELF file, such as vmlinux")
    if len(start) < _LOADFLAGS + 1:
        raise refuse(f"it ends after {len(start)} bytes")
    if struct.unpack_from("<H", start, _BOOT_FLAG)[0] != 0xAA55 or start[_HEADER : _HEADER + 4] != b"HdrS":
        raise refuse("no boot flag 0xaa55 and HdrS at 0x1fe")
    if not start[_LOADFLAGS] & 1:
        raise refuse("it is a zImage")
    pointer = struct.unpack_from("<H", start, _KERNEL_VERSION)[0]
    setup_bytes = ((start[_SETUP_SECTS] or 4) + 1) * _SECTOR_BYTES
    if not 0 < pointer + 0x200 < min(setup_bytes, len(start)):
        raise refuse(
            f"its release text would be at {pointer + 0x200:#x}, past its setup code's {setup_bytes:#x} bytes"
        )
    text = start[pointer + 0x200 :].partition(b"\0")[0].decode("latin-1")
    if not text.isprintable() or not text.split():
        raise refuse("its release text is not text")
    return BootHeader(struct.unpack_from("<H", start, _VERSION)[0], text.split()[0])
