# SPDX-License-Identifier: MIT
"""A clock that stands still until a test moves it, and the timers that run out on the way."""

import heapq
from collections.abc import Callable


class Timer:
    """A call that is due at `due_ns`."""

    __slots__ = ("callback", "due_ns", "is_cancelled", "number")

    def __init__(self, due_ns: int, number: int, callback: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.number = number
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Never call."""
        self.is_cancelled = True

    def __lt__(self, other: "Timer") -> bool:
        return (self.due_ns, self.number) < (other.due_ns, other.number)


class ManualTime:
    """Clock and scheduler in one; equal due times run in the order in which they were set."""

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now_ns = start_ns
        self._timers: list[Timer] = []
        self._count = 0

    def now_ns(self) -> int:
        """The moment that the test has reached."""
        return self._now_ns

    def call_later(self, delay_ns: int, callback: Callable[[], None]) -> Timer:
        """Call when time has been moved on by `delay_ns`; 0 is at the next move, never from here."""
        self._count += 1
        timer = Timer(self._now_ns + max(delay_ns, 0), self._count, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def advance(self, duration_ns: int) -> None:
        """Move on, stopping at each timer that is due on the way or exactly at the end."""
        end_ns = self._now_ns + duration_ns
        while self._timers and self._timers[0].due_ns <= end_ns:
            timer = heapq.heappop(self._timers)
            self._now_ns = max(self._now_ns, timer.due_ns)
            if not timer.is_cancelled:
                timer.callback()
        self._now_ns = end_ns

    @property
    def timers_count(self) -> int:
        """How many timers are set and not cancelled."""
        return sum(not timer.is_cancelled for timer in self._timers)
