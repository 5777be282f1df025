# SPDX-License-Identifier: MIT
"""Loads a kernel's symbols, from the cache if they have been read out of this image before."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from guest_images import cache
from guest_images.errors import ImageError
from guest_images.progress import SilentProgress
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.jump_scan import Jumps
from qemu_plugin.attribution.orc import Orc
from qemu_plugin.attribution.symbols import Code, KernelSymbols

_READERS: Final = (
    "belonging", "elf", "image", "jump_scan", "kallsyms", "loading", "orc", "reading", "symbols", "system_map",
)  # fmt: skip
"""The modules that decide what an entry of the cache holds: it is never older than they are."""


def load_symbols(image: Path, map_beside: Path | None = None) -> KernelSymbols:
    """The symbols of the kernel in `image`, a bzImage or a vmlinux, and of the System.map beside it if need be.

    AttributionError where there are no names that can be trusted (`reading.read`).
    """
    files = [image] if map_beside is None else [image, map_beside]
    readers = [Path(__file__).with_name(f"{name}.py") for name in _READERS]
    entry = cache.root() / "symbols" / _digest(files) / _digest(readers)

    def fill(directory: Path) -> None:
        _store(_read(image, map_beside), directory)
        _remove_older(entry)

    try:
        return _load(cache.install(entry, fill, SilentProgress()))
    except (ImageError, OSError):  # the cache cannot be written, or a newer reader has removed this entry
        return _read(image, map_beside)


def _read(image: Path, map_beside: Path | None) -> KernelSymbols:
    # Here, because a kernel is read once, and its readers are slow to import.
    from qemu_plugin.attribution.reading import read

    return read(image, map_beside)


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise AttributionError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()[:16]


def _remove_older(entry: Path) -> None:
    """What other readers have made of the same image: a distribution's kernel takes 28 MB each time."""
    for other in entry.parent.iterdir():
        if other.name != entry.name and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)


def _store(symbols: KernelSymbols, directory: Path) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {
        "addresses": symbols.addresses,
        "name_offsets": symbols.name_offsets,
        "types": np.frombuffer(symbols.types, dtype=np.uint8),
        "names": np.frombuffer(symbols.names, dtype=np.uint8),
        "alternatives": symbols.alternatives,
    }
    if symbols.orc is not None:
        arrays |= {"orc_addresses": symbols.orc.addresses, "orc_entries": symbols.orc.entries}
    if symbols.jumps is not None:
        arrays |= {
            "edges": symbols.jumps.edges,
            "pointed_at": symbols.jumps.pointed_at,
            "parts": symbols.jumps.parts,
        }
    for number, code in enumerate(symbols.code):
        arrays[f"code_{number}"] = code.data
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    facts = {
        "release": symbols.release,
        "source": symbols.source,
        "problem": symbols.problem,
        "has_orc": symbols.orc is not None,
        "has_frame_pointers": symbols.has_frame_pointers,
        "code": [code.begin for code in symbols.code],
    }
    (directory / "symbols.json").write_text(json.dumps(facts) + "\n")


def _load(directory: Path) -> KernelSymbols:
    facts = json.loads((directory / "symbols.json").read_text())

    def array(name: str) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.load(directory / f"{name}.npy", mmap_mode="r")
        return found.view(np.ndarray)  # numpy.memmap makes every look-up slow

    has_orc = facts["has_orc"]
    return KernelSymbols(
        release=facts["release"],
        source=facts["source"],
        addresses=array("addresses"),
        types=array("types").tobytes(),
        names=array("names").tobytes(),
        name_offsets=array("name_offsets"),
        code=tuple(Code(begin, array(f"code_{number}")) for number, begin in enumerate(facts["code"])),
        orc=Orc(array("orc_addresses"), array("orc_entries")) if has_orc else None,
        jumps=Jumps(array("edges"), array("pointed_at"), array("parts")) if has_orc else None,
        alternatives=array("alternatives"),
        has_frame_pointers=facts["has_frame_pointers"],
        problem=facts["problem"],
    )
