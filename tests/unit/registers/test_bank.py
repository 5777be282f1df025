# SPDX-License-Identifier: MIT
import pytest

from pydev.errors import DeclarationError
from pydev.registers import Access, Field, Register, RegisterBank, Write


class Control(Register, offset=0x00):
    run = Field(0)
    mode = Field(8, 4, reset=5)
    version = Field(16, 8, access=Access.RO, reset=0x42)
    go = Field(31, access=Access.WO)


class Status(Register, offset=0x04):
    done = Field(0, access=Access.RW1C)
    fault = Field(1, access=Access.RW1CS)
    sticky = Field(8, 8, access=Access.RWS)
    kept = Field(16, 4, keeps_flr=True)


class Counter(Register, offset=0x08, width=8):
    value = Field(0, 64, access=Access.RO)


class Table(Register, offset=0x10, width=8, count=4):
    iova = Field(0, 64)


@pytest.fixture
def bank() -> RegisterBank:
    made = RegisterBank("BAR0", 0x40)
    for register in (Control, Status, Counter, Table):
        made.place(register)
    return made


def test_reset_values_are_there_at_power_on(bank: RegisterBank) -> None:
    assert bank.read(0, 4) == 0x00420500


def test_writes_change_writable_bits_and_no_others(bank: RegisterBank) -> None:
    bank.write(0, 4, 0xFFFFFFFF)

    assert bank.read(0, 4) == 0x00420F01


def test_writing_one_clears_a_status_bit_and_zero_leaves_it(bank: RegisterBank) -> None:
    bank.set(Status.done, 1)
    bank.set(Status.fault, 1)

    bank.write(4, 1, 0b01)

    assert (bank.get(Status.done), bank.get(Status.fault)) == (0, 1)


def test_writing_one_does_not_set_a_status_bit(bank: RegisterBank) -> None:
    bank.write(4, 4, 0b11)

    assert bank.get(Status) == 0


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (1, 1), (0, 2), (1, 2), (2, 4), (0, 8), (3, 8)])
def test_an_access_of_any_width_and_alignment_is_its_bytes(
    bank: RegisterBank, offset: int, size: int
) -> None:
    whole = sum(bank.read(byte, 1) << 8 * byte for byte in range(16))

    assert bank.read(offset, size) == whole >> 8 * offset & ((1 << 8 * size) - 1)


def test_a_byte_write_leaves_the_neighbouring_bytes(bank: RegisterBank) -> None:
    bank.write(0x10, 8, 0x1122334455667788)
    bank.write(0x13, 2, 0xAABB)

    assert bank.get(Table, 0) == 0x112233AABB667788


def test_one_write_reaches_two_registers(bank: RegisterBank) -> None:
    bank.set(Status.done, 1)

    bank.write(2, 4, 0x0001_0000)

    assert (bank.get(Status.done), bank.get(Control)) == (0, 0x00420500)


def test_bytes_past_the_end_read_as_ones_and_swallow_writes(bank: RegisterBank) -> None:
    bank.write(0x3C, 8, 0)

    assert bank.read(0x3C, 8) == 0xFFFFFFFF00000000
    assert bank.read(0x100, 4) == 0xFFFFFFFF


def test_bytes_without_a_register_read_zero_and_stay_so(bank: RegisterBank) -> None:
    bank.write(0x38, 4, 0xFFFFFFFF)

    assert bank.read(0x38, 4) == 0


def test_elements_of_an_array_are_told_apart(bank: RegisterBank) -> None:
    bank.write(0x18, 8, 7)

    assert [bank.get(Table.iova, index) for index in range(4)] == [0, 7, 0, 0]
    with pytest.raises(DeclarationError, match="TABLE has 4 elements, none is 4"):
        bank.get(Table, 4)


def test_overlapping_registers_are_refused_and_both_are_named(bank: RegisterBank) -> None:
    class Late(Register, offset=0x14):
        pass

    with pytest.raises(
        DeclarationError, match=r"BAR0: LATE at 0x14..0x18 overlaps TABLE, which begins at 0x10"
    ):
        bank.place(Late)


def test_a_register_outside_the_bank_is_refused(bank: RegisterBank) -> None:
    class Outside(Register, offset=0x3C, width=8):
        pass

    with pytest.raises(DeclarationError, match=r"OUTSIDE at 0x3c..0x44 does not fit BAR0 of 0x40 bytes"):
        bank.place(Outside)


def test_a_register_is_placed_once(bank: RegisterBank) -> None:
    with pytest.raises(DeclarationError, match="CONTROL is placed twice"):
        bank.place(Control, base=0x30)


def test_a_model_sees_what_was_written_and_what_the_masks_made_of_it(bank: RegisterBank) -> None:
    seen: list[Write] = []
    bank.on_write(Control, seen.append)

    bank.write(3, 1, 0x80)
    bank.write(0, 4, 0xFFFF0001)

    assert [(w.before, w.after) for w in seen] == [(0x00420500, 0x00420500), (0x00420500, 0x00420001)]
    assert seen[0].wrote_one(Control.go)
    assert (seen[0].written, seen[0].covered) == (0x80000000, 0xFF000000)
    assert seen[1].changed(Control.run)
    assert bank.get(Control.go) == 0


def test_a_write_beside_a_decided_register_does_not_reach_its_model(bank: RegisterBank) -> None:
    seen: list[Write] = []
    bank.on_write(Control, seen.append)

    bank.write(4, 4, 1)

    assert seen == []


def test_a_write_to_an_array_tells_its_model_the_index(bank: RegisterBank) -> None:
    seen: list[Write] = []
    bank.on_write(Table, seen.append)

    bank.write(0x1C, 8, 0x0000_0005_0000_0006)

    assert [(w.index, w.after) for w in seen] == [(1, 0x6_0000_0000), (2, 5)]


def test_reading_the_low_dword_of_a_counter_holds_the_high_dword_still(bank: RegisterBank) -> None:
    values = iter([0x1_FFFF_FFFF, 0x2_0000_0000])
    bank.on_read(Counter, lambda _index: next(values))

    low, high = bank.read(8, 4), bank.read(12, 4)

    assert high << 32 | low == 0x1_FFFF_FFFF
    assert bank.read(8, 8) == 0x2_0000_0000


def test_peeking_calls_no_model(bank: RegisterBank) -> None:
    bank.on_read(Counter, lambda _index: 1)

    assert bank.peek(8, 8) == 0


def test_traps_mark_the_bytes_that_a_model_decides(bank: RegisterBank) -> None:
    bank.on_read(Counter, lambda _index: 1)
    bank.on_write(Status, lambda _write: None)

    assert [offset for offset, byte in enumerate(bank.trap_read) if byte] == [8, 9, 10, 11]
    assert [offset for offset, byte in enumerate(bank.trap_write) if byte] == [4, 5, 6, 7]


def _dirty(bank: RegisterBank) -> None:
    bank.write(0, 4, 0x00000F01)
    bank.write(4, 4, 0x00037700)
    bank.set(Status.fault, 1)
    bank.write(0x10, 8, 9)


def test_power_on_restores_everything(bank: RegisterBank) -> None:
    _dirty(bank)

    bank.reset()

    assert bytes(bank.image) == bank.power_on_image()


def test_other_resets_leave_sticky_bits(bank: RegisterBank) -> None:
    _dirty(bank)

    bank.reset(keep_sticky=True)

    assert bank.get(Status) == 0x7702
    assert (bank.get(Control), bank.get(Table)) == (0x00420500, 0)


def test_a_function_level_reset_also_leaves_the_exempt_fields(bank: RegisterBank) -> None:
    _dirty(bank)

    bank.reset(keep_sticky=True, keep_flr=True)

    assert bank.get(Status) == 0x37702


def test_rebinding_carries_contents_into_the_callers_memory(bank: RegisterBank) -> None:
    bank.write(0x10, 8, 0x1234)
    memory = [bytearray(0x40) for _ in range(5)]

    bank.rebind(*memory)
    bank.write(0x18, 8, 0x55)
    memory[0][0x20] = 0x77

    assert (memory[0][0x10], memory[0][0x18]) == (0x34, 0x55)
    assert bank.read(0x20, 1) == 0x77
    bank.reset()
    assert memory[0][0x10] == 0


def test_memory_of_another_size_is_refused_and_nothing_changes(bank: RegisterBank) -> None:
    memory = [bytearray(0x40) for _ in range(4)] + [bytearray(0x20)]

    with pytest.raises(DeclarationError, match="trap_write of 32 bytes cannot hold 64"):
        bank.rebind(*memory)
    bank.write(0, 1, 1)
    assert memory[0] == bytes(0x40)
