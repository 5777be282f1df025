# SPDX-License-Identifier: MIT
"""A model's clock and timers: CLOCK_MONOTONIC, and one thread that calls back under the model's lock."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

LOG: Final = logging.getLogger(__name__)


class Timer:
    """A call that is due at `due_ns`."""

    __slots__ = ("callback", "due_ns", "is_cancelled", "number")

    def __init__(self, due_ns: int, number: int, callback: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.number = number
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Never call; called under the model's lock, it is certain that no call is under way."""
        self.is_cancelled = True

    def __lt__(self, other: "Timer") -> bool:
        return (self.due_ns, self.number) < (other.due_ns, other.number)


class Timers:
    """Clock and scheduler of one model (`pydev.ports.Clock`, `Scheduler`).

    The thread starts with the first timer. `model_lock` is held during each call, so that a model never runs
    in two threads; a call that raises is logged, and the next one made all the same.
    """

    def __init__(self, model_lock: threading.RLock) -> None:
        self._model_lock = model_lock
        self._changed = threading.Condition()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC nanoseconds."""
        return time.monotonic_ns()

    def call_later(self, delay_ns: int, callback: Callable[[], None]) -> Timer:
        """Call once, `delay_ns` from now or as soon after as the model is free; never from inside this call."""
        timer = Timer(self.now_ns() + max(delay_ns, 0), next(self._numbers), callback)
        with self._changed:
            heapq.heappush(self._timers, timer)
            self._changed.notify()
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="luscope-timers", daemon=True)
                self._thread.start()
        return timer

    def close(self) -> None:
        """Call nothing any more: no call is under way when this returns."""
        with self._changed:
            self._is_closed = True
            self._timers.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (timer := self._next_due()) is not None:
            with self._model_lock:
                if timer.is_cancelled or self._is_closed:
                    continue
                try:
                    timer.callback()
                except Exception:  # the model's own mistake: its other timers are still wanted
                    LOG.exception("a timer of the model failed")

    def _next_due(self) -> Timer | None:
        """The next timer, when it is due; None when closed."""
        with self._changed:
            while not self._is_closed:
                if not self._timers:
                    self._changed.wait()
                elif (wait_ns := self._timers[0].due_ns - self.now_ns()) > 0:
                    self._changed.wait(wait_ns / 1e9)
                else:
                    return heapq.heappop(self._timers)
        return None
