# SPDX-License-Identifier: MIT
"""Archives in the "newc" format, as the kernel unpacks them for its initial file system.

Written here rather than by cpio(1) because a device node is then just an entry, which needs no privilege, and
because the same entries give the same bytes. Follows linux
Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_MAGIC = "070701"
_ALIGN_BYTES = 4
_BLOCK_BYTES = 512  # what cpio(1) pads an archive to
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name with its mode (type and permissions) and data: a file's bytes, or a symbolic link's target."""

    name: str
    mode: int
    data: bytes = b""
    major: int = 0
    minor: int = 0


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(name, stat.S_IFREG | permissions, data)


def directory(name: str, permissions: int = 0o755) -> Entry:
    """Return a directory."""
    return Entry(name, stat.S_IFDIR | permissions)


def link(name: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """Return a character device node."""
    return Entry(name, stat.S_IFCHR | permissions, b"", major, minor)


def files(contents: Mapping[str, bytes]) -> list[Entry]:
    """Return regular files by name, each directory they lie in before its first file."""
    entries: dict[str, Entry] = {}
    for name, data in contents.items():
        parts = name.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            entries.setdefault(above, directory(above))
        entries[name] = file(name, data)
    return list(entries.values())


def archive(entries: Iterable[Entry]) -> bytes:
    """Return `entries` as an archive: owned by root, dated 1970, each its own inode, padded to 512 bytes.

    Raises:
        ValueError: a name is absolute, empty, holds a NUL, comes twice, or comes before its directory.
    """
    written = bytearray()
    seen: set[str] = set()
    for inode, entry in enumerate(entries, start=1):
        _check_name(entry.name, seen)
        if stat.S_ISDIR(entry.mode):
            seen.add(entry.name + "/")
        seen.add(entry.name)
        _append(written, entry, inode)
    _append(written, Entry(_TRAILER, 0), 0)
    written += bytes(-len(written) % _BLOCK_BYTES)
    return bytes(written)


def _check_name(name: str, seen: set[str]) -> None:
    if not name or name.startswith("/") or "\0" in name or name == _TRAILER:
        raise ValueError(
            f"{name!r} cannot be a name in an initramfs: relative, without NUL, not the trailer's"
        )
    if name in seen:
        raise ValueError(f"{name!r} comes twice in one archive")
    above = name.rpartition("/")[0]
    if above and above + "/" not in seen:
        raise ValueError(f"{name!r} comes before its directory {above!r}: the kernel would skip it")


def _append(written: bytearray, entry: Entry, inode: int) -> None:
    name = entry.name.encode() + b"\0"
    link_count = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        link_count,
        0,  # mtime
        len(entry.data),
        0,  # major and minor of the file system that it came from
        0,
        entry.major,
        entry.minor,
        len(name),
        0,  # check: used by magic 070702 only
    )
    written += _MAGIC.encode() + b"".join(b"%08X" % field for field in fields) + name
    written += bytes(-len(written) % _ALIGN_BYTES)
    written += entry.data
    written += bytes(-len(written) % _ALIGN_BYTES)
