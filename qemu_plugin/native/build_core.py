# SPDX-License-Identifier: MIT
"""Builds `qemu_plugin.native._core` from `core.cdef`, the whole boundary, and `src/*.c`.

setup.py names `ffibuilder`; running this file compiles in place, for development.
"""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# cffi's own generated wrappers leave parameters and initializers unused.
GENERATED = ["-Wno-unused-parameter", "-Wno-missing-field-initializers"]

ffibuilder = FFI()
ffibuilder.cdef((HERE / "core.cdef").read_text())
ffibuilder.set_source(
    "qemu_plugin.native._core",
    '#include "core.h"',
    sources=[str(path.relative_to(ROOT)) for path in sorted((HERE / "src").glob("*.c"))],
    depends=[
        str(path.relative_to(ROOT)) for path in [HERE / "core.cdef", *sorted((HERE / "src").glob("*.h"))]
    ],
    include_dirs=[str((HERE / "src").relative_to(ROOT))],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=["-O2", "-std=gnu11", *WARNINGS, *GENERATED],
    extra_link_args=["-pthread"],
    # One file name however it is built: of two, Python would import the one that may be stale.
    py_limited_api=False,
)

if __name__ == "__main__":
    import os

    os.chdir(ROOT)
    ffibuilder.compile(tmpdir=".", verbose=False)
