# SPDX-License-Identifier: MIT
"""Which kernel made a write, and where in the address space it lay: told from the writes alone."""

from dataclasses import replace

import pytest

from pydev.recording.format import PluginWay
from qemu_plugin.attribution import kaslr, testkit
from qemu_plugin.attribution.reading import read
from qemu_plugin.attribution.running import FIRMWARE, INCOMING, OUTGOING, UNKNOWN, periods
from qemu_plugin.attribution.symbols import KernelSymbols
from qemu_plugin.attribution.testkit import Tiny
from qemu_plugin.attribution.unwind import RawStack
from qemu_plugin.attribution.witnessed import Witnessed

FIRST, SECOND = 0x1E00000, 0x2A00000
BIOS = RawStack(0xEA3ED, 0x6FB8, 0, b"")


class Run:
    """Writes and jumps in their order, one a microsecond."""

    def __init__(self, tiny: Tiny) -> None:
        self.tiny = tiny
        self.seen: list[Witnessed] = []
        self.frozen: list[int] = []

    def add(self, raw: RawStack, *, is_jump: bool = False, way: int = PluginWay.PORTS) -> None:
        slot = len(self.seen)
        self.seen.append(Witnessed(slot, 1000 * slot, is_jump, way, raw))

    def boot(self, slide: int = 0, count: int = 4) -> None:
        for _ in range(count):
            self.add(self.tiny.boot(slide))

    def shut_down(self, slide: int = 0) -> None:
        self.frozen.append(1000 * len(self.seen))
        self.add(self.tiny.shutdown(slide))

    def jump(self, slide: int = 0) -> None:
        self.add(self.tiny.raw("machine_kexec", "after_machine_kexec", 0, slide=slide), is_jump=True)

    def kernels(self, *images: KernelSymbols | None) -> list[str]:
        found, is_before_any = [], True
        for period in periods(self.seen, images or [self.tiny.symbols], self.frozen):
            for one in period.seen:
                found.append(period.kernel(one, is_before_any=is_before_any))
                is_before_any = is_before_any and not one.is_kernel
        return found


@pytest.fixture
def run(tiny: Tiny) -> Run:
    return Run(tiny)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Another build: its functions lie elsewhere."""
    first = {"in_front": [("nop", testkit.frame(8))] * 200, **testkit.FUNCTIONS}
    kernel = testkit.build(tmp_path_factory.mktemp("other"), functions=first)
    return Tiny(kernel, read(kernel.path, None))


@pytest.mark.parametrize("slide", [0, FIRST, SECOND, (1 << 30) - (2 << 20)])
def test_a_kernel_is_found_wherever_it_was_moved(slide: int, run: Run) -> None:
    run.boot(slide)
    assert kaslr.find(run.tiny.symbols, run.seen) == slide


@pytest.mark.parametrize("slide", [0x1000, 0x1E00010, 1 << 30, -(2 << 20)])
def test_a_kernel_is_not_found_where_none_can_be(slide: int, run: Run) -> None:
    run.boot(slide)
    assert kaslr.find(run.tiny.symbols, run.seen) is None


def test_writes_of_another_build_fit_nowhere(run: Run, other: Tiny) -> None:
    run.boot(FIRST)
    assert kaslr.find(other.symbols, run.seen) is None


def test_a_place_where_the_instructions_fit_and_no_stack_does_is_not_believed(run: Run) -> None:
    for _ in range(4):
        run.add(replace(run.tiny.boot(FIRST), memory=bytes(64)))
    assert kaslr.find(run.tiny.symbols, run.seen) is None


def test_two_places_that_fit_equally_well_are_none(run: Run) -> None:
    for slide in (FIRST, SECOND):
        run.boot(slide)
    assert kaslr.find(run.tiny.symbols, run.seen) is None


def test_a_few_writes_of_something_else_do_not_hide_the_kernel(run: Run) -> None:
    run.boot(FIRST)
    run.add(RawStack(0xFFFF_FFFF_C012_3456, 0, 0, b""))
    assert kaslr.find(run.tiny.symbols, run.seen) == FIRST
    assert run.kernels() == [OUTGOING] * 4 + [UNKNOWN]


def test_stores_find_the_kernel_as_port_writes_do(run: Run) -> None:
    frames: list[testkit.Part] = ["in_setup_device", 0, "in_kernel_init", 0, "in_ret_from_fork"]
    for _ in range(3):
        run.add(run.tiny.raw("pci_mmcfg_write_store", *frames, slide=FIRST), way=PluginWay.ECAM)
    assert kaslr.find(run.tiny.symbols, run.seen) == FIRST


def test_a_jump_divides_the_outgoing_kernel_from_the_incoming(run: Run) -> None:
    run.add(BIOS)
    run.boot(FIRST, 2)
    run.shut_down(FIRST)
    run.jump(FIRST)
    run.boot(SECOND, 2)
    assert run.kernels() == [FIRMWARE, OUTGOING, OUTGOING, OUTGOING, OUTGOING, INCOMING, INCOMING]


def test_a_kernel_in_the_middle_of_a_chain_comes_in_and_goes_out(run: Run) -> None:
    for _ in range(2):
        run.boot(0, 2)
        run.shut_down()
        run.jump()
    run.boot(0, 2)
    middle = [INCOMING, INCOMING, OUTGOING, OUTGOING]
    assert run.kernels() == [OUTGOING] * 4 + middle + [INCOMING] * 2


def test_an_update_that_was_called_off_does_not_turn_the_kernel_into_another(run: Run) -> None:
    run.boot()
    run.frozen.append(1000 * len(run.seen) - 500)
    run.add(run.tiny.shutdown())
    assert run.kernels() == [OUTGOING] * 5


def test_the_next_kernel_may_be_another_build(run: Run, tiny: Tiny, other: Tiny) -> None:
    run.boot(FIRST)
    run.shut_down(FIRST)
    run.jump(FIRST)
    run.tiny = other
    run.boot(SECOND)
    assert run.kernels(tiny.symbols, other.symbols) == [OUTGOING] * 6 + [INCOMING] * 4
    found = periods(run.seen, [tiny.symbols, other.symbols], run.frozen)
    assert [period.unwinder.symbols if period.unwinder else None for period in found] == [
        tiny.symbols,
        other.symbols,
    ]


def test_an_image_without_symbols_leaves_its_kernel_unknown(run: Run, tiny: Tiny) -> None:
    run.boot(FIRST)
    run.shut_down(FIRST)
    run.jump(FIRST)
    run.boot(SECOND)
    assert run.kernels(None, tiny.symbols)[:6] == [OUTGOING] * 6  # another image fits it, and that is proof
    assert run.kernels(None) == [UNKNOWN] * 10


def test_a_kernel_that_is_none_of_the_images_is_unknown_and_never_named_wrongly(
    run: Run, other: Tiny
) -> None:
    run.boot()
    assert run.kernels(other.symbols) == [UNKNOWN] * 4


@pytest.mark.parametrize("slide", [FIRST, SECOND])
def test_a_jump_that_the_plugin_did_not_see_is_noticed(slide: int, run: Run) -> None:
    run.boot(FIRST, 5)
    run.shut_down(FIRST)
    run.boot(slide, 3)
    assert run.kernels() == [OUTGOING] * 6 + [INCOMING] * 3


def test_user_space_that_writes_by_itself_is_not_the_firmware(run: Run) -> None:
    run.add(BIOS)
    run.boot()
    run.add(RawStack(0x40_1234, 0x7FFF_0000, 0, b""))
    assert run.kernels() == [FIRMWARE, *[OUTGOING] * 4, UNKNOWN]


def test_an_instruction_that_makes_no_config_write_is_not_the_kernels(run: Run) -> None:
    run.boot()
    run.add(replace(run.tiny.boot(), pc=run.tiny.kernel["pci_setup_device"]))
    assert run.kernels() == [OUTGOING] * 4 + [UNKNOWN]
