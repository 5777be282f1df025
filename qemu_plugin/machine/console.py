# SPDX-License-Identifier: MIT
"""Serial ports of the guest as UNIX sockets that QEMU connects to, so that not a byte is missed."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from qemu_plugin.errors import BenchError


class SerialPort:
    """A listening socket that becomes the host's end of one serial port of the guest."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._server: asyncio.Server | None = None
        self._connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] | None = None

    async def listen(self) -> None:
        """Listen; QEMU has to be given `chardev()`."""
        self._connected = asyncio.get_running_loop().create_future()
        self._server = await asyncio.start_unix_server(self._accept, self.path, limit=1 << 20)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._connected is not None
        if self._connected.done():
            writer.close()
            return
        self._connected.set_result((reader, writer))

    def chardev(self) -> str:
        """The value of QEMU's `-chardev` option that connects to this port."""
        return f"socket,id={self.name},path={self.path}"

    async def streams(self, timeout_s: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection, when QEMU has made it; BenchError at the deadline."""
        assert self._connected is not None, "listen() comes first"
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._connected)
        except TimeoutError:
            raise BenchError(
                f"QEMU did not connect its serial port {self.name} within {timeout_s:g} s"
            ) from None

    async def close(self) -> None:
        """Stop listening and drop the connection."""
        if self._server is not None:
            self._server.close()
        if self._connected is not None and self._connected.done():
            self._connected.result()[1].close()
        self.path.unlink(missing_ok=True)


async def read_lines(
    reader: asyncio.StreamReader,
    on_line: Callable[[int, str], Awaitable[None] | None],
    *,
    line_bytes_max: int = 4096,
) -> None:
    """Hand each line to `on_line` with the CLOCK_MONOTONIC ns of its first byte's arrival, until the end.

    A line longer than `line_bytes_max` is handed over in pieces, an unfinished last one at the end;
    bytes that are no UTF-8 become replacement characters.
    """
    pending = b""
    started_ns = 0
    while chunk := await _read_some(reader):
        now_ns = time.monotonic_ns()
        if not pending:
            started_ns = now_ns
        *lines, pending = (pending + chunk).split(b"\n")
        while len(pending) > line_bytes_max:
            lines.append(pending[:line_bytes_max])
            pending = pending[line_bytes_max:]
        for line in lines:
            await _hand_over(on_line, started_ns, line)
            started_ns = now_ns
    if pending:
        await _hand_over(on_line, started_ns, pending)


async def _hand_over(on_line: Callable[[int, str], Awaitable[None] | None], t_ns: int, line: bytes) -> None:
    pending = on_line(t_ns, line.decode(errors="replace").rstrip("\r"))
    if pending is not None:
        await pending


async def _read_some(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.read(1 << 16)
    return b""
