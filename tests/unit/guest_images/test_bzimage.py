# SPDX-License-Identifier: MIT
import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_images import bzimage, kernel_image
from guest_images.errors import ImageError

RELEASE = "7.3.4-test"


def image(
    text: bytes = f"{RELEASE} (me@here) #1 SMP\0".encode(),
    *,
    magic: bytes = b"HdrS",
    flag: int = 0xAA55,
    loadflags: int = 1,
    setup_sects: int = 3,
    pointer: int = 0x300,
) -> bytes:
    data = bytearray(0x3000)
    data[0x1F1] = setup_sects
    struct.pack_into("<H", data, 0x1FE, flag)
    data[0x202:0x206] = magic
    struct.pack_into("<HH", data, 0x206, 0x020F, 0)
    struct.pack_into("<H", data, 0x20E, pointer)
    data[0x211] = loadflags
    data[pointer + 0x200 : pointer + 0x200 + len(text)] = text
    return bytes(data)


def test_the_release_is_the_first_word_of_the_headers_text() -> None:
    header = bzimage.parse_header(image(), Path("bzImage"))
    assert header == bzimage.BootHeader(0x020F, RELEASE)


def test_a_setup_size_of_zero_means_four_sectors() -> None:
    assert bzimage.parse_header(image(setup_sects=0, pointer=0x7C0), Path("k")).release == RELEASE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends after 0 bytes"),
        (b"MZ" + bytes(100), "ends after 102 bytes"),
        (bytes(0x3000), "no boot flag"),
        (image(magic=b"Hdr!"), "no boot flag"),
        (image(flag=0x55AA), "no boot flag"),
        (image(loadflags=0), "zImage"),
        (b"\x7fELF" + image()[4:], "ELF file, such as vmlinux"),
        (image(pointer=0x700), r"0x900, past its setup code's 0x800 bytes"),
        (image(b"\xff\xfe\x01\0"), "not text"),
        (image(b"\0"), "not text"),
        (image(b"  \0"), "not text"),
    ],
)
def test_a_file_that_is_no_bzimage_is_refused_with_its_path_and_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"^/k/bzImage is not an x86 bzImage \(.*{reason}"):
        bzimage.parse_header(data, Path("/k/bzImage"))


def test_a_release_text_at_offset_zero_is_refused() -> None:
    data = bytearray(image())
    struct.pack_into("<H", data, 0x20E, 0xFE00)
    with pytest.raises(ImageError, match="past its setup code"):
        bzimage.parse_header(bytes(data), Path("k"))


@given(st.binary(max_size=0x400), st.binary(max_size=0x40))
def test_any_bytes_are_a_header_or_an_image_error(noise: bytes, text: bytes) -> None:
    for data in (noise, image(text), image()[:0x206] + noise, image()[: 0x500 + len(noise) % 8]):
        with contextlib.suppress(ImageError):
            assert bzimage.parse_header(data, Path("k")).release


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read the kernel .*absent: No such file"):
        bzimage.read_header(tmp_path / "absent")
    with pytest.raises(ImageError, match="Is a directory"):
        bzimage.read_header(tmp_path)


def test_a_users_kernel_takes_the_system_map_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(image())
    found = kernel_image.from_path(path)
    assert (found.release, found.package, found.system_map) == (RELEASE, None, None)
    (tmp_path / "System.map").write_text("ffffffffffffffff B The real System.map is in another package\n")
    assert kernel_image.from_path(path).system_map is None
    (tmp_path / f"System.map-{RELEASE}").write_text("ffffffff81000000 T _text\n" * 100)
    assert kernel_image.from_path(path).system_map == tmp_path / f"System.map-{RELEASE}"


def test_a_kernel_in_its_build_tree_takes_the_system_map_at_the_top(tmp_path: Path) -> None:
    boot = tmp_path / "arch" / "x86" / "boot"
    boot.mkdir(parents=True)
    (boot / "bzImage").write_bytes(image())
    (tmp_path / "System.map").write_text("ffffffff81000000 T _text\n" * 100)
    link = tmp_path / "arch" / "x86_64" / "boot"  # as kbuild makes it
    link.mkdir(parents=True)
    (link / "bzImage").symlink_to("../../x86/boot/bzImage")
    assert kernel_image.from_path(boot / "bzImage").system_map == tmp_path / "System.map"
    assert kernel_image.from_path(link / "bzImage").system_map == tmp_path / "System.map"


def test_the_identity_of_a_users_kernel_is_its_bits(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(image())
    (tmp_path / "b").write_bytes(image() + b"\0")
    first, second = kernel_image.from_path(tmp_path / "a"), kernel_image.from_path(tmp_path / "b")
    assert first.identity["sha256"] != second.identity["sha256"]


def test_what_is_stored_in_the_cache_is_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(image())
    kernel_image.store(tmp_path, "7.3.4", {"package": "7.3.4-1", "key": "abc"})
    loaded = kernel_image.load("luo", tmp_path)
    assert (loaded.name, loaded.release, loaded.package, loaded.system_map) == (
        "luo",
        "7.3.4",
        "7.3.4-1",
        None,
    )
    assert loaded.identity["key"] == "abc"
    assert loaded.identity["sha256"] == kernel_image.digest(tmp_path / "bzImage")
