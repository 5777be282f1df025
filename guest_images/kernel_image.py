# SPDX-License-Identifier: MIT
"""A kernel to boot, and how one lies in the cache: bzImage, System.map, config, identity.json."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from guest_images import bzimage

_STUB_BYTES = 1000  # Debian's binary packages hold a System.map of one line that names another package


@dataclass(frozen=True, slots=True)
class KernelImage:
    """A kernel to boot.

    `release` is what `uname -r` prints. `package` is the Debian version of what it was made from, None for a
    user's own. `identity` says what decided its bits (source, patches, compiler); it goes into a recording's
    header.
    """

    name: str
    image: Path
    system_map: Path | None
    release: str
    package: str | None
    identity: dict[str, str]


def store(directory: Path, release: str, identity: dict[str, str]) -> None:
    """Write identity.json beside the bzImage in `directory`."""
    whole = {"release": release, **identity, "sha256": digest(directory / "bzImage")}
    (directory / "identity.json").write_text(json.dumps(whole, indent=1) + "\n")


def load(name: str, directory: Path) -> KernelImage:
    """Return the kernel in `directory`, an entry of the cache."""
    identity: dict[str, str] = json.loads((directory / "identity.json").read_text())
    return KernelImage(
        name=name,
        image=directory / "bzImage",
        system_map=_system_map_of(directory / "bzImage", identity["release"]),
        release=identity["release"],
        package=identity.get("package"),
        identity=identity,
    )


def from_path(path: Path) -> KernelImage:
    """Return a user's bzImage as a kernel, with the System.map beside it or at the top of its build tree.

    Raises:
        ImageError: the file cannot be read or is not a bzImage.
    """
    header = bzimage.read_header(path)
    image = path.resolve()
    return KernelImage(
        name=path.name,
        image=image,
        system_map=_system_map_of(image, header.release),
        release=header.release,
        package=None,
        identity={"release": header.release, "source": str(path), "sha256": digest(image)},
    )


def digest(image: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _system_map_of(image: Path, release: str) -> Path | None:
    candidates = [image.parent / "System.map", image.parent / f"System.map-{release}"]
    if image.parent.parts[-3:] in (("arch", "x86", "boot"), ("arch", "x86_64", "boot")):
        candidates.append(image.parents[3] / "System.map")
    for candidate in candidates:
        if candidate.is_file() and candidate.stat().st_size > _STUB_BYTES:
            return candidate
    return None
