# SPDX-License-Identifier: MIT
"""Listens on a UNIX socket and serves one function, to one client after another.

The serving thread waits in C without the GIL. It comes back for what a model decides, for a reset and for the
negotiation; each kind is answered in one place, and so is each kind of wrong.
"""

import errno
import logging
import os
import select
import socket
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from pydev.endpoint import Endpoint
from pydev.pci import CONFIG_REGION, Function
from pydev.ports import ResetKind
from qemu_plugin.errors import RemoteProtocolError, UsageError
from qemu_plugin.native._core import lib
from qemu_plugin.native.engine import SERVE_ACCESS, SERVE_RESET, SERVE_VERSION, Engine
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.server.port import NativePort
from qemu_plugin.server.timers import Timers
from qemu_plugin.server.wide_access import read_wide, write_wide
from qemu_plugin.vfio_user.version import Version, answer

LOG: Final = logging.getLogger(__name__)

INTERRUPT_PIN: Final = 0x3D  # PCIe 6.0 7.5.1.1.13
_Access: TypeAlias = Callable[..., Any]
_ALL_ONES: Final = (1 << 64) - 1
"""What C takes; it cuts a value to the size of its access."""
_REQUEST: Final = struct.Struct("=QQI")
"""The first members of `struct request` (core.cdef): key, value, is_write."""


ACCESSES_KEPT: Final = 4096


class _Accesses(dict[int, _Access]):
    """What to call for each access that came so far, by `request.key`; `find` says it for a new one."""

    def __init__(self, find: Callable[[int, int, int], _Access]) -> None:
        self._find = find

    def __missing__(self, key: int) -> _Access:
        if len(self) == ACCESSES_KEPT:  # a client that touches every byte is not to fill memory with them
            self.clear()
        offset, region, size = key >> 8, key >> 4 & 0xF, key & 0xF
        found = self[key] = self._find(region, offset, size)
        return found


BACKLOG: Final = 8
SOCKET_PATH_BYTES_MAX: Final = 107  # linux include/uapi/linux/un.h UNIX_PATH_MAX, less the NUL


class EndpointServer:
    """Serves `function` at `socket_path`; its events get `function_index` in `recording`.

    The socket's directory is created with mode 0700, and must have it if it is there: who can connect can
    write guest memory. UsageError where it has not, or the path is too long for a socket.
    """

    def __init__(
        self,
        function: Function,
        socket_path: Path,
        *,
        recording: RecordingWriter | None = None,
        function_index: int = 0,
    ) -> None:
        self._function = function
        self.socket_path = socket_path
        intx_lines = 1 if function.regions[CONFIG_REGION].peek(INTERRUPT_PIN, 1) else 0
        self.engine = Engine(
            recording, function_index, msix_vectors=function.msix_vectors, intx_lines=intx_lines
        )
        for region, bank in function.regions.items():
            self.engine.bind(region, bank)
        if function.msix_pba is not None:
            self.engine.set_pending_bits(*function.msix_pba)
        self.port = NativePort(self.engine)
        self._note_resets()
        self._model_lock = threading.RLock()
        self.timers = Timers(self._model_lock)
        if isinstance(function, Endpoint):
            function.connect(self.port, clock=self.timers, scheduler=self.timers)
        else:
            function.connect(self.port)
        self.port.set_gate(function.gate)
        self.model_errors: list[Exception] = []
        self._lock = threading.Lock()
        self._readers = _Accesses(function.reader)
        self._writers = _Accesses(function.writer)
        self._client: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._wake = -1
        self._thread: threading.Thread | None = None

    def _note_resets(self) -> None:
        """A function resets itself too (FLR, D3hot to D0): its `reset` is where all of them pass."""
        reset, note = self._function.reset, self.port.note_reset

        def noted(kind: ResetKind) -> None:
            note(kind)
            reset(kind)

        self._function.reset = noted  # type: ignore[method-assign]

    # -- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and serve in a thread from now on: a client may connect when this returns."""
        self._listener = listen(self.socket_path)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(
            target=self._serve_clients, name=f"luscope-{self.socket_path.stem}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Disconnect the client, stop every stream, remove the socket; harmless when repeated."""
        if self._thread is None:
            return
        with self._lock:
            os.eventfd_write(self._wake, 1)
            if self._client is not None:
                self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._thread = None
        self.timers.close()
        self.port.close()
        os.close(self._wake)
        if self._listener is not None:
            self._listener.close()
        self.socket_path.unlink(missing_ok=True)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has been stopped; False after `timeout_s`."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- serving ----------------------------------------------------------------------------------------

    def _serve_clients(self) -> None:
        assert self._listener is not None
        lib.thread_prefer_batch()  # a round trip is two switches then, and not three
        ready = select.poll()
        ready.register(self._listener, select.POLLIN)
        ready.register(self._wake, select.POLLIN)
        while self._wake not in [fd for fd, _ in ready.poll()]:
            try:
                client, _ = self._listener.accept()
            except OSError as error:  # the client left again, or no fd is free: the next one may do better
                LOG.warning("%s: accept: %s", self.socket_path, error)
                continue
            with client:
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        client.setblocking(True)
        with self._lock:
            self._client = client
        raw = self.engine.raw
        lib.engine_open(raw, client.fileno())
        result = 0
        try:
            # stop() may have come before _client was set: poll() sees its wake-up, and so must this.
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            if not poll.poll(0):
                result = lib.engine_serve(raw)
            while result > 0:
                result = self._answer_accesses(result)
                if result > 0:
                    result = self._answer(result)
        finally:
            with self._lock:
                self._client = None
            lib.engine_close(raw, result)
        if result < 0:
            LOG.info("%s: client disconnected: %s", self.socket_path, os.strerror(-result))

    def _answer_accesses(self, what: int) -> int:
        """Answer accesses of up to 8 bytes as long as no other message comes; returns what came then.

        Everything is at hand in locals and looked up once, as the guest waits for each of them.
        """
        raw, reply, lock = self.engine.raw, lib.engine_reply, self._model_lock
        request, unpack = self.engine.request_bytes, _REQUEST.unpack_from
        readers, writers = self._readers, self._writers
        while what == SERVE_ACCESS:
            key, value, is_write = unpack(request)
            if not key:
                return what
            try:
                with lock:
                    if is_write:
                        writers[key](value)
                    else:
                        value = readers[key]() & _ALL_ONES
            except Exception as error:
                what = self._model_failed(error)
            else:
                what = reply(raw, value)
        return what

    def _answer(self, what: int) -> int:
        """Answer one message and serve on; all that a model or a peer can do wrong becomes an errno here."""
        raw = self.engine.raw
        try:
            if what == SERVE_ACCESS:
                return self._answer_wide_access()
            if what == SERVE_RESET:
                with self._model_lock:
                    self._function.reset(ResetKind.DEVICE)
                return int(lib.engine_reply_reset(raw))
            assert what == SERVE_VERSION
            payload = answer(Version.decode(self.engine.data())).encode()
        except RemoteProtocolError as error:
            LOG.warning("%s: %s", self.socket_path, error)
            return int(lib.engine_reply_error(raw, error.errno))
        except Exception as error:
            return self._model_failed(error)
        return int(lib.engine_reply_bytes(raw, payload, len(payload)))

    def _model_failed(self, error: Exception) -> int:
        """A model's own mistake. The guest gets an error as from broken hardware, the user the traceback."""
        LOG.error("%s: the model failed", self.socket_path, exc_info=error)
        self.model_errors.append(error)
        return int(lib.engine_reply_error(self.engine.raw, errno.EIO))

    def _answer_wide_access(self) -> int:
        raw, request, function = self.engine.raw, self.engine.request, self._function
        region, offset, size = request.region, request.offset, request.size
        if request.is_write:
            with self._model_lock:
                write_wide(function.region_write, region, offset, self.engine.data())
            return int(lib.engine_reply(raw, 0))
        with self._model_lock:
            data = read_wide(function.region_read, region, offset, size)
        return int(lib.engine_reply_bytes(raw, data, size))


def listen(path: Path) -> socket.socket:
    """A socket that listens at `path`, in a directory that only this user can enter."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise UsageError(
            f"socket path {path} is longer than {SOCKET_PATH_BYTES_MAX} bytes: use a shorter one"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.parent.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"{path.parent} is open to others (mode {stat.S_IMODE(mode):04o}), who could then write guest "
            f"memory through {path.name}: chmod 700 it, or use another directory"
        )
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen at {path}: {error.strerror}") from error
    return listener
