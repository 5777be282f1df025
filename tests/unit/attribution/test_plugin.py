# SPDX-License-Identifier: MIT
"""The TCG plugin in a QEMU that is played (`fake_qemu.c`): what is a config write, and what is recorded of it."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qemu_plugin.attribution
import qemu_plugin.native
from pydev.recording.format import CONTINUATION_OFFSET, NO_FUNCTION, PLUGIN_STACK, Kind, PluginWay
from qemu_plugin.attribution import plugin as option
from qemu_plugin.machine.plugin_trial import LOADED
from qemu_plugin.native.recording import RecordingWriter

PLUGIN = Path(next(iter(qemu_plugin.attribution.__path__))) / "plugin"
CORE = Path(next(iter(qemu_plugin.native.__path__))) / "src"
FAKE = Path(__file__).parent / "fake_qemu.c"
FLAGS = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-fsanitize=undefined,address"]

KERNEL = 0xFFFFFFFF81000000
PORT_WRITER, ECAM_WRITER, JUMP = KERNEL + 0x2F0000, KERNEL + 0x2F9000, KERNEL + 0x3D770
SLIDE = 0x1E00000
NAMES = f"{PORT_WRITER:x}-{PORT_WRITER + 0xE0:x}:{ECAM_WRITER:x}-{ECAM_WRITER + 0xD0:x}:{JUMP:x}"
NO_NAMES = "0-0:0-0:0"
WINDOW = 0xB0000000
FIRMWARE = 0xEA346
OUT_BYTE, OUT, OUT_PREFIXED, OUTS = "ee", "ef", "66ef", "f36f"
STORE, STORE_16, STORE_8, STORE_OTHER, STORE_INDEXED, PUSH = "8901", "668901", "8801", "8911", "881408", "57"
NOP = "90"
BDF = 0x0108

Write = tuple[int, int, int, int]
"""BDF, offset, width, value."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The QEMU that is played and the plugin, both watched by sanitizers."""
    folder = tmp_path_factory.mktemp("plugin")
    qemu, plugin = folder / "qemu", folder / "plugin.so"
    subprocess.run(["gcc", *FLAGS, "-rdynamic", f"-I{PLUGIN}", "-o", qemu, FAKE, "-ldl"], check=True)
    shared = ["-shared", "-fPIC", "-fvisibility=hidden", f"-I{CORE}", "-o", str(plugin)]
    sources = sorted(map(str, PLUGIN.glob("*.c")))
    subprocess.run(["gcc", *FLAGS, *shared, *sources], check=True)
    return qemu, plugin


@dataclass
class Machine:
    """One run: lines for the QEMU that is played, then what the recording has."""

    programs: tuple[Path, Path]
    recording: RecordingWriter
    kernels: tuple[str, ...] = (NAMES,)
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def out(self, port: int, value: int, code: str = OUT, *, cpu: int = 0, pc: int = PORT_WRITER) -> None:
        self.say(f"reg rdx {port:x}\nreg rax {value:x}\nreg rip {pc:x}\nrun {cpu:x} {pc:x} {code}")

    def select(self, bdf: int, offset: int, *, pc: int = PORT_WRITER) -> None:
        self.out(0xCF8, 1 << 31 | bdf << 8 | offset & 0xFC, pc=pc)

    def store(
        self, gpa: int, value: int, code: str = STORE, *, shift: int = 2, pc: int = ECAM_WRITER
    ) -> None:
        self.say(f"run 0 {pc:x} {code} store {shift:x} {value:x} {gpa:x}")

    def open_window(self, base: int = WINDOW, length: int = 0, *, is_open: bool = True) -> None:
        """Firmware writes PCIEXBAR of 00:00.0 (QEMU hw/pci-host/q35.c), as `writes` leaves out."""
        for offset, value in ((0x64, base >> 32), (0x60, base & 0xFFFFFFFF | length << 1 | is_open)):
            self.select(0, offset)
            self.out(0xCFC, value)

    def play(self) -> "np.ndarray[Any, Any]":
        qemu, plugin = self.programs
        words = [f"recording={self.recording.path}", *(f"kernel={kernel}" for kernel in self.kernels)]
        subprocess.run([qemu, plugin, *words], input="\n".join(self.lines), text=True, check=True, timeout=60)
        return np.array(self.recording.view(0, self.recording.head))

    def writes(self) -> list[Write]:
        records = self.play()
        found = records[records["kind"] == Kind.PLUGIN_WRITE][
            ["region", "address", "error", "value"]
        ].tolist()
        return [write for write in found if write[:2] not in ((0, 0x60), (0, 0x64))]


@pytest.fixture
def machine(programs: tuple[Path, Path], tmp_path: Path) -> Machine:
    return Machine(programs, RecordingWriter.create(tmp_path / "r.lus", {"schema": 1}, extent=1 << 13))


@pytest.mark.parametrize(
    ("code", "port", "value", "written"),
    [
        (OUT, 0xCFC, 0x12345678, (BDF, 0x10, 4, 0x12345678)),
        (OUT_PREFIXED, 0xCFC, 0x12345678, (BDF, 0x10, 2, 0x5678)),
        (OUT_PREFIXED, 0xCFE, 0x12345678, (BDF, 0x12, 2, 0x5678)),
        (OUT_BYTE, 0xCFF, 0x12345678, (BDF, 0x13, 1, 0x78)),
    ],
)
def test_what_is_written_below_the_data_port_has_the_width_of_the_instruction(
    machine: Machine, code: str, port: int, value: int, written: Write
) -> None:
    machine.select(BDF, 0x10)
    machine.out(port, value, code)
    assert machine.writes() == [written]


@pytest.mark.parametrize(
    ("port", "code"), [(0xCFD, OUT), (0xCFD, OUT_PREFIXED), (0xCFF, OUT_PREFIXED), (0xCFA, OUT)]
)
def test_an_access_that_is_not_aligned_is_no_config_write(machine: Machine, port: int, code: str) -> None:
    machine.select(BDF, 0x10)
    machine.out(port, 1, code)
    assert machine.writes() == []


@pytest.mark.parametrize("port", [0x70, 0x1CFC, 0xCF0, 0xD00])
def test_other_ports_are_none_of_its_business(machine: Machine, port: int) -> None:
    machine.select(BDF, 0x10)
    machine.out(port | 0xAB0000, 1)
    assert machine.writes() == []


def test_the_upper_half_of_the_port_register_does_not_matter(machine: Machine) -> None:
    machine.select(BDF, 4)
    machine.out(0xABCD0CFC, 6, OUT_PREFIXED)
    assert machine.writes() == [(BDF, 4, 2, 6)]


@pytest.mark.parametrize("code", [OUT_BYTE, OUT_PREFIXED])
def test_only_a_dword_chooses_the_register(machine: Machine, code: str) -> None:
    machine.select(BDF, 0x10)
    machine.out(0xCF8, 0x44, code)
    machine.out(0xCFC, 1)
    assert machine.writes() == [(BDF, 0x10, 4, 1)]


def test_nothing_is_written_while_the_enable_bit_is_clear(machine: Machine) -> None:
    machine.select(BDF, 0x10)
    machine.out(0xCF8, BDF << 8 | 0x10)
    machine.out(0xCFC, 1)
    assert machine.writes() == []


def test_the_register_that_one_cpu_chose_is_the_one_that_another_writes(machine: Machine) -> None:
    machine.select(BDF, 0x3C)
    machine.out(0xCFC, 7, OUT_BYTE, cpu=1)
    records = machine.play()
    assert int(records["aux"][0]) == 1 | PluginWay.PORTS << 16


def test_in_16_bit_code_the_prefix_means_32_bits(machine: Machine) -> None:
    machine.select(BDF, 0x10)
    machine.say("reg cr0 10\nreg efer 0")
    machine.out(0xCFC, 0x11223344, OUT_PREFIXED, pc=0xF1234)
    machine.out(0xCFC, 0x11223344, OUT, pc=0xF1234)
    machine.say("reg cr0 11")
    machine.out(0xCFC, 0x11223344, OUT, pc=0xF1234)  # protected mode, flat
    machine.say("reg rdx cfc\nreg rip 1230\nrun 0 f1234 ef")  # protected mode, in a segment at 0xf0000
    assert [write[2] for write in machine.writes()] == [4, 2, 4, 2]


def test_each_element_of_a_string_is_a_write(machine: Machine) -> None:
    machine.select(BDF, 0x10)
    machine.say(f"reg rdx cfc\nrun 0 {PORT_WRITER:x} {OUTS} load 2 aabbccdd 1000 load 2 2 1004")
    machine.say(f"run 0 {PORT_WRITER:x} f36e load 0 5a 1000")
    machine.say(f"reg rdx 80\nrun 0 {PORT_WRITER:x} {OUTS} load 2 3 1008")
    assert machine.writes() == [(BDF, 0x10, 4, 0xAABBCCDD), (BDF, 0x10, 4, 2), (BDF, 0x10, 1, 0x5A)]


@pytest.mark.parametrize("pc", [ECAM_WRITER, ECAM_WRITER + 0x94, ECAM_WRITER + SLIDE])
def test_a_store_of_the_kernels_writer_to_the_window_is_a_write_wherever_the_kernel_lies(
    machine: Machine, pc: int
) -> None:
    machine.open_window()
    machine.store(WINDOW + (BDF << 12) + 0x104, 0xFFFFFFFF, STORE_OTHER, pc=pc)
    machine.store(WINDOW + (BDF << 12) + 0x106, 0xFF12, STORE_16, shift=1, pc=pc)
    machine.store(WINDOW + (BDF << 12) + 0x105, 0x34, STORE_8, shift=0, pc=pc)
    assert machine.writes() == [
        (BDF, 0x104, 4, 0xFFFFFFFF),
        (BDF, 0x106, 2, 0xFF12),
        (BDF, 0x105, 1, 0x34),
    ]


def test_a_store_elsewhere_is_none(machine: Machine) -> None:
    machine.store(WINDOW, 1)  # there is no window yet
    machine.open_window()
    machine.store(WINDOW - 4, 1)
    machine.store(WINDOW + (256 << 20), 1)
    machine.store(WINDOW, 1, pc=ECAM_WRITER + 0x1000)  # another function of a kernel that has names
    machine.store(WINDOW, 1, pc=0x401000)  # user space
    assert machine.writes() == []


def test_the_window_is_where_and_as_long_as_the_guest_says(machine: Machine) -> None:
    machine.open_window(0x1_E0000000, length=1)
    machine.store(0x1_E0000000 + (BDF << 12), 1)
    machine.store(0x1_E0000000 + (128 << 20), 2)
    machine.open_window(0x1_E0000000, is_open=False)
    machine.store(0x1_E0000000 + (BDF << 12), 3)
    assert machine.writes() == [(BDF, 0, 4, 1)]


def test_a_store_that_is_wider_than_a_register_is_several_writes(machine: Machine) -> None:
    machine.open_window()
    machine.store(WINDOW + (BDF << 12) + 0x10, 0x1122334455667788, shift=3)
    machine.store(WINDOW + (BDF << 12) + 0x21, 0xAABBCCDD)
    assert machine.writes() == [
        (BDF, 0x10, 4, 0x55667788),
        (BDF, 0x14, 4, 0x11223344),
        (BDF, 0x21, 1, 0xDD),
        (BDF, 0x22, 2, 0xBBCC),
        (BDF, 0x24, 1, 0xAA),
    ]


def test_in_a_kernel_without_names_the_form_of_the_store_tells(machine: Machine) -> None:
    machine.kernels = (NAMES, NO_NAMES)
    machine.open_window()
    pc = KERNEL + 0x777777
    for number, code in enumerate(
        (STORE, STORE_16, STORE_8, "8902", "418900", "894500", STORE_OTHER, "894504")
    ):
        machine.store(WINDOW + (BDF << 12) + 4 * number, number, code, pc=pc)
    machine.store(WINDOW, 9, STORE, pc=0x401000)
    assert [value for _, _, _, value in machine.writes()] == [0, 1, 2, 3, 4, 5]


def test_firmware_may_write_with_any_register_but_not_with_strings_or_the_stack(machine: Machine) -> None:
    machine.open_window()
    machine.say("reg cr0 11\nreg efer 0")
    for number, code in enumerate(("890a", "668908", "8808", "c70201000000", "a300000000", "894204")):
        machine.store(WINDOW + (BDF << 12) + 4 * number, number, code, pc=FIRMWARE)
    for code in ("f3aa", PUSH, STORE_INDEXED, NOP):
        machine.store(WINDOW + (BDF << 12), 9, code, pc=FIRMWARE)
    assert [value for _, _, _, value in machine.writes()] == [0, 1, 2, 3, 4, 5]


def test_the_record_says_who_and_how(machine: Machine) -> None:
    machine.open_window()
    machine.store(WINDOW + (BDF << 12) + 0x100, 5, pc=ECAM_WRITER + 0x94)
    record = next(r for r in machine.play() if r["region"] == BDF)
    assert (int(record["extra"]), int(record["aux"])) == (ECAM_WRITER + 0x94, PluginWay.ECAM << 16)
    assert int(record["function"]) == NO_FUNCTION
    assert int(record["t_ns"]) > 0


def stack_of(records: "np.ndarray[Any, Any]") -> bytes:
    """The chain of the last PLUGIN_WRITE."""
    head = int(np.flatnonzero(records["kind"] == Kind.PLUGIN_WRITE)[-1])
    size = int(records["size"][head])
    more = records[head + 1 : head + 1 + -(-size // 40)]
    assert set(more["kind"].tolist()) == {Kind.CONTINUATION}
    return b"".join(r.tobytes()[CONTINUATION_OFFSET:] for r in more)[:size]


@pytest.mark.parametrize(
    ("rsp", "copied_bytes", "why"),
    [
        (0xFFFFC90000003F00, 0x100, "up to the end of the stack"),
        (0xFFFFC90000000010, 4096, "not more than is needed"),
        (0xFFFFC90000003FF8, 8, "its last word"),
    ],
)
def test_a_kernels_stack_is_copied(machine: Machine, rsp: int, copied_bytes: int, why: str) -> None:
    content = os.urandom(0x5000)
    machine.say(f"memory ffffc90000000000 {content.hex()}\nreg rsp {rsp:x}\nreg rbp ffffc90000003f88")
    machine.select(BDF, 4)
    machine.out(0xCFC, 7)
    stack = stack_of(machine.play())
    assert np.frombuffer(stack, PLUGIN_STACK, 1)[0].tolist() == (rsp, 0xFFFFC90000003F88)
    begin = rsp & 0xFFFF
    assert stack[PLUGIN_STACK.itemsize :] == content[begin : begin + copied_bytes], why


@pytest.mark.parametrize(("rsp", "why"), [(0x6FC8, "firmware"), (0xFFFFC90000000010, "no memory is there")])
def test_where_there_is_no_stack_the_registers_stand_alone(machine: Machine, rsp: int, why: str) -> None:
    machine.say(f"memory 6000 {bytes(0x2000).hex()}\nreg rsp {rsp:x}\nreg rbp 1234")
    machine.select(BDF, 4)
    machine.out(0xCFC, 7)
    assert np.frombuffer(stack_of(machine.play()), PLUGIN_STACK).tolist() == [(rsp, 0x1234)], why


def jumps(machine: Machine) -> list[int]:
    records = machine.play()
    return [int(pc) for pc in records["extra"][records["kind"] == Kind.PLUGIN_JUMP]]


@pytest.mark.parametrize("slide", [0, SLIDE])
def test_the_jump_is_seen_once_a_write_has_shown_where_the_kernel_lies(machine: Machine, slide: int) -> None:
    machine.say(f"run 0 {JUMP + slide:x} {NOP}")
    machine.select(BDF, 4)
    machine.out(0xCFC, 7, pc=PORT_WRITER + slide + 0x21)
    machine.say(f"run 0 {JUMP + slide + 0x200000:x} {NOP}")  # the same address but for KASLR's alignment
    machine.say(f"run 1 {JUMP + slide:x} {NOP}")
    assert jumps(machine) == [JUMP + slide]


def test_each_kernel_has_its_own_place_for_the_jump(machine: Machine) -> None:
    begin = KERNEL + 0x123456
    machine.kernels = (NAMES, f"{begin:x}-{begin + 0x80:x}:0-0:{begin + 0x1000:x}")
    for pc, jump in ((PORT_WRITER + SLIDE, JUMP + SLIDE), (begin + 0x40, begin + 0x1000)):
        machine.select(BDF, 4)
        machine.out(0xCFC, 7, pc=pc)
        machine.say(f"run 0 {jump:x} {NOP}")
    assert jumps(machine) == [JUMP + SLIDE, begin + 0x1000]


def test_the_last_word_counts_the_writes(machine: Machine) -> None:
    machine.select(BDF, 4)
    for value in range(3):
        machine.out(0xCFC, value)
    last = machine.play()[-1]
    assert (int(last["kind"]), int(last["value"]), int(last["extra"])) == (Kind.PLUGIN_END, 3, 0)


def test_a_recording_without_room_loses_writes_and_counts_them(
    programs: tuple[Path, Path], tmp_path: Path
) -> None:
    room = 1024 + 20  # CLAIM_MARGIN of recording.h stays free; a write without stack takes two slots
    recording = RecordingWriter.create(tmp_path / "r.lus", {"schema": 1}, capacity=room, extent=room)
    machine = Machine(programs, recording)
    machine.select(BDF, 4)
    for value in range(25):
        machine.out(0xCFC, value)
    records = machine.play()
    assert int((records["kind"] == Kind.PLUGIN_WRITE).sum()) == 10
    assert recording.dropped == 15 + 1  # the last word found no room either
    assert recording.head == 20


@pytest.mark.parametrize(
    "words",
    [
        ["record=/r"],
        ["recording=/no/such/file"],
        ["kernel=1-2"],
        ["kernel=2-1:3-4:5"],
        ["kernel=1-2:3-4:x"],
        ["kernel=11111111111111111-2:3-4:5"],
        [f"kernel={NAMES}"] * 5,
    ],
)
def test_arguments_that_it_does_not_understand_end_qemu_with_a_reason(
    programs: tuple[Path, Path], words: list[str]
) -> None:
    qemu, plugin = programs
    ended = subprocess.run(
        [qemu, plugin, *words], input="", text=True, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("luscope: ")
    assert LOADED.decode() not in ended.stderr


def test_without_arguments_it_says_that_it_can_be_loaded_and_ends_qemu(programs: tuple[Path, Path]) -> None:
    ended = subprocess.run([*programs], input="", capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert LOADED in ended.stderr


def test_what_the_bench_says_is_what_the_plugin_understands(machine: Machine) -> None:
    writer = (PORT_WRITER, PORT_WRITER + 0xE0)
    known = option.KernelAddresses(writer, (ECAM_WRITER, ECAM_WRITER + 0xD0), JUMP)
    words = option.option(Path("/p"), machine.recording.path, [known, option.UNKNOWN]).split(",")
    assert words == ["/p", f"recording={machine.recording.path}", f"kernel={NAMES}", f"kernel={NO_NAMES}"]
    header = (PLUGIN / "plugin.h").read_text()
    assert f"#define KERNELS_MAX {option.MOST_KERNELS}\n" in header
    for way in PluginWay:
        assert f"WAY_{way.name} = {way.value}," in header
