# SPDX-License-Identifier: MIT
"""The cache: where everything lives that can be downloaded or built again.

An entry is a directory that appears whole or not at all: it is filled under a temporary name beside its
place, by one process at a time, and renamed. Nothing is ever changed inside an entry. Work that is kept
between builds (apt's state, kernel build trees) is not an entry: it is changed in place, under a lock.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from guest_images.errors import ImageError
from guest_images.progress import Progress


def root() -> Path:
    """Return the cache's directory: `$LUSCOPE_CACHE`, `$XDG_CACHE_HOME/luscope` or `~/.cache/luscope`."""
    if chosen := os.environ.get("LUSCOPE_CACHE"):
        return Path(chosen).expanduser().absolute()
    if (base := os.environ.get("XDG_CACHE_HOME")) and Path(base).is_absolute():
        return Path(base) / "luscope"
    return Path.home() / ".cache" / "luscope"


@contextmanager
def locked(name: str, progress: Progress) -> Iterator[None]:
    """Hold the cache's lock `name` (an advisory `flock`, released by the kernel if this process dies).

    Raises:
        ImageError: the cache cannot be written.
    """
    with _writing(root()):
        directory = root() / "locks"
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.step(f"waiting for another process that prepares {name}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def install(target: Path, fill: Callable[[Path], None], progress: Progress) -> Path:
    """Return the entry `target`, made by `fill(directory)` if it is not there yet.

    `fill` gets an empty directory on the same file system. If it raises, the directory is removed and
    `target` stays absent; what a killed process left behind is removed here.

    Raises:
        ImageError: the cache cannot be written; and whatever `fill` raises.
    """
    if target.is_dir():
        return target
    with locked(f"{target.parent.name}-{target.name}", progress), _writing(target):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        for abandoned in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(abandoned)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            staging.chmod(0o755)  # mkdtemp made it 0700; another user may have been given the cache to read
            fill(staging)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    return target


def require_space(needed_bytes: int, purpose: str) -> None:
    """Raise ImageError if the cache's file system has less than `needed_bytes` free."""
    free_bytes = free_space_bytes()
    if free_bytes < needed_bytes:
        raise ImageError(
            f"{purpose} needs {needed_bytes >> 20} MiB in {root()}, {free_bytes >> 20} MiB are free:"
            " free some, or set LUSCOPE_CACHE to a directory with more"
        )


def free_space_bytes() -> int:
    """Return what an ordinary user may still write to the cache's file system."""
    directory = root()
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a file system's refusals below the cache into one line."""
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise ImageError(
            f"cannot write {error.filename or path} ({error.strerror}): {remedy},"
            " or set LUSCOPE_CACHE to another directory"
        ) from error
