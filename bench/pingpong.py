# SPDX-License-Identifier: MIT
"""The bare ping-pong in C: compiled on first use, and its server process (`python -m bench.pingpong`)."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Final

from cffi import FFI

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = HERE.parent / "build" / "bench"


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


if __name__ == "__main__":
    fd, request_bytes, reply_bytes = (int(argument) for argument in sys.argv[1:])
    result = library().lib.pingpong_serve(fd, request_bytes, reply_bytes)
    os.close(fd)
    sys.exit(0 if result < 0 else 1)
