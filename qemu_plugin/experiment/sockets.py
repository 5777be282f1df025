# SPDX-License-Identifier: MIT
"""The private folder of one run's sockets, and the removal of folders whose owner was killed."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

PREFIX: Final = "luscope-"
_OWNER: Final = "owner"


def create_folder() -> Path:
    """A new folder that only this user may enter (0700), below the system's temporary directory.

    Folders of the same user whose process is gone, which only SIGKILL can leave, are removed first.
    """
    parent = Path(tempfile.gettempdir())
    for folder in parent.glob(f"{PREFIX}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    (made / _OWNER).write_text(f"{os.getpid()} {_started(os.getpid())}")
    return made


def _is_abandoned(folder: Path) -> bool:
    try:
        if folder.stat().st_uid != os.getuid():
            return False
        pid, started = (folder / _OWNER).read_text().split()
        return _started(int(pid)) != started
    except (OSError, ValueError):
        return False  # just being made, or not ours


def _started(pid: int) -> str:
    """When a process started, in ticks since boot: a process number alone may be another's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "gone"
