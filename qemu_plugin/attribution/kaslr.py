# SPDX-License-Identifier: MIT
"""Where a running kernel lies: how many bytes above the addresses that it was linked for.

Nothing in the guest is asked. A config write's instruction is one of few in the kernel; kernels are moved by
multiples of 2 MiB and less than 1 GiB (linux arch/x86/boot/compressed/kaslr.c find_random_virt_addr); a place
is believed when the writes fit it and their stacks can be unwound there.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from pydev.recording.format import PluginWay
from qemu_plugin.attribution.symbols import KernelSymbols
from qemu_plugin.attribution.unwind import Unwinder
from qemu_plugin.attribution.witnessed import Witnessed

_ALIGNMENT: Final = 2 << 20  # CONFIG_PHYSICAL_ALIGN's least, and a multiple divides every other
_SLIDE_MAX: Final = 1 << 30  # linux arch/x86/include/asm/page_64_types.h KERNEL_IMAGE_SIZE
_WRITERS: Final = (
    # linux arch/x86/pci/direct.c, mmconfig_64.c, early.c: what has the `out` or the store in it
    "pci_conf1_write", "pci_conf2_write", "pci_mmcfg_write", "write_pci_config", "write_pci_config_byte",
    "write_pci_config_16",
)  # fmt: skip
_SAMPLES: Final = 16
_BELIEVED: Final = 0.5
"""More than this share of the writes has to fit a place, and of the sampled stacks to end at a bottom."""


def find(symbols: KernelSymbols, writes: Sequence[Witnessed]) -> int | None:
    """The slide of the kernel that made `writes`; None where none fits, or more than one."""
    made = [write for write in writes if write.is_kernel and not write.is_jump]
    counts = Counter((write.raw.pc, write.way) for write in made)
    fitting = {
        slide: sum(count for (pc, way), count in counts.items() if is_writer(symbols, pc - slide, way))
        for slide in _candidates(symbols, (pc for pc, _ in counts))
    }
    total = sum(counts.values())
    found = [
        slide
        for slide, fits in fitting.items()
        if fits > _BELIEVED * total and _unwinds(symbols, slide, made)
    ]
    return found[0] if len(found) == 1 else None


def _candidates(symbols: KernelSymbols, pcs: Iterable[int]) -> set[int]:
    ranges = [found for name in _WRITERS if (found := symbols.address_range(name)) is not None]
    slides = set()
    for pc in pcs:
        for begin, end in ranges:
            within = (pc - begin) % _ALIGNMENT
            if within < end - begin and 0 <= pc - within - begin < _SLIDE_MAX:
                slides.add(pc - within - begin)
    return slides


def is_writer(symbols: KernelSymbols, address: int, way: int) -> bool:
    """Whether the instruction at `address`, as linked, can make a write in this way."""
    code = symbols.instructions(address, address + 4).removeprefix(b"\x66")  # 16 bits wide
    if way == PluginWay.PORTS:
        return code[:1] in (b"\xee", b"\xef", b"\xe6", b"\xe7")  # Intel SDM volume 2 "OUT"
    if code and code[0] & 0xF0 == 0x40:  # REX
        code = code[1:]
    return code[:1] in (b"\x88", b"\x89", b"\xc6", b"\xc7", b"\xa4", b"\xa5")  # "MOV" to memory, "MOVS"


def _unwinds(symbols: KernelSymbols, slide: int, writes: Sequence[Witnessed]) -> bool:
    """Whether most of a sample end at a bottom; true where there is nothing to unwind by."""
    unwinder = Unwinder(symbols, slide)
    if not unwinder.can_unwind:
        return True
    fitting = [write for write in writes if is_writer(symbols, write.raw.pc - slide, write.way)]
    sample = fitting[:: max(1, len(fitting) // _SAMPLES)][:_SAMPLES]
    whole = sum(unwinder.unwind(write.raw).note is None for write in sample)
    return whole > _BELIEVED * len(sample)
