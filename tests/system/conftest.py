# SPDX-License-Identifier: MIT
"""Real QEMU, real kernels. What set-up makes is there already (`make test`), or is made here once."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def _descendants(pid: int) -> set[int]:
    """The running processes below `pid`, however deep."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


@pytest.fixture
def descendants() -> Callable[[int], set[int]]:
    """A function: the running processes below a process."""
    return _descendants


@pytest.fixture(autouse=True)
def nothing_is_left_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may leave a process, or one of the bench's folders of sockets."""
    before = _descendants(os.getpid())
    folders = set(Path("/tmp").glob("luscope-*"))
    yield
    assert _descendants(os.getpid()) - before == set(), "a process outlived its test"
    left = {folder for folder in set(Path("/tmp").glob("luscope-*")) - folders if not _is_anothers(folder)}
    assert left == set(), "a folder of sockets outlived its test"


def _is_anothers(folder: Path) -> bool:
    """Whether a run that is under way beside these tests, and is none of theirs, has its sockets there."""
    try:
        pid = int((folder / "owner").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return not folder.exists()
    return pid != os.getpid() and Path(f"/proc/{pid}").exists() and pid not in _descendants(os.getpid())


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one finished run of the experiment `unpatched`, for tests that only read it."""
    from guest_images.progress import PlainProgress
    from qemu_plugin.experiment import runner, spec
    from qemu_plugin.experiment.images import prepare

    experiment = spec.load("unpatched")
    out = tmp_path_factory.mktemp("shared") / "run"

    async def perform() -> None:
        async with runner.live_update(experiment, prepare(experiment.guest, PlainProgress()), out=out) as run:
            await run.finish()

    asyncio.run(perform())
    return out
