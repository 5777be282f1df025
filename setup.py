# SPDX-License-Identifier: MIT
"""Everything is in pyproject.toml but what is compiled: cffi's modules can only be named here, and the TCG plugin.

The plugin is a shared object like any other extension module, but it is QEMU that loads it. It shares the
recording's writer with the C core.
"""

from pathlib import Path

from setuptools import Extension, setup

CORE = "qemu_plugin/native"
PLUGIN = "qemu_plugin/attribution/plugin"


def files(folder: str, pattern: str) -> list[str]:
    """Return the matching files, relative to the project's root, where this runs."""
    return sorted(map(str, Path(folder).glob(pattern)))


plugin = Extension(
    "qemu_plugin.attribution._plugin",
    sources=files(PLUGIN, "*.c"),
    depends=[*files(PLUGIN, "*.h"), *files(CORE, "*.cdef"), *files(f"{CORE}/src", "recording.*")],
    include_dirs=[f"{CORE}/src"],
    define_macros=[("_GNU_SOURCE", None)],
    # Hidden but for what QEMU looks up: its own process has many names.
    extra_compile_args=["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
)

setup(cffi_modules=["qemu_plugin/native/build_core.py:ffibuilder"], ext_modules=[plugin])
