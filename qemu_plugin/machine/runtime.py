# SPDX-License-Identifier: MIT
"""Which QEMU runs the guest: the user's, the system's, or Debian's unpacked into the cache.

A QEMU will do if it has the `vfio-user-pci` device, which came with QEMU 10.1. The one in the cache is
Debian's package with all that it depends on, unpacked and not installed: its own dynamic linker starts it on
its own libraries, so that it runs as any user on any x86-64 host, whatever that host's libraries are.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guest_images import cache, debian, pins
from guest_images.command import CommandError, capture
from guest_images.errors import ImageError
from guest_images.progress import Progress
from qemu_plugin.errors import BenchError, UsageError

_PROGRAM = "qemu-system-x86_64"
_DEVICE = "vfio-user-pci"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_IDENTITY = "luscope.json"


@dataclass(frozen=True, slots=True)
class QemuRuntime:
    """A QEMU that has been seen to have vfio-user-pci.

    `argv` is what a command line begins with. `version` is QEMU's, `package` Debian's if Debian built it,
    `origin` says where it was found.
    """

    argv: tuple[str, ...]
    version: str
    package: str | None
    origin: str


def find_or_install(progress: Progress) -> QemuRuntime:
    """Return the QEMU to use; install one into the cache if there is none.

    In this order: `$LUSCOPE_QEMU`, `qemu-system-x86_64` on PATH, the cache.

    Raises:
        UsageError: `$LUSCOPE_QEMU` will not do.
        BenchError: there is none and none can be installed; the cache is as it was.
    """
    found = find()
    if found is not None:
        return found
    try:
        installed = _install(progress)
    except ImageError as error:
        raise BenchError(
            f"no QEMU >= {_minimum()} with {_DEVICE} here, and none could be installed: {error}"
        ) from error
    progress.done(f"QEMU: {installed.package} unpacked and tried")
    return installed


def find() -> QemuRuntime | None:
    """Return the QEMU that is already here, or None; nothing is fetched.

    Raises:
        UsageError: `$LUSCOPE_QEMU` will not do.
    """
    if chosen := os.environ.get("LUSCOPE_QEMU"):
        try:
            return probe((str(Path(chosen).expanduser()),), f"LUSCOPE_QEMU={chosen}")
        except BenchError as error:
            raise UsageError(f"LUSCOPE_QEMU={chosen} will not do: {error}") from error
    if (on_path := shutil.which(_PROGRAM)) is not None:
        try:
            return probe((on_path,), f"PATH: {on_path}")
        except BenchError:
            pass  # too old, as on Debian 12 and 13: the cache has a newer one
    return _cached()


def probe(argv: Sequence[str], origin: str) -> QemuRuntime:
    """Run the QEMU that `argv` starts, twice, and return it.

    Raises:
        BenchError: it does not run, is too old, or lacks vfio-user-pci.
    """
    try:
        said = capture([*argv, "--version"]).partition("\n")[0]
    except CommandError as error:
        raise BenchError(f"{argv[-1]} does not run: {error}") from error
    matched = re.match(r"QEMU emulator version (\d+\.\d+(?:\.\d+)?)(?: \(Debian ([^)]+)\))?", said)
    if matched is None:
        raise BenchError(f"it says {said!r} and not its QEMU version")
    version, package = matched[1], matched[2]
    if _numbers(version) < _numbers(_minimum()):
        raise BenchError(f"it is QEMU {version}, and {_DEVICE} came with {_minimum()}")
    try:
        capture([*argv, "-device", f"{_DEVICE},help"])
    except CommandError as error:
        raise BenchError(f"QEMU {version} was built without {_DEVICE}") from error
    return QemuRuntime(tuple(argv), version, package, origin)


def _minimum() -> str:
    return pins.package("qemu").at_least


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _cached() -> QemuRuntime | None:
    entries = {
        path.parent: _identity(path.parent) for path in (cache.root() / "qemu").glob(f"[!.]*/{_IDENTITY}")
    }
    fitting = [entry for entry, it in entries.items() if _numbers(it["version"]) >= _numbers(_minimum())]
    newest = max(fitting, key=lambda entry: _numbers(entries[entry]["version"]), default=None)
    return _load(newest) if newest is not None else None


def _load(entry: Path) -> QemuRuntime:
    identity = _identity(entry)
    return QemuRuntime(_argv(entry), identity["version"], identity["package"], f"cache: {entry}")


def _identity(entry: Path) -> dict[str, str]:
    identity: dict[str, str] = json.loads((entry / _IDENTITY).read_text())
    return identity


def _install(progress: Progress) -> QemuRuntime:
    if ":" in str(cache.root()):
        raise ImageError(
            f"QEMU's libraries cannot be found below {cache.root()}: set LUSCOPE_CACHE to a path without ':'"
        )
    pin = pins.package("qemu")
    cache.require_space(pin.room_mib << 20, "installing QEMU")
    apt, packages = debian.find(pin, pins.suites(), progress)

    def fill(staging: Path) -> None:
        progress.step(f"downloading {packages[0].name} {packages[0].version} and what it depends on")
        with tempfile.TemporaryDirectory(dir=staging) as directory:
            archives = apt.download_closure(packages, Path(directory), progress)
            progress.step(f"unpacking {len(archives)} packages")
            debian.unpack(archives, staging, progress)
        for unused in ("doc", "locale", "man"):
            shutil.rmtree(staging / "usr" / "share" / unused, ignore_errors=True)
        try:
            seen = probe(_argv(staging), "")
        except BenchError as error:
            raise ImageError(f"{packages[0].name} {packages[0].version} will not do: {error}") from error
        identity = {"version": seen.version, "package": packages[0].version}
        (staging / _IDENTITY).write_text(json.dumps(identity, indent=1) + "\n")

    return _load(cache.install(cache.root() / "qemu" / packages[0].directory_version, fill, progress))


def _argv(root: Path) -> tuple[str, ...]:
    """Return how the QEMU unpacked below `root` is started: by its own linker, with its own firmware."""
    linkers = (root / place / "ld-linux-x86-64.so.2" for place in ("usr/lib64", "lib64", _LIBRARIES))
    linker = next((path for path in linkers if path.exists()), None)
    if linker is None:
        raise ImageError(f"{root} has no ld-linux-x86-64.so.2: remove it and set up again")
    libraries = [root / place for place in (_LIBRARIES, "lib/x86_64-linux-gnu") if (root / place).is_dir()]
    firmware = [root / "usr/share" / name for name in ("qemu", "seabios")]
    return (
        str(linker),
        "--library-path",
        ":".join(map(str, libraries)),
        str(root / "usr/bin" / _PROGRAM),
        *(word for directory in firmware for word in ("-L", str(directory))),
    )
