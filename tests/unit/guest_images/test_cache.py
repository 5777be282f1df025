# SPDX-License-Identifier: MIT
import errno
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from guest_images import cache
from guest_images.errors import ImageError
from guest_images.progress import Progress, SilentProgress


def test_the_environment_decides_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("LUSCOPE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.root() == Path("/home/me/.cache/luscope")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # XDG Base Directory: a relative path is to be ignored
    assert cache.root() == Path("/home/me/.cache/luscope")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.root() == Path("/xdg/luscope")
    monkeypatch.setenv("LUSCOPE_CACHE", "/chosen")
    assert cache.root() == Path("/chosen")


def test_an_entry_is_filled_once(cache_root: Path, progress: Progress) -> None:
    filled = []

    def fill(directory: Path) -> None:
        filled.append(directory)
        (directory / "it").write_text("whole")

    target = cache_root / "kind" / "entry"
    assert cache.install(target, fill, progress) == target
    assert cache.install(target, fill, progress) == target
    assert len(filled) == 1
    assert (target / "it").read_text() == "whole"


def test_an_entry_that_fails_leaves_nothing_behind_and_can_be_tried_again(
    cache_root: Path, progress: Progress
) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("half")
        raise ImageError("the network went away")

    target = cache_root / "kind" / "entry"
    with pytest.raises(ImageError, match="went away"):
        cache.install(target, fail, progress)
    assert list(target.parent.iterdir()) == []
    cache.install(target, lambda directory: (directory / "it").touch(), progress)
    assert [path.name for path in target.iterdir()] == ["it"]


def _fill_until_killed(target: Path, started: Connection) -> None:
    def fill(directory: Path) -> None:
        (directory / "half").touch()
        started.send("filling")
        time.sleep(600)

    cache.install(target, fill, SilentProgress())


def test_a_killed_process_leaves_neither_an_entry_nor_a_lock(cache_root: Path, progress: Progress) -> None:
    target = cache_root / "kind" / "entry"
    receiver, sender = multiprocessing.get_context("fork").Pipe()
    victim = multiprocessing.get_context("fork").Process(target=_fill_until_killed, args=(target, sender))
    victim.start()
    assert receiver.recv() == "filling"
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    assert not target.exists()
    cache.install(target, lambda directory: (directory / "it").touch(), progress)
    assert [path.name for path in target.parent.iterdir()] == ["entry"]
    assert [path.name for path in target.iterdir()] == ["it"]


def _fill_and_count(target: Path, counter: Path) -> None:
    def fill(directory: Path) -> None:
        with counter.open("a") as file:
            file.write("filled\n")
        (directory / "it").touch()
        time.sleep(0.05)  # so that the others arrive meanwhile

    cache.install(target, fill, SilentProgress())


def test_of_processes_that_want_the_same_entry_one_fills_it(cache_root: Path, tmp_path: Path) -> None:
    target, counter = cache_root / "kind" / "entry", tmp_path / "counter"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill_and_count, args=(target, counter)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert counter.read_text() == "filled\n"


def test_who_waits_for_a_lock_is_told(cache_root: Path, progress: Progress) -> None:
    receiver, sender = multiprocessing.get_context("fork").Pipe()

    def hold() -> None:
        with cache.locked("thing", SilentProgress()):
            sender.send("held")
            receiver_of_holder.recv()

    receiver_of_holder, release = multiprocessing.get_context("fork").Pipe()
    holder = multiprocessing.get_context("fork").Process(target=hold)
    holder.start()
    assert receiver.recv() == "held"

    class Releasing(SilentProgress):
        told: str = ""

        def step(self, text: str) -> None:
            self.told = text
            release.send("go")

    waiting = Releasing()
    with cache.locked("thing", waiting):
        pass
    holder.join()
    assert waiting.told == "waiting for another process that prepares thing"


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: Progress
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ImageError, match=r"cannot write .*file.* set LUSCOPE_CACHE"):
        cache.install(cache.root() / "kind" / "entry", lambda directory: None, progress)


def test_a_full_disk_while_an_entry_is_filled_is_one_line(cache_root: Path, progress: Progress) -> None:
    def fill(directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory / "big"))

    with pytest.raises(ImageError, match=r"No space left on device\): free some space"):
        cache.install(cache_root / "kind" / "entry", fill, progress)
    assert list((cache_root / "kind").iterdir()) == []


def test_too_little_space_is_said_before_anything_is_fetched(cache_root: Path) -> None:
    cache.require_space(1, "a test")
    with pytest.raises(ImageError, match=r"a test needs \d+ MiB .* are free"):
        cache.require_space(1 << 60, "a test")
