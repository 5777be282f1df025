# SPDX-License-Identifier: MIT
"""Stand-ins for tests: a kernel of a few functions, linked like a real one, and images made of it."""

import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from qemu_plugin.attribution.symbols import KernelSymbols
from qemu_plugin.attribution.unwind import RawStack

TEXT: Final = 0xFFFF_FFFF_8100_0000
INIT_TEXT: Final = TEXT + 0x40_0000
FILLERS: Final = 2500
"""Functions that do nothing: kallsyms is told from other data by having many names."""
HASH_7: Final = bytes.fromhex("137c36ad7627c4dd55932176bb0ecdbd5041fc82")
_SP, _BP, _CALL, _END, _REGS = 3, 4, 2, 1, 3  # linux 7.x arch/x86/include/asm/orc_types.h
_PREV_SP: Final = 8
_SIGNAL: Final = 1 << 11

Orc = tuple[int, int, int]
"""struct orc_entry: sp_offset, bp_offset, bits."""


def frame(size: int) -> Orc:
    """The entry where a function has `size` bytes on the stack, its return address included."""
    return size, 0, _SP | _CALL << 8


END: Final[Orc] = (0, 0, _END << 8)
REGS: Final[Orc] = (0, 0, _SP | _REGS << 8)
INTERRUPTED: Final[Orc] = (0, 0, _SP | _REGS << 8 | _SIGNAL)
SAVED_BP: Final[Orc] = (16, -16, _SP | _PREV_SP << 4 | _CALL << 8)

# What a kernel does to a config register, in as few instructions as there can be. `name: [(instruction, the
# frame before it), ...]`; a label in it ends in a colon.
FUNCTIONS: Final[Mapping[str, Sequence[tuple[str, Orc]]]] = {
    "pci_conf1_write": [
        ("push %rbx", frame(8)), ("pci_conf1_write_out:", frame(16)), ("out %eax,(%dx)", frame(16)),
        ("out %ax,(%dx)", frame(16)), ("out %al,(%dx)", frame(16)), ("pop %rbx", frame(16)), ("ret", frame(8)),
    ],
    "pci_mmcfg_write": [("pci_mmcfg_write_store:", frame(8)), ("mov %eax,(%rdx)", frame(8)), ("ret", frame(8))],
    "pci_write_config_word": [("xor %esi,%esi", frame(8)), ("jmp *raw_pci_ops(%rip)", frame(8))],
    "__pci_set_master": [
        ("sub $24,%rsp", frame(8)), ("call pci_write_config_word", frame(32)), ("in_set_master:", frame(32)),
        ("add $24,%rsp", frame(32)), ("ret", frame(8)),
    ],
    "pci_clear_master": [("xor %esi,%esi", frame(8)), (".byte 0xe9; .long __pci_set_master - . - 4", frame(8))],
    "pci_device_shutdown": [
        ("push %rbx", frame(8)), ("pop %rbx", frame(16)), (".byte 0xe9; .long pci_clear_master - . - 4", frame(8)),
    ],
    "device_shutdown": [
        ("push %rbp", frame(8)), ("call *%rax", SAVED_BP), ("in_device_shutdown:", SAVED_BP), ("pop %rbp", SAVED_BP),
        ("ret", frame(8)),
    ],
    "kernel_kexec": [
        ("sub $8,%rsp", frame(8)), ("call device_shutdown", frame(16)), ("in_kernel_kexec:", frame(16)),
        ("call machine_kexec", frame(16)), ("after_machine_kexec:", frame(16)), ("ud2", frame(16)),
    ],
    "machine_kexec": [("nop", frame(8)), ("ret", frame(8))],
    "do_syscall_64": [
        ("sub $8,%rsp", frame(8)), ("call kernel_kexec", frame(16)), ("in_do_syscall_64:", frame(16)),
        ("add $8,%rsp", frame(16)), ("ret", frame(8)),
    ],
    "entry_SYSCALL_64": [("call do_syscall_64", REGS), ("in_entry:", REGS), ("ud2", REGS)],
    "asm_common_interrupt": [("call __pci_set_master", INTERRUPTED), ("in_interrupt:", INTERRUPTED), ("ud2", REGS)],
    "pci_setup_device": [
        ("sub $8,%rsp", frame(8)), ("call pci_write_config_word", frame(16)), ("in_setup_device:", frame(16)),
        ("add $8,%rsp", frame(16)), ("ret", frame(8)),
    ],
    "ret_from_fork_asm": [("call kernel_init_freeable", END), ("in_ret_from_fork:", END), ("ud2", END)],
}  # fmt: skip
INIT_FUNCTIONS: Final[Mapping[str, Sequence[tuple[str, Orc]]]] = {
    "kernel_init_freeable": [
        ("sub $8,%rsp", frame(8)), ("call pci_setup_device", frame(16)), ("in_kernel_init:", frame(16)),
        ("add $8,%rsp", frame(16)), ("ret", frame(8)),
    ],
}  # fmt: skip
EXPORTED: Final = ("pci_clear_master", "pci_write_config_word", "device_shutdown")
POINTED_AT: Final = {"raw_pci_ops": "pci_conf1_write", "pci_bus_type": "pci_device_shutdown"}

_LINKER_SCRIPT: Final = """
SECTIONS {
  .text 0x%x : { *(.text) }
  .rodata : ALIGN(4096) { *(.rodata) }
  __ksymtab : { *(__ksymtab) }
  __ksymtab_strings : { *(__ksymtab_strings) }
  .data : ALIGN(4096) { *(.data) }
  .orc_header : { *(.orc_header) }
  .orc_unwind_ip : { *(.orc_unwind_ip) }
  .orc_unwind : { *(.orc_unwind) }
  .init.text 0x%x : { *(.init.text) }
  /DISCARD/ : { *(.note*) *(.comment) }
}
"""
_TOKENS: Final = [
    bytes([code]) if 0x21 <= code < 0x7F else b"filler_0" if code == 1 else b"~%02x" % code
    for code in range(256)
]


@dataclass(frozen=True)
class TinyKernel:
    """A vmlinux and where its functions and labels are."""

    path: Path
    addresses: dict[str, int] = field(repr=False)

    def __getitem__(self, name: str) -> int:
        """The address of a function or label."""
        return self.addresses[name]


def build(
    directory: Path,
    *,
    functions: Mapping[str, Sequence[tuple[str, Orc]]] = FUNCTIONS,
    pointed_at: Mapping[str, str] = POINTED_AT,
    orc_header: bytes | None = HASH_7,
    filler: Sequence[str] = ("ret",),
    has_orc: bool = True,
    has_kallsyms: bool = True,
    has_exports: bool = True,
    is_stripped: bool = True,
) -> TinyKernel:
    """Assemble and link a kernel in `directory`, with gcc."""
    source, script, whole, path = (directory / name for name in ("k.S", "k.lds", "whole", "vmlinux"))
    lines = _functions(".text", functions, ["_text", "_stext"])
    lines += [line for number in range(FILLERS) for line in _filler(number, filler)]
    lines += _functions(".init.text", INIT_FUNCTIONS, ["_sinittext"])
    lines += _data(pointed_at, orc_header, has_exports=has_exports)
    if has_kallsyms:
        text = ["_text", *functions, *(f"filler_{number:05}" for number in range(FILLERS))]
        lines += _kallsyms([*text, *INIT_FUNCTIONS])
    source.write_text("\n".join(lines) + "\n")
    script.write_text(_LINKER_SCRIPT % (TEXT, INIT_TEXT))
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-Wl,-T," + str(script), "-Wl,--build-id=none",
                    "-Wl,-e,0", "-Wl,--no-warn-rwx-segments", "-o", str(whole), str(source)], check=True)  # fmt: skip
    listing = subprocess.run(["nm", str(whole)], check=True, capture_output=True, text=True).stdout
    removed = ["--strip-all"] if is_stripped else []
    removed += [] if has_orc else ["--remove-section=.orc_*"]
    subprocess.run(["objcopy", *removed, str(whole), str(path)], check=True)
    rows = (line.split() for line in listing.splitlines())
    return TinyKernel(path, {row[2]: int(row[0], 16) for row in rows if len(row) == 3})


def _functions(
    section: str, functions: Mapping[str, Sequence[tuple[str, Orc]]], labels: Sequence[str]
) -> list[str]:
    lines = [f'.section {section},"ax"', *(f"{label}:" for label in labels)]
    for name, code in functions.items():
        lines += [".balign 16, 0xcc", f".globl {name}", f"{name}:"]
        before: Orc | None = None
        for instruction, entry in code:
            if entry != before:
                lines += _entry(entry)
            before = entry
            lines.append(instruction)
    return lines


def _filler(number: int, code: Sequence[str]) -> list[str]:
    return ['.section .text,"ax"', ".balign 16, 0xcc", f"filler_{number:05}:", *_entry(frame(8)), *code]


def _entry(entry: Orc) -> list[str]:
    return [
        "77:",
        '.pushsection .orc_unwind_ip,"a"', ".long 77b - .", ".popsection",
        '.pushsection .orc_unwind,"a"', ".short {}, {}, {}".format(*entry), ".popsection",
    ]  # fmt: skip


def _data(pointed_at: Mapping[str, str], orc_header: bytes | None, *, has_exports: bool) -> list[str]:
    lines = ['.section .data,"aw"']
    for name, function in pointed_at.items():
        lines += [f"{name}: .quad {function}"]
    if orc_header is not None:
        lines += ['.section .orc_header,"a"', ".byte " + ",".join(map(str, orc_header))]
    for name in EXPORTED if has_exports else ():
        lines += ['.section __ksymtab_strings,"a"', f'9: .asciz "{name}"', '.section __ksymtab,"a"',
                  f".long {name} - ., 9b - ., 0"]  # fmt: skip
    return [*lines, '.section .rodata,"a"', '.asciz "Linux version 7.3.0-tiny (me@here)"', ".balign 8"]


def _kallsyms(names: Sequence[str]) -> list[str]:
    """The tables as linux 7.x scripts/kallsyms.c writes them; symbols in the order of their addresses."""
    table = tables([f"T{name}" for name in names])
    lines = [
        f".balign 4; .long {len(names)}",
        ".balign 4",
        _bytes(table.names),
        ".balign 4",
        _bytes(table.markers),
    ]
    lines += [".balign 4", _bytes(table.tokens), ".balign 4", _bytes(table.index), ".balign 4"]
    return [*lines, *(f".long {name} - ." for name in names)]


def _bytes(data: bytes) -> str:
    return ".byte " + ",".join(map(str, data))


@dataclass(frozen=True)
class Tables:
    """The parts of kallsyms that do not depend on addresses."""

    names: bytes
    markers: bytes
    tokens: bytes
    index: bytes


def tables(symbols: Sequence[str]) -> Tables:
    """Compress symbols, each with its type before its name."""
    compressed, markers = b"", []
    for number, symbol in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(compressed))
        codes = symbol.encode().replace(_TOKENS[1], b"\1")
        length = (
            bytes([len(codes)]) if len(codes) < 128 else bytes([len(codes) & 0x7F | 0x80, len(codes) >> 7])
        )
        compressed += length + codes
    starts = [sum(len(token) + 1 for token in _TOKENS[:code]) for code in range(256)]
    return Tables(
        compressed,
        struct.pack(f"<{len(markers)}I", *markers),
        b"".join(token + b"\0" for token in _TOKENS),
        struct.pack("<256H", *starts),
    )


def bzimage(payload: bytes, *, protocol: int = 0x020F, release: bytes = b"7.3.0-tiny") -> bytes:
    """An image that boots nothing, with a compressed vmlinux and the length that it expands to."""
    setup = bytearray(0x800)
    setup[0x1F1] = 3
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<H", setup, 0x20E, 0x300)
    setup[0x211] = 1
    struct.pack_into("<II", setup, 0x248, 0x40, len(payload))
    setup[0x500 : 0x501 + len(release)] = release + b"\0"
    return bytes(setup) + bytes(0x40) + payload + bytes(0x100)


Part = str | int | bytes
"""Of a stack's memory: a label's address, a word, or bytes."""
RSP: Final = 0xFFFF_C900_0001_3D00
USER_CS: Final = 0x33
KERNEL_CS: Final = 0x10


def words(*values: int) -> bytes:
    """Memory that holds these 64-bit words."""
    return struct.pack(f"<{len(values)}Q", *values)


def registers(ip: int, cs: int, sp: int = 0, bp: int = 0) -> bytes:
    """A struct pt_regs that was saved for an interrupt or a system call."""
    return words(*[0] * 4, bp, *[0] * 11, ip, cs, 0, sp, 0)


@dataclass(frozen=True)
class Tiny:
    """The kernel with what was read out of it, and the stacks that it leaves."""

    kernel: TinyKernel
    symbols: KernelSymbols

    def raw(self, pc: str, *parts: Part, slide: int = 0, rbp: int = 0) -> RawStack:
        """A stack with the instruction at label `pc`; its memory is made of labels, words and bytes."""
        memory = b""
        for part in parts:
            match part:
                case str():
                    memory += words(self.kernel[part] + slide)
                case int():
                    memory += words(part)
                case bytes():
                    memory += part
        return RawStack(self.kernel[pc] + slide, RSP, rbp, memory)

    def shutdown(self, slide: int = 0) -> RawStack:
        """The kernel clears bus mastering on its way into the next."""
        frames: list[Part] = [
            0,
            "in_set_master",
            0,
            0,
            0,
            "in_device_shutdown",
            0,
            "in_kernel_kexec",
            0,
            "in_do_syscall_64",
            0,
        ]
        return self.raw("pci_conf1_write_out", *frames, "in_entry", registers(0x401000, USER_CS), slide=slide)

    def boot(self, slide: int = 0) -> RawStack:
        """The kernel enumerates its devices, in a function that it throws away afterwards."""
        frames: list[Part] = [0, "in_setup_device", 0, "in_kernel_init", 0, "in_ret_from_fork"]
        return self.raw("pci_conf1_write_out", *frames, slide=slide)
