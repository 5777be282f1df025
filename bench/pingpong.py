# SPDX-License-Identifier: MIT
"""The bare ping-pong in C: compiled on first use, and its server process (`python -m bench.pingpong`)."""

import contextlib
import functools
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cffi import FFI

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = HERE.parent / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Message:
    """A request, the size of its reply, and the fd that goes with it."""

    request: bytes
    reply_bytes: int
    passed_fd: int = -1


@functools.cache
def library() -> Any:
    """The compiled module: `.lib` and `.ffi`."""
    ffibuilder = FFI()
    ffibuilder.cdef((HERE / "pingpong.cdef").read_text())
    ffibuilder.set_source(
        "_pingpong",
        (HERE / "pingpong.c").read_text(),
        include_dirs=[str(HERE)],
        extra_compile_args=["-O2", "-std=gnu11", "-Wall", "-Wextra"],
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    path = ffibuilder.compile(tmpdir=str(BUILD))
    spec = importlib.util.spec_from_file_location("_pingpong", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Rounds:
    """Messages, as the C loops take them."""

    def __init__(self, messages: Sequence[Message]) -> None:
        module = library()
        self._lib = module.lib
        self._requests = [module.ffi.from_buffer(message.request) for message in messages]
        rows = [
            (data, len(message.request), message.reply_bytes, message.passed_fd)
            for data, message in zip(self._requests, messages, strict=True)
        ]
        self._count = len(messages)
        self._messages = module.ffi.new("struct pingpong_message[]", rows)

    def call_ns(self, fd: int, rounds: int) -> int:
        """How long so many rounds of all messages take; OSError where they break off."""
        result = int(self._lib.pingpong_call(fd, self._messages, self._count, rounds))
        if result < 0:
            raise OSError(-result, "the round trips broke off")
        return result

    def serve(self, fd: int) -> int:
        """Answer until the peer is gone; -errno of why it ended."""
        return int(self._lib.pingpong_serve(fd, self._messages, self._count))


@contextlib.contextmanager
def bare(messages: Sequence[Message]) -> Iterator[int]:
    """A socket at whose other end a process of its own answers as many bytes, and does nothing else."""
    ours, theirs = socket.socketpair()
    sizes = [(len(m.request), m.reply_bytes, m.passed_fd >= 0) for m in messages]
    with ours:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.pingpong", str(theirs.fileno()), json.dumps(sizes)],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        with process:
            yield ours.fileno()
            ours.shutdown(socket.SHUT_RDWR)


def main(fd: int, sizes: Sequence[tuple[int, int, bool]]) -> int:
    """The server process: 0 when its peer has left."""
    messages = [Message(bytes(size), reply, 0 if has_fd else -1) for size, reply, has_fd in sizes]
    result = Rounds(messages).serve(fd)
    os.close(fd)
    return 0 if result < 0 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))
