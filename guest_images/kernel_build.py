# SPDX-License-Identifier: MIT
"""Building a kernel from source: a tree, a fragment and patches become an image, the same bits every time.

The tree lies in the cache with its build directory `o` inside it. The kernel then names its sources relatively (`..`),
so that the whole can be copied elsewhere and built on from there: a kernel that is another one plus patches starts from
the other's objects. A user's own tree is built with its objects in the cache and is never written to.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guest_images import cache, kconfig
from guest_images.command import CommandError, capture, run
from guest_images.errors import ImageError
from guest_images.progress import Progress

# Documentation/kbuild/reproducible-builds.rst
FIXED = {
    "KBUILD_BUILD_TIMESTAMP": "2026-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "luscope",
    "KBUILD_BUILD_HOST": "luscope",
    "KBUILD_BUILD_VERSION": "1",
    "LOCALVERSION": "",
    # Their versions would be written into .config, and with it into the image, where nothing uses them.
    "RUSTC": "no-rustc",
    "BINDGEN": "no-bindgen",
    "PAHOLE": "no-pahole",
}

# What a user's environment, or a make that this runs under, would change a build by.
_NOT_INHERITED = re.compile(
    r"MAKE\w*|MFLAGS|KBUILD_\w+|KCONFIG_\w+|K[AC]\w*FLAGS|CROSS_COMPILE|LLVM\w*|ARCH|SRCARCH|O|C|M|V|W|LOCALVERSION"
)

# What gcc, ld, make and patch say when they give up.
_TELLING = re.compile(r"error: |undefined reference|\*\*\* |not clean|FAILED|can't find file")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """First lines of `gcc --version` and `ld --version`: they decide the bits of an image."""

    gcc: str
    ld: str


def toolchain() -> Toolchain:
    """Return the compiler and linker that a build would use."""
    return Toolchain(
        capture(["gcc", "--version"]).splitlines()[0],
        capture(["ld", "--version"]).splitlines()[0],
    )


def key(asked: Mapping[str, str], source: str, patches: Sequence[Path], tools: Toolchain) -> str:
    """Return the digest of everything that decides the bits of a kernel.

    Args:
        asked: the symbols of its fragments.
        source: the version of the source package.
        patches: the files, in the order in which they are applied.
        tools: compiler and linker.
    """
    parts: list[object] = [
        sorted(asked.items()),
        source,
        [[patch.name, hashlib.sha256(patch.read_bytes()).hexdigest()] for patch in patches],
        tools.gcc,
        tools.ld,
        FIXED,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Tree:
    """Sources, and the directory for objects, which lies inside them or (a user's tree) elsewhere."""

    sources: Path
    objects: Path

    @property
    def image(self) -> Path:
        """The bzImage, once it is built."""
        return self.objects / "arch" / "x86" / "boot" / "bzImage"

    def make(self, target: str, log: Path, progress: Progress, allconfig: Path | None = None) -> None:
        """Run make for `target` on all CPUs, with nothing of the user's build settings.

        Raises:
            CommandError: it failed; the objects can be built on.
        """
        directory = "o" if self.objects == self.sources / "o" else str(self.objects)
        variables = {"O": directory, "ARCH": "x86_64", **FIXED}
        words = [f"{name}={value}" for name, value in variables.items()]
        jobs = f"-j{len(os.sched_getaffinity(0))}"
        environment: dict[str, str | None] = {
            name: None for name in os.environ if _NOT_INHERITED.fullmatch(name)
        }
        if allconfig is not None:
            environment["KCONFIG_ALLCONFIG"] = str(allconfig)
        run(["make", "-C", str(self.sources), jobs, *words, target], progress, env=environment, log=log)

    def configure(self, fragments: Sequence[Path], log: Path, progress: Progress) -> dict[str, str]:
        """Configure from nothing but `fragments`; return the symbols of the result."""
        self.objects.mkdir(parents=True, exist_ok=True)
        together = self.objects / "luscope.config"
        together.write_text("".join(fragment.read_text() for fragment in fragments))
        self.make("allnoconfig", log, progress, together)
        return kconfig.parse((self.objects / ".config").read_text())

    def release(self) -> str:
        """Return what `uname -r` will print; the tree has been built."""
        return (self.objects / "include" / "config" / "kernel.release").read_text().strip()

    def copy_artefacts(self, directory: Path) -> None:
        """Copy the image, System.map and configuration to `directory`."""
        shutil.copy2(self.image, directory / "bzImage")
        shutil.copy2(self.objects / "System.map", directory / "System.map")
        shutil.copy2(self.objects / ".config", directory / "config")


def build(
    tree: Tree, fragments: Sequence[Path], name: str, progress: Progress, *, is_strict: bool = True
) -> list[str]:
    """Configure and build `tree`; return a line for each symbol that it refused (none if `is_strict`).

    Raises:
        ImageError: a symbol of `fragments` did not get its value, or make failed; the objects can be built
        on.
    """
    log = cache.root() / "logs" / f"kernel-{name}.log"
    log.unlink(missing_ok=True)
    progress.step(f"configuring the kernel {name}")
    try:
        got = tree.configure(fragments, log, progress)
    except CommandError as error:
        raise ImageError(
            f"the kernel {name} could not be configured: {_reason(error)}", error.lines
        ) from error
    refused = kconfig.refused(asked(fragments), got)
    if refused and is_strict:
        raise ImageError(
            f"the kernel {name} does not take its configuration: {'; '.join(refused)}:"
            " correct the fragment in guest_images/kernel",
            refused,
        )
    progress.step(f"building the kernel {name}, about four minutes on two CPUs")
    try:
        tree.make("bzImage", log, progress)
    except CommandError as error:
        raise ImageError(f"the kernel {name} did not build: {_reason(error)}", error.lines) from error
    return refused


def apply(patches: Sequence[Path], sources: Path, progress: Progress) -> None:
    """Apply `patches`, in order, to the tree `sources`.

    Raises:
        ImageError: one does not apply; `sources` must be thrown away.
    """
    for patch in patches:
        command = ["patch", "-p1", "--force", "--no-backup-if-mismatch", "-i", str(patch)]
        try:
            run(command, progress, cwd=sources)
        except CommandError as error:
            raise ImageError(f"{patch.name} does not apply: {_reason(error)}", error.lines) from error


def relocate(objects: Path, old: Path, new: Path) -> None:
    """Make objects that were copied from the tree `old` count as built in the tree `new`.

    The kernel's own rules name files relatively; those of tools/ do not, and everything is compiled again when objtool
    is. A target counts as built when its command, as kept in its .cmd file, is the present one.
    """
    for path in objects.rglob(".*.cmd"):
        text = path.read_text(errors="surrogateescape")
        if str(old) in text:
            path.write_text(text.replace(str(old), str(new)), errors="surrogateescape")


def asked(fragments: Sequence[Path]) -> dict[str, str]:
    """Return the symbols of `fragments`, a later one's value over an earlier one's."""
    symbols: dict[str, str] = {}
    for fragment in fragments:
        symbols |= kconfig.parse(fragment.read_text())
    return symbols


def _reason(error: CommandError) -> str:
    """Return the line of a failed program's output that says why, and where the rest is."""
    telling = [line.strip() for line in error.lines if _TELLING.search(line)]
    ordinary = [line.strip() for line in error.lines if line.strip()]
    reason = (telling or ordinary or ["no output"])[0 if telling else -1]
    return f"{reason} (whole log: {error.log})" if error.log else reason
