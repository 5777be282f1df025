# SPDX-License-Identifier: MIT
"""The guest's initial file system: the agent as /init, and busybox for whoever wants a shell."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from guest_images import build_tools, cache, cpio, debian, kernel_build, pins
from guest_images.command import CommandError, run
from guest_images.errors import ImageError
from guest_images.progress import Progress

AGENT = Path(__file__).parent / "agent"
COMPILE = ("gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11")


def initramfs(progress: Progress) -> Path:
    """Return an uncompressed newc archive; the same sources and compiler give the same entry of the cache.

    Raises:
        ImageError: the agent does not compile, or what it needs is missing.
    """
    if "gcc" in build_tools.missing(["gcc"]):
        build_tools.require(build_tools.AGENT, "building the agent", progress)
    busybox = _busybox(progress)

    def fill(staging: Path) -> None:
        build_tools.require(build_tools.AGENT, "building the agent", progress)
        progress.step("building the agent")
        compile_agent(staging / "agent", progress)
        entries = _entries((staging / "agent").read_bytes(), busybox.read_bytes())
        (staging / "initramfs.cpio").write_bytes(cpio.archive(entries))
        progress.done("agent and initial file system: built")

    return cache.install(_target(busybox), fill, progress) / "initramfs.cpio"


def cached() -> Path | None:
    """Return the initramfs of the present agent and compiler if the cache has it."""
    busybox = _cached_busybox()
    try:
        archive = _target(busybox) / "initramfs.cpio" if busybox is not None else None
    except ImageError:
        return None
    return archive if archive is not None and archive.is_file() else None


def compile_agent(output: Path, progress: Progress) -> None:
    """Compile the agent to `output`, a static program.

    Raises:
        ImageError: the compiler refused; its first error is in the message.
    """
    compiled = [source.name for source in _sources() if source.suffix == ".c"]
    try:
        run([*COMPILE, "-o", str(output), *compiled], progress, cwd=AGENT)
    except CommandError as error:
        first = next((line for line in error.lines if "error:" in line), "no output")
        raise ImageError(f"the agent does not compile: {first}", error.lines) from error


def _sources() -> list[Path]:
    sources = sorted(AGENT.glob("*.[ch]"))
    if not sources:
        raise ImageError(f"{AGENT} has no agent: check out the project again")
    return sources


def _target(busybox: Path) -> Path:
    digest = hashlib.sha256()
    for part in (*COMPILE, kernel_build.toolchain().gcc, busybox.parent.name):
        digest.update(part.encode() + b"\0")
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    digest.update(cpio.archive(_entries(b"", b"")))  # the layout
    return cache.root() / "initramfs" / digest.hexdigest()[:16]


def _entries(agent: bytes, busybox: bytes) -> list[cpio.Entry]:
    return [
        *(cpio.directory(name) for name in ("bin", "dev", "proc", "run", "sys")),
        cpio.directory("tmp", 0o1777),
        cpio.character_device("dev/console", 5, 1),  # linux Documentation/admin-guide/devices.txt
        cpio.character_device("dev/null", 1, 3, 0o666),
        cpio.file("init", agent, 0o755),
        cpio.file("bin/busybox", busybox, 0o755),
        cpio.link("bin/sh", "busybox"),
    ]


def _cached_busybox() -> Path | None:
    programs = (cache.root() / "busybox").glob("[!.]*/busybox")
    return max(programs, key=lambda path: path.stat().st_mtime, default=None)


def _busybox(progress: Progress) -> Path:
    if found := _cached_busybox():
        return found
    pin = pins.package("busybox")
    cache.require_space(pin.room_mib << 20, "fetching busybox")
    apt, (package, *_) = debian.find(pin, pins.suites(), progress)

    def fill(staging: Path) -> None:
        progress.step(f"downloading {package.name} {package.version}")
        with tempfile.TemporaryDirectory(dir=staging) as unpacked:
            root = Path(unpacked)
            debian.unpack(apt.download([package], root, progress), root, progress)
            program = next(path for path in root.glob("**/bin/busybox") if not path.is_symlink())
            shutil.copy2(program, staging / "busybox")

    return cache.install(cache.root() / "busybox" / package.directory_version, fill, progress) / "busybox"
