# SPDX-License-Identifier: MIT
import pytest

from pydev.errors import DeclarationError
from pydev.registers import Access, Field, Register


class Sample(Register, offset=0x10, width=2):
    low = Field(0, 4, access=Access.RW, reset=3)
    done = Field(7, access=Access.RW1C)
    high = Field(8, 8, access=Access.ROS, reset=0x5A)


def test_a_class_name_becomes_a_name_in_capitals() -> None:
    class PageTable(Register, offset=0):
        pass

    class Renamed(Register, offset=0, name="DEVCTL2"):
        pass

    assert (PageTable.name, Renamed.name) == ("PAGE_TABLE", "DEVCTL2")


def test_a_decoded_value_has_its_fields_as_attributes() -> None:
    value = Sample(0xA583)

    assert (value.low, value.done, value.high) == (3, 1, 0xA5)


def test_composing_uses_reset_values_where_nothing_is_said() -> None:
    assert Sample.compose() == 0x5A03
    assert Sample.compose(low=0xF, done=1) == 0x5A8F


def test_composing_with_an_unknown_field_names_it_and_the_known_ones() -> None:
    with pytest.raises(DeclarationError, match=r"SAMPLE has no field hihg; it has low, done, high"):
        Sample.compose(hihg=1)


def test_a_value_too_big_for_its_field_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"SAMPLE.low has 4 bits, which cannot hold 0x10"):
        Sample.compose(low=16)


def test_overlapping_fields_are_refused_and_both_are_named() -> None:
    with pytest.raises(DeclarationError, match=r"OVERLAP.second begins at bit 3, inside OVERLAP.first"):

        class Overlap(Register, offset=0):
            first = Field(0, 4)
            second = Field(3, 2)


def test_a_field_beyond_the_register_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"WIDE.all ends at bit 9 of a register of 8 bits"):

        class Wide(Register, offset=0, width=1):
            all = Field(0, 9)


def test_a_field_may_not_hide_what_every_register_has() -> None:
    with pytest.raises(DeclarationError, match="Done: a field cannot be called 'count'"):

        class Done(Register, offset=0):
            count = Field(0, 32)


def test_a_subclass_inherits_fields_without_changing_its_parent() -> None:
    class Child(Sample, name="CHILD"):
        low = Field(0, 4, access=Access.RO)

    assert Child.high.register is Child
    assert Sample.high.register is Sample
    assert (Child.low.access, Sample.low.access) == (Access.RO, Access.RW)
    assert Child.offset == Sample.offset


def test_masks_follow_the_access_kinds() -> None:
    assert Sample.mask_of(is_writable=True) == 0x000F
    assert Sample.mask_of(is_write_one_clear=True) == 0x0080
    assert Sample.mask_of(is_sticky=True) == 0xFF00
