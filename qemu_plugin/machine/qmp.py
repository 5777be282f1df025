# SPDX-License-Identifier: MIT
"""QMP with deadlines, over `qemu.qmp`. What a machine said by itself (events) is kept for whoever asks."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError
from qemu.qmp.events import EventListener

from qemu_plugin.errors import BenchError

# qemu.qmp logs every lost connection as an error; ours are reported once, by whoever waits for the machine.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Monitor:
    """One QMP connection to one machine.

    `connect` has QEMU's socket accepted first, so that nothing is lost; `execute` returns the reply's
    `return` member. Every error names the command and what came back.
    """

    def __init__(self, name: str = "luscope") -> None:
        self._client = QMPClient(name)
        self._listener = EventListener()
        self._client.register_listener(self._listener)
        self._pump: asyncio.Task[None] | None = None

    async def listen(self, path: Path) -> None:
        """Listen on `path`, so that QEMU (`-qmp unix:PATH`, a client) finds us there."""
        await self._client.start_server(str(path))

    async def accept(self, timeout_s: float, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        """Wait for QEMU and negotiate; from then on `on_event` gets each event. BenchError at the deadline."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.accept()
        except TimeoutError:
            raise BenchError(f"QEMU did not open its QMP connection within {timeout_s:g} s") from None
        except QMPError as error:
            raise BenchError(f"QMP negotiation with QEMU failed: {error}") from error
        self._pump = asyncio.create_task(self._deliver(on_event), name="qmp events")

    async def _deliver(self, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        async for event in self._listener:
            on_event(dict(event))

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 20.0
    ) -> Any:
        """The `return` member of QEMU's reply. BenchError where QEMU refuses, is gone, or is late.

        QEMU holds its big lock while a vCPU waits for a vfio-user reply, so a reply can be late without
        anything being wrong with QMP.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except ExecuteError as error:
            raise BenchError(f"QMP {command}: {error}") from error
        except TimeoutError:
            raise BenchError(f"QMP {command}: no reply within {timeout_s:g} s") from None
        except (QMPError, OSError, EOFError) as error:
            raise BenchError(f"QMP {command}: the connection is gone ({error})") from error

    async def close(self) -> None:
        """Drop the connection; whether QEMU is still there does not matter."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        try:
            async with asyncio.timeout(2.0):
                await self._client.disconnect()
        except (QMPError, OSError, EOFError, TimeoutError):
            return
