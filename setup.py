# SPDX-License-Identifier: MIT
"""Everything is in pyproject.toml but the C core: cffi's modules can only be named here."""

from setuptools import setup

setup(cffi_modules=["qemu_plugin/native/build_core.py:ffibuilder"])
