# SPDX-License-Identifier: MIT
"""Whether a QEMU loads a plugin: tried once, and remembered in the cache for that QEMU and that file."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from guest_images import cache
from guest_images.errors import ImageError
from guest_images.progress import Progress

LOADED: Final = b"luscope: the plugin can be loaded"
"""What the plugin prints when it is loaded without arguments (attribution/plugin/main.c)."""
_TRIAL_S: Final = 30.0


def refusal(argv: Sequence[str], plugin: Path, progress: Progress) -> str | None:
    """What `attempt` says, remembered; where it cannot be remembered it is tried each time."""
    entry = cache.root() / "plugin" / _key(argv, plugin)

    def fill(staging: Path) -> None:
        progress.step("trying QEMU's plugin interface")
        (staging / "answer.json").write_text(json.dumps(_try(argv, plugin)) + "\n")

    try:
        answer: str | None = json.loads((cache.install(entry, fill, progress) / "answer.json").read_text())
    except (ImageError, subprocess.TimeoutExpired):
        return attempt(argv, plugin)
    return answer


def attempt(argv: Sequence[str], plugin: Path) -> str | None:
    """Why the QEMU that `argv` starts does not load `plugin`, in its own words; None where it does.

    A plugin is compiled for one version of QEMU's interface, and QEMU may be built without any.
    """
    try:
        return _try(argv, plugin)
    except subprocess.TimeoutExpired:
        return f"it said nothing of the plugin for {_TRIAL_S:g} s"


def _try(argv: Sequence[str], plugin: Path) -> str | None:
    file = str(plugin).replace(",", ",,")
    try:
        output = subprocess.run(
            [*argv, "-machine", "none", "-display", "none", "-plugin", file],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TRIAL_S,
            check=False,
        ).stdout
    except OSError as error:
        return str(error.strerror)
    if LOADED in output:
        return None
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing of the plugin"


def _key(argv: Sequence[str], plugin: Path) -> str:
    """Of everything that decides the answer: a QEMU that is replaced has another size or time."""
    words: list[object] = [hashlib.sha256(plugin.read_bytes()).hexdigest()]
    for word in argv:
        path = Path(shutil.which(word) or word)
        stat = path.stat() if path.is_file() else None
        words.append((word, stat and (stat.st_size, stat.st_mtime_ns)))
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
