# SPDX-License-Identifier: MIT
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_images import build
from guest_images.errors import ImageError
from guest_images.testkit import DirectoryArchive, RememberingProgress

RELEASE = "6.12.107+deb13-cloud-amd64"


def vmlinuz() -> bytes:
    data = bytearray(0x1000)
    struct.pack_into("<H", data, 0x1FE, 0xAA55)
    data[0x202:0x206] = b"HdrS"
    data[0x211] = 1
    struct.pack_into("<H", data, 0x20E, 0x300)
    data[0x500 : 0x500 + len(RELEASE)] = RELEASE.encode()
    return bytes(data)


@pytest.fixture
def kernels(archive: DirectoryArchive) -> DirectoryArchive:
    name = f"linux-image-{RELEASE}"
    files = {
        f"boot/vmlinuz-{RELEASE}": vmlinuz(),
        f"boot/config-{RELEASE}": b"CONFIG_PCI=y\n",
        "lib/modules/big.ko": b"",
    }
    archive.add("trixie", name, "6.12.107-1", files, "kmod, linux-base")
    archive.add("trixie", "linux-image-cloud-amd64", "6.12.107-1", {}, f"{name} (= 6.12.107-1)")
    archive.add(
        "trixie-backports",
        "linux-image-cloud-amd64",
        "7.2.12-1~bpo13+1",
        {},
        "linux-image-7.2 (= 7.2.12-1~bpo13+1)",
    )
    archive.publish("trixie", "trixie-backports")
    return archive


def test_the_image_is_taken_out_of_the_package_that_the_newest_in_the_range_depends_on(
    kernels: DirectoryArchive, progress: RememberingProgress
) -> None:
    assert build.cached_kernel("debian") is None
    image = build.kernel("debian", progress)
    assert (image.name, image.release, image.package, image.system_map) == (
        "debian",
        RELEASE,
        "6.12.107-1",
        None,
    )
    assert image.image.read_bytes() == vmlinuz()
    assert sorted(path.name for path in image.image.parent.iterdir()) == [
        "bzImage",
        "config",
        "identity.json",
    ]


def test_it_is_fetched_once(
    kernels: DirectoryArchive, progress: RememberingProgress, program: Callable[[str, str], Path]
) -> None:
    image = build.kernel("debian", progress)
    program("apt-get", "exit 100")
    assert build.kernel("debian", progress) == image
    assert build.cached_kernel("debian") == image


def test_a_package_that_depends_on_no_kernel_is_refused(
    archive: DirectoryArchive, progress: RememberingProgress, cache_root: Path
) -> None:
    archive.add("trixie", "linux-image-cloud-amd64", "6.12.107-1", {}, "kmod")
    archive.publish("trixie", "trixie-backports")
    with pytest.raises(ImageError, match="names no kernel"):
        build.kernel("debian", progress)
    assert not (cache_root / "kernel").exists()
