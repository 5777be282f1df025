# SPDX-License-Identifier: MIT
import json

from pydev.registers import Access, Change, DecodeTable, Field, Register, RegisterBank


class Command(Register, offset=0x04, width=2):
    memory_space = Field(1)
    bus_master = Field(2)


class Status(Register, offset=0x06, width=2):
    error = Field(8, access=Access.RW1C)


class Entry(Register, offset=0x10, width=8, count=2):
    iova = Field(0, 64)


def table() -> DecodeTable:
    bank = RegisterBank("config", 0x40)
    for register in (Status, Command, Entry):
        bank.place(register)
    return DecodeTable(json.loads(json.dumps(bank.describe())))


def test_the_description_is_json_in_order_of_offset() -> None:
    bank = RegisterBank("config", 0x40)
    bank.place(Status)
    bank.place(Command)

    assert bank.describe()[0] == {
        "name": "COMMAND",
        "offset": 4,
        "width": 2,
        "fields": [
            {"name": "memory_space", "lsb": 1, "bits": 1, "access": "rw"},
            {"name": "bus_master", "lsb": 2, "bits": 1, "access": "rw"},
        ],
    }


def test_a_dword_access_is_split_into_its_registers() -> None:
    parts = table().split(4, 4, 0x0100_0006)

    assert [(part.name, part.value) for part in parts] == [("COMMAND", 6), ("STATUS", 0x100)]
    assert dict(parts[0].fields()) == {"memory_space": 1, "bus_master": 1}


def test_a_partial_access_shows_only_the_fields_that_it_covered() -> None:
    (part,) = table().split(7, 1, 0x01)

    assert (part.name, part.value, part.mask) == ("STATUS", 0x100, 0xFF00)
    assert dict(part.fields()) == {"error": 1}


def test_changes_are_named_by_field() -> None:
    assert table().changes(4, 2, 7, 3) == [Change("COMMAND", "bus_master", 1, 0)]


def test_changed_bits_without_a_field_are_reported_too() -> None:
    assert table().changes(4, 2, 0, 0x8000) == [Change("COMMAND", "", 0, 0x8000)]


def test_elements_of_an_array_have_their_index_in_the_name() -> None:
    assert [part.name for part in table().split(0x14, 8)] == ["ENTRY[0]", "ENTRY[1]"]


def test_bytes_without_a_register_decode_to_nothing() -> None:
    assert table().split(0x30, 4, 1) == []
    assert table().offset_of("STATUS") == 6
    assert table().register("NOTHING") is None
