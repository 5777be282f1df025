# SPDX-License-Identifier: MIT
import stat
import subprocess
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_images import cpio


@dataclass
class Read:
    name: str
    mode: int
    data: bytes
    device: tuple[int, int]
    link_count: int


def read(archive: bytes) -> list[Read]:
    """Read an archive by the letter of buffer-format.rst, independently of the writer."""
    offset = 0
    entries: list[Read] = []
    while True:
        assert archive[offset : offset + 6] == b"070701"
        fields = [int(archive[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)]
        _ino, mode, uid, gid, nlink, mtime, size, _, _, major, minor, name_bytes, check = fields
        assert (uid, gid, mtime, check) == (0, 0, 0, 0)
        name = archive[offset + 110 : offset + 110 + name_bytes - 1]
        assert archive[offset + 110 + name_bytes - 1] == 0
        start = (offset + 110 + name_bytes + 3) // 4 * 4
        if name == b"TRAILER!!!":
            return entries
        entries.append(Read(name.decode(), mode, archive[start : start + size], (major, minor), nlink))
        offset = (start + size + 3) // 4 * 4


parts = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda part: part not in (".", "..", "TRAILER!!!")
)


@given(st.dictionaries(parts, st.binary(max_size=300), max_size=8))
def test_files_of_any_name_and_length_come_back(contents: dict[str, bytes]) -> None:
    entries = read(cpio.archive([cpio.file(name, data) for name, data in contents.items()]))
    assert [(entry.name, entry.data) for entry in entries] == list(contents.items())
    assert all(entry.mode == stat.S_IFREG | 0o644 for entry in entries)


@given(
    st.dictionaries(st.lists(parts, min_size=1, max_size=4).map("/".join), st.binary(max_size=8), max_size=6)
)
def test_directories_come_before_the_files_in_them(contents: dict[str, bytes]) -> None:
    names = set(contents)
    if any(name.startswith(f"{other}/") for name in names for other in names):
        return  # a file cannot be a directory too
    seen: set[str] = set()
    for entry in read(cpio.archive(cpio.files(contents))):
        above = entry.name.rpartition("/")[0]
        assert not above or above in seen
        if stat.S_ISDIR(entry.mode):
            seen.add(entry.name)
        else:
            assert entry.data == contents[entry.name]


def test_cpio_lists_what_was_written() -> None:
    archive = cpio.archive(
        [
            cpio.directory("dev"),
            cpio.directory("tmp", 0o1777),
            cpio.character_device("dev/console", 5, 1),
            cpio.file("init", b"#!/bin/sh\n", 0o755),
            cpio.link("sh", "busybox"),
        ]
    )
    listed = subprocess.run(
        ["cpio", "-tv", "--quiet"], input=archive, capture_output=True, check=True
    ).stdout.decode()
    words = [line.split() for line in listed.splitlines()]
    assert [(line[0], line[-1]) for line in words] == [
        ("drwxr-xr-x", "dev"),
        ("drwxrwxrwt", "tmp"),
        ("crw-------", "dev/console"),
        ("-rwxr-xr-x", "init"),
        ("lrwxrwxrwx", "busybox"),
    ]
    assert words[2][4:6] == ["5,", "1"]


def test_a_device_node_is_an_entry_that_needs_no_privilege() -> None:
    (entry,) = read(cpio.archive([cpio.character_device("null", 1, 3, 0o666)]))
    assert entry.mode == stat.S_IFCHR | 0o666
    assert entry.device == (1, 3)


def test_the_same_entries_give_the_same_bytes_and_whole_blocks() -> None:
    entries = [cpio.directory("bin"), cpio.file("bin/a", b"abc", 0o755)]
    assert cpio.archive(entries) == cpio.archive(list(entries))
    assert len(cpio.archive(entries)) % 512 == 0


def test_archives_can_follow_one_another() -> None:
    joined = cpio.archive([cpio.file("a", b"1")]) + cpio.archive([cpio.file("b", b"2")])
    assert [entry.name for entry in read(joined)] == ["a"]
    assert [entry.name for entry in read(joined[512:])] == ["b"]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([cpio.file("/init", b"")], "relative"),
        ([cpio.file("", b"")], "relative"),
        ([cpio.file("a\0b", b"")], "NUL"),
        ([cpio.file("TRAILER!!!", b"")], "trailer"),
        ([cpio.file("a", b""), cpio.file("a", b"")], "twice"),
        ([cpio.file("bin/sh", b"")], "before its directory 'bin'"),
        ([cpio.file("bin", b""), cpio.file("bin/sh", b"")], "before its directory 'bin'"),
    ],
)
def test_what_the_kernel_would_skip_is_refused(entries: list[cpio.Entry], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cpio.archive(entries)
