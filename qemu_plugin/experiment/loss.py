# SPDX-License-Identifier: MIT
"""Waiting for a guest while its machine may go away: every wait ends with what it waited for, or with why not."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from qemu_plugin.errors import BenchError

T = TypeVar("T")


class LostError(BenchError):
    """The machine, a server or the guest went away, or said nothing until the deadline."""


class BenchLostError(LostError):
    """The bench itself broke (its server, its disk): nothing of it is the guest's doing."""


class Watch:
    """Races waits against the loss of what they depend on. The first loss stays the reason."""

    def __init__(self) -> None:
        self._lost: asyncio.Future[LostError] = asyncio.get_running_loop().create_future()

    def lose(self, error: LostError) -> None:
        """Something is gone: current and later waits raise `error` (the first one given)."""
        if not self._lost.done():
            self._lost.set_result(error)

    @property
    def loss(self) -> LostError | None:
        """Why nothing more is to be expected, if so."""
        return self._lost.result() if self._lost.done() else None

    async def guard(self, coroutine: Coroutine[Any, Any, T], what: str, timeout_s: float) -> T:
        """The coroutine's result; LostError where the machine is lost first or `timeout_s` passes."""
        task: asyncio.Future[Any] = asyncio.ensure_future(coroutine)
        lost: asyncio.Future[Any] = self._lost
        try:
            await asyncio.wait([task, lost], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                result: T = task.result()
                return result
            if self._lost.done():
                raise self._lost.result()
            raise LostError(f"nothing for {timeout_s:g} s while waiting for {what}")
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
