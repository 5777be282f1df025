# SPDX-License-Identifier: MIT
"""From raw stacks to functions, and never a function that was not there."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qemu_plugin.attribution import testkit
from qemu_plugin.attribution.calls import Call, Calls
from qemu_plugin.attribution.frames import Stack
from qemu_plugin.attribution.reading import read
from qemu_plugin.attribution.symbols import Code, KernelSymbols
from qemu_plugin.attribution.testkit import (
    FUNCTIONS,
    KERNEL_CS,
    POINTED_AT,
    RSP,
    USER_CS,
    Orc,
    Part,
    Tiny,
    frame,
    registers,
)
from qemu_plugin.attribution.unwind import RawStack, Unwinder

SLIDE = 0x1E00000


def names(symbols: KernelSymbols, stack: Stack) -> list[str]:
    found = [symbols.name(frame.inside) for frame in stack.frames]
    return ["?" if name is None else name[0] for name in found]


def unwound(tiny: Tiny, raw: RawStack, slide: int = 0) -> tuple[list[str], str | None]:
    stack = Unwinder(tiny.symbols, slide).unwind(raw)
    return names(tiny.symbols, stack), stack.note


@pytest.mark.parametrize("slide", [0, SLIDE])
def test_a_stack_is_unwound_from_the_instruction_to_the_system_call(tiny: Tiny, slide: int) -> None:
    assert unwound(tiny, tiny.shutdown(slide), slide) == (
        ["pci_conf1_write", "pci_write_config_word", "__pci_set_master", "pci_clear_master", "pci_device_shutdown",
         "device_shutdown", "kernel_kexec", "do_syscall_64", "entry_SYSCALL_64"],
        None,
    )  # fmt: skip


def test_a_stack_that_begins_in_initial_code_ends_where_threads_begin(tiny: Tiny) -> None:
    frames = ["pci_conf1_write", "pci_write_config_word", "pci_setup_device", "kernel_init_freeable"]
    assert unwound(tiny, tiny.boot()) == ([*frames, "ret_from_fork_asm"], None)


def test_an_interrupt_in_the_middle_of_a_function_is_passed_through(tiny: Tiny) -> None:
    interrupted = registers(tiny.kernel["pci_setup_device"], KERNEL_CS, sp=RSP + 6 * 8 + 168)
    frames: list[Part] = [
        0,
        "in_set_master",
        0,
        0,
        0,
        "in_interrupt",
        interrupted,
        "in_kernel_init",
        0,
        "in_ret_from_fork",
    ]
    assert unwound(tiny, tiny.raw("pci_conf1_write_out", *frames)) == (
        ["pci_conf1_write", "pci_write_config_word", "__pci_set_master", "asm_common_interrupt", "pci_setup_device",
         "kernel_init_freeable", "ret_from_fork_asm"],
        None,
    )  # fmt: skip


def test_an_interrupt_of_user_space_is_a_bottom(tiny: Tiny) -> None:
    frames: list[Part] = [0, "in_set_master", 0, 0, 0, "in_interrupt", registers(0x401000, USER_CS, 0)]
    assert unwound(tiny, tiny.raw("pci_conf1_write_out", *frames))[1] is None


@pytest.mark.parametrize(
    ("memory", "depth", "note"),
    [
        ([0], 1, "goes on at 0xffffc90000013d08, outside the 8 bytes saved from 0xffffc90000013d00"),
        ([0, "in_set_master", 0, 0, 0], 3, "outside the 40 bytes saved"),
        ([0, 0xFFFF_8880_0123_4567], 1, "returns to 0xffff888001234567, outside the kernel's text"),
        ([0, "pci_device_shutdown"], 1, "returns to 0xffffffff810000[0-9a-f]+, where no call ends"),
        ([0, "in_set_master", 0, 0, 0, 0xFFFF_FFFF_C012_3456], 3, "returns to 0xffffffffc0123456, outside"),
    ],
)
def test_what_cannot_be_a_frame_ends_the_stack_and_the_note_says_why(
    tiny: Tiny, memory: Sequence[Part], depth: int, note: str
) -> None:
    found, said = unwound(tiny, tiny.raw("pci_conf1_write_out", *memory))
    assert found == ["pci_conf1_write", "pci_write_config_word", "__pci_set_master"][:depth]
    assert said is not None
    assert re.search(note, said), said


def test_a_stack_that_goes_down_ends(tiny: Tiny) -> None:
    down = registers(tiny.kernel["pci_setup_device"], KERNEL_CS, sp=RSP)
    frames: list[Part] = [0, "in_set_master", 0, 0, 0, "in_interrupt", down]
    note = unwound(tiny, tiny.raw("pci_conf1_write_out", *frames))[1]
    assert note == "the stack would go on at 0xffffc90000013d00, below 0xffffc90000013d30"


def test_random_memory_never_makes_a_frame_that_no_call_leads_to(tiny: Tiny) -> None:
    generator = np.random.default_rng(1)
    labels = sorted(tiny.kernel.addresses.values())
    calls = Calls(tiny.symbols)
    for _ in range(300):
        memory = generator.choice(np.array([*labels, *range(8)], dtype=np.uint64), 64).tobytes()
        raw = RawStack(tiny.kernel["pci_conf1_write_out"], RSP, 0, memory)
        for one in Unwinder(tiny.symbols, 0).unwind(raw).frames[1:]:
            assert one.is_recovered or one.is_exact or calls.before(one.address) is not None


def test_a_kernel_with_nothing_to_unwind_by_gives_the_function_and_says_so(tiny: Tiny) -> None:
    bare = replace(tiny.symbols, orc=None)
    stack = Unwinder(bare, 0).unwind(tiny.shutdown())
    assert names(bare, stack) == ["pci_conf1_write"]
    assert stack.note == "no ORC tables and no frame pointers"


def test_by_frame_pointers_a_stack_is_unwound_to_its_zero(tiny: Tiny) -> None:
    by_pointers = replace(tiny.symbols, orc=None, jumps=None, has_frame_pointers=True)
    frames: list[Part] = [RSP + 24, "in_set_master", 0, RSP + 40, "in_device_shutdown", 0, "in_kernel_kexec"]
    stack = Unwinder(by_pointers, 0).unwind(tiny.raw("pci_conf1_write_out", *frames, rbp=RSP))
    assert names(by_pointers, stack) == [
        "pci_conf1_write",
        "__pci_set_master",
        "device_shutdown",
        "kernel_kexec",
    ]
    assert stack.note is None


def test_by_frame_pointers_an_interrupt_is_passed_through_and_user_space_ends(tiny: Tiny) -> None:
    by_pointers = replace(tiny.symbols, orc=None, jumps=None, has_frame_pointers=True)
    regs = registers(tiny.kernel["pci_setup_device"], KERNEL_CS, sp=RSP + 16 + 168)
    kernel = tiny.raw("pci_conf1_write_out", RSP + 16 | 1, "in_interrupt", regs, rbp=RSP)
    assert names(by_pointers, Unwinder(by_pointers, 0).unwind(kernel)) == [
        "pci_conf1_write", "asm_common_interrupt", "pci_setup_device",
    ]  # fmt: skip
    user = tiny.raw("pci_conf1_write_out", RSP + 16 | 1, "in_entry", registers(0x401000, USER_CS, 0), rbp=RSP)
    assert Unwinder(by_pointers, 0).unwind(user).note is None


# --- calls


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("ff d0", 2), ("41 ff d3", 3), ("ff 10", 2), ("ff 50 08", 3), ("ff 90 00 01 00 00", 6),
        ("ff 14 c5 00 00 00 81", 7), ("ff 15 00 10 00 00", 6), ("ff 54 24 08", 4),
    ],
)  # fmt: skip
def test_a_call_through_a_pointer_is_a_call_whose_callee_is_not_known(
    tiny: Tiny, code: str, length: int
) -> None:
    instruction = bytes.fromhex(code.replace(" ", ""))
    assert len(instruction) == length
    assert _before(tiny, bytes(16) + instruction) == Call(None, is_indirect=True)


@pytest.mark.parametrize("code", ["ff e0", "90 90", "ff d8", "e8 00 00", "c3", "48 89 e5 5d"])
def test_what_is_no_call_is_none(tiny: Tiny, code: str) -> None:
    assert _before(tiny, bytes(16) + bytes.fromhex(code.replace(" ", ""))) is None


def test_a_paravirtual_call_that_the_kernel_has_patched_is_one_where_it_now_ends(tiny: Tiny) -> None:
    unpatched = bytes.fromhex("ff1500100000")
    assert _before(tiny, bytes(16) + unpatched, back=1) == Call(None, is_indirect=True)


def _before(tiny: Tiny, code: bytes, back: int = 0) -> Call | None:
    begin = 0xFFFF_FFFF_9000_0000
    other = Code(begin, np.frombuffer(code + bytes(16), dtype=np.uint8))
    return Calls(replace(tiny.symbols, code=(*tiny.symbols.code, other))).before(begin + len(code) - back)


def test_a_near_call_names_its_callee_and_one_that_may_be_replaced_does_not(tiny: Tiny) -> None:
    after, callee = tiny.kernel["in_kernel_kexec"], tiny.kernel["device_shutdown"]
    assert Calls(tiny.symbols).before(after) == Call(callee, is_indirect=False)
    replaceable = replace(tiny.symbols, alternatives=np.array([after - 5], dtype=np.uint64))
    assert Calls(replaceable).before(after) == Call(None, is_indirect=False)


# --- functions that ended in a jump


def kernel_with(
    directory: Path,
    functions: Mapping[str, Sequence[tuple[str, Orc]]],
    pointed_at: Mapping[str, str] | None = None,
) -> Tiny:
    kernel = testkit.build(
        directory, functions={**FUNCTIONS, **functions}, pointed_at=pointed_at or POINTED_AT
    )
    return Tiny(kernel, read(kernel.path, None))


def _shutdown_in(tiny: Tiny) -> list[str]:
    return unwound(tiny, tiny.shutdown())[0]


def test_the_recovered_functions_are_marked(tiny: Tiny) -> None:
    stack = Unwinder(tiny.symbols, 0).unwind(tiny.shutdown())
    assert [frame.is_recovered for frame in stack.frames] == [False, True, False, True, True, *[False] * 4]


def test_a_second_way_into_a_function_leaves_only_what_is_certain(tmp_path: Path) -> None:
    """Somebody else's shutdown also ends in pci_clear_master: device_shutdown may have called either."""
    other = {"other_shutdown": [(".byte 0xe9; .long pci_clear_master - . - 4", frame(8))]}
    tiny = kernel_with(tmp_path, other, {**POINTED_AT, "other_bus": "other_shutdown"})
    assert _shutdown_in(tiny)[2:5] == ["__pci_set_master", "device_shutdown", "kernel_kexec"]


def test_a_way_that_nobody_can_call_by_a_pointer_is_no_second_way(tmp_path: Path) -> None:
    other = {"not_pointed_at": [(".byte 0xe9; .long pci_clear_master - . - 4", frame(8))]}
    tiny = kernel_with(tmp_path, other)
    assert _shutdown_in(tiny)[2:5] == ["__pci_set_master", "pci_clear_master", "pci_device_shutdown"]


@pytest.mark.parametrize("pointer", ["__pci_set_master", "pci_clear_master"])
def test_a_function_that_could_itself_have_been_called_is_not_passed_over(
    pointer: str, tmp_path: Path
) -> None:
    tiny = kernel_with(tmp_path, {}, {**POINTED_AT, "pointer": pointer})
    assert _shutdown_in(tiny)[2:5] == ["__pci_set_master", "device_shutdown", "kernel_kexec"]


def test_an_address_taken_by_an_instruction_counts_as_a_pointer(tmp_path: Path) -> None:
    for number, instruction in enumerate(("lea __pci_set_master(%rip),%rdi", "mov $__pci_set_master,%rdi")):
        folder = tmp_path / str(number)
        folder.mkdir()
        tiny = kernel_with(folder, {"taker": [(instruction, frame(8)), ("ret", frame(8))]})
        assert _shutdown_in(tiny)[2:4] == ["__pci_set_master", "device_shutdown"]


def test_a_jump_with_more_on_the_stack_leaves_no_function(tmp_path: Path) -> None:
    """A jump in the middle of a function is not its end."""
    other = {"middle": [("sub $8,%rsp", frame(8)), (".byte 0xe9; .long pci_clear_master - . - 4", frame(16))]}
    tiny = kernel_with(tmp_path, other, {**POINTED_AT, "other": "middle"})
    assert _shutdown_in(tiny)[3:5] == ["pci_clear_master", "pci_device_shutdown"]


def test_the_list_of_what_can_be_traced_is_no_list_of_pointers(tmp_path: Path) -> None:
    """With CONFIG_FTRACE every function's address lies in .init.data, in ascending order."""
    every = [*FUNCTIONS, *(f"filler_{number:05}" for number in range(testkit.FILLERS))]
    tiny = kernel_with(tmp_path, {}, {**POINTED_AT, **{f"traced_{name}": name for name in every}})
    assert _shutdown_in(tiny)[2:5] == ["__pci_set_master", "pci_clear_master", "pci_device_shutdown"]


def test_a_part_that_was_moved_away_is_a_part_of_its_function(tmp_path: Path) -> None:
    """The compiler puts what seldom runs elsewhere: `pci_clear_master` may jump from there."""
    moved = {
        "pci_clear_master": [
            ("xor %esi,%esi", frame(8)),
            (".byte 0xe9; .long pci_clear_master.cold - . - 4", frame(8)),
        ],
        "pci_clear_master.cold": [(".byte 0xe9; .long __pci_set_master - . - 4", frame(8))],
    }
    tiny = kernel_with(tmp_path, moved)
    assert tiny.symbols.function(tiny.kernel["pci_clear_master.cold"]) == tiny.kernel["pci_clear_master"]
    found = _shutdown_in(tiny)
    assert found[2:6] == [
        "__pci_set_master",
        "pci_clear_master.cold",
        "pci_device_shutdown",
        "device_shutdown",
    ]
