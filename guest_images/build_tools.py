# SPDX-License-Identifier: MIT
"""The programs and libraries that building a guest needs, and the Debian packages that bring them."""

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from guest_images.command import CommandError, run
from guest_images.errors import ImageError
from guest_images.progress import Progress

PYTHON = {"ensurepip": "python3-venv", "Python.h": "python3-dev", "gcc": "gcc"}
AGENT = {"gcc": "gcc", "libc.a": "libc6-dev"}
KERNEL = {
    "gcc": "gcc",
    "make": "make",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "lz4": "lz4",  # KERNEL_LZ4
    "perl": "perl",
    "xz": "xz-utils",  # linux-source is a .tar.xz
    "tar": "tar",
    "cmp": "diffutils",
    "libelf.h": "libelf-dev",  # objtool
    "libc.a": "libc6-dev",
}

# What the interpreter that runs this has, asked of it.
_INTERPRETER: dict[str, Callable[[], bool]] = {
    "ensurepip": lambda: importlib.util.find_spec("ensurepip") is not None,
    "Python.h": lambda: (Path(sysconfig.get_path("include")) / "Python.h").is_file(),
}

# What is compiled to see whether a header or library is there: no path of any distribution is assumed.
_PROBES = {
    "libelf.h": (
        "#include <libelf.h>\nint main(void) { return (int)elf_version(EV_CURRENT); }\n",
        ("-lelf",),
    ),
    "libc.a": ('#include <stdio.h>\nint main(void) { return puts(""); }\n', ("-static",)),
}


def missing(needs: Iterable[str]) -> list[str]:
    """Return those of `needs` (keys of `PYTHON`, `AGENT` or `KERNEL`) that are not here, in order."""
    return [need for need in needs if not _is_present(need)]


def require(needs: Mapping[str, str], purpose: str, progress: Progress) -> None:
    """Make sure that all of `needs` are here: installed with apt-get when this is root, asked for otherwise.

    Raises:
        ImageError: something is missing; the line names the packages and the command that installs them.
    """
    absent = missing(needs)
    if not absent:
        return
    packages = list(dict.fromkeys(needs[need] for need in absent))
    if os.geteuid() == 0 and shutil.which("apt-get"):
        progress.step(f"installing {' '.join(packages)}, needed for {purpose}")
        try:
            _install(packages, progress)
        except CommandError as error:
            raise ImageError(
                f"{purpose} needs {', '.join(absent)}, and apt-get install {' '.join(packages)} failed:"
                f" {error.lines[-1].strip() if error.lines else 'no output'}",
                error.lines,
            ) from error
        absent = missing(absent)
    if absent:
        raise ImageError(f"{purpose} needs {', '.join(absent)}: {install_command(packages)}")


def install_command(packages: Iterable[str]) -> str:
    """Return the command that a user is told to run."""
    return f"run as root: apt-get install {' '.join(packages)}"


def _install(packages: list[str], progress: Progress) -> None:
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    quietly = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(install, progress, env=quietly)
    except CommandError:  # most often because the package lists are absent or old
        run(["apt-get", "update"], progress)
        run(install, progress, env=quietly)


def _is_present(need: str) -> bool:
    if need in _INTERPRETER:
        return _INTERPRETER[need]()
    if need not in _PROBES:
        return shutil.which(need) is not None
    source, libraries = _PROBES[need]
    with TemporaryDirectory() as directory:
        output = Path(directory) / "probe"
        try:
            compiled = subprocess.run(
                ["gcc", "-x", "c", "-", "-o", str(output), *libraries],
                input=source,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            return False
        return compiled.returncode == 0
