# SPDX-License-Identifier: MIT
"""The plugin as it is installed: what it asks of the process that loads it, and how QEMU is told of it."""

import re
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

from qemu_plugin.attribution import plugin
from qemu_plugin.attribution.plugin import KernelAddresses

OLDEST_LIBC = (2, 17)
"""Of 2012: clock_gettime without librt. Any QEMU that has vfio-user-pci runs on a newer one."""


def installed() -> Path:
    found = plugin.library()
    assert found is not None, "the plugin is not compiled"
    return found


def test_it_asks_for_no_newer_libc_than_any_qemu_runs_on() -> None:
    with installed().open("rb") as file:
        needed = next(s for s in ELFFile(file).iter_sections() if isinstance(s, GNUVerNeedSection))
        names = [version.name for _, versions in needed.iter_versions() for version in versions]
    numbers = [re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", name) for name in names]
    assert numbers
    assert all(found and (int(found[1]), int(found[2])) <= OLDEST_LIBC for found in numbers), names


def test_it_needs_no_library_but_libc_and_shows_no_name_but_those_that_qemu_looks_up() -> None:
    with installed().open("rb") as file:
        elf = ELFFile(file)
        dynamic = next(s for s in elf.iter_sections() if isinstance(s, DynamicSection))
        needed = {vars(tag)["needed"] for tag in dynamic.iter_tags("DT_NEEDED")}
        symbols = elf.get_section_by_name(".dynsym")
        assert isinstance(symbols, SymbolTableSection)
        shown = {s.name for s in symbols.iter_symbols() if s["st_shndx"] != "SHN_UNDEF"}
    assert needed <= {"libc.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2"}
    assert shown == {"qemu_plugin_install", "qemu_plugin_version"}


def test_a_comma_in_a_path_is_written_twice() -> None:
    words = plugin.option(Path("/a,b/p.so"), Path("/c,d/r.lus"), [KernelAddresses((1, 2), (3, 0x40), 5)])
    assert words == "/a,,b/p.so,recording=/c,,d/r.lus,kernel=1-2:3-40:5"


def test_more_kernels_than_the_plugin_has_room_for_are_not_mentioned() -> None:
    kernels = [KernelAddresses((n, n + 1), (0, 0), 0) for n in range(plugin.MOST_KERNELS + 1)]
    assert plugin.option(Path("/p"), Path("/r"), kernels).count("kernel=") == plugin.MOST_KERNELS
