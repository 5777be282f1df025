# SPDX-License-Identifier: MIT
from hypothesis import given
from hypothesis import strategies as st

from pydev.registers import Access, DecodeTable, Field, Register, RegisterBank

SIZE = 32
bank_bytes = st.binary(min_size=SIZE, max_size=SIZE)
offsets = st.integers(-4, SIZE + 4)
sizes = st.integers(1, 8)
values = st.integers(0, 2**64 - 1)


class Wide(Register, offset=0, width=8, count=SIZE // 8):
    writable = Field(0, 20)
    clear = Field(20, 20, access=Access.RW1C)
    fixed = Field(40, 12, access=Access.RO, reset=0x123)
    sticky = Field(52, 12, access=Access.RWS)


def bank_with(contents: bytes) -> RegisterBank:
    bank = RegisterBank("bank", SIZE)
    bank.place(Wide)
    bank.poke(0, SIZE, int.from_bytes(contents, "little"))
    return bank


@given(bank_bytes, offsets, sizes, values)
def test_a_wide_write_is_the_same_as_its_single_bytes(
    contents: bytes, offset: int, size: int, value: int
) -> None:
    at_once, by_byte = bank_with(contents), bank_with(contents)

    at_once.write(offset, size, value & ((1 << 8 * size) - 1))
    for byte in range(size):
        by_byte.write(offset + byte, 1, value >> 8 * byte & 0xFF)

    assert bytes(at_once.image) == bytes(by_byte.image)


@given(bank_bytes, offsets, sizes)
def test_a_wide_read_is_the_same_as_its_single_bytes(contents: bytes, offset: int, size: int) -> None:
    bank = bank_with(contents)

    bytes_read = [bank.read(offset + byte, 1) for byte in range(size)]

    assert bank.read(offset, size) == int.from_bytes(bytes_read, "little")


@given(bank_bytes, offsets, sizes, values)
def test_no_write_sets_what_only_hardware_may_set(
    contents: bytes, offset: int, size: int, value: int
) -> None:
    bank = bank_with(contents)
    before = [bank.get(Wide, index) for index in range(Wide.count)]

    bank.write(offset, size, value & ((1 << 8 * size) - 1))

    for index, old in enumerate(before):
        new = bank.get(Wide, index)
        assert new & Wide.fixed.mask == old & Wide.fixed.mask
        assert new & Wide.clear.mask & ~old == 0


@given(bank_bytes, st.integers(0, SIZE - 8), sizes, values)
def test_writable_bits_take_the_written_value(contents: bytes, offset: int, size: int, value: int) -> None:
    bank = bank_with(contents)
    value &= (1 << 8 * size) - 1
    writable = int.from_bytes(bank.writable[offset : offset + size], "little")

    bank.write(offset, size, value)

    assert bank.read(offset, size) & writable == value & writable


@given(bank_bytes)
def test_a_reset_forgets_all_but_sticky_bits(contents: bytes) -> None:
    bank = bank_with(contents)
    sticky = bank.get(Wide.sticky, 1)

    bank.reset(keep_sticky=True)
    assert Wide(bank.get(Wide, 1)) == Wide(Wide.compose(sticky=sticky))

    bank.reset()
    assert bytes(bank.image) == bank.power_on_image()


@given(st.integers(0, SIZE - 1), sizes, values, values)
def test_decoded_changes_account_for_every_bit(offset: int, size: int, before: int, after: int) -> None:
    bank = bank_with(bytes(SIZE))
    table = DecodeTable(bank.describe())
    mask = (1 << 8 * min(size, SIZE - offset)) - 1

    changes = table.changes(offset, size, before & mask, after & mask)

    assert bool(changes) == (before & mask != after & mask)


@given(st.integers(0, 63), st.integers(1, 64), values)
def test_a_field_gives_back_what_was_inserted(lsb: int, bits: int, value: int) -> None:
    bits = min(bits, 64 - lsb)
    field = Field(lsb, bits)
    value &= (1 << bits) - 1

    assert field.extract(field.insert(2**64 - 1, value)) == value
