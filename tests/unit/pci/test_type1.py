# SPDX-License-Identifier: MIT
from itertools import pairwise

import pytest

from pydev.errors import DeclarationError
from pydev.pci import type1
from pydev.registers import DecodeTable

ROOT_PORT = {"MSIX": 0x48, "EXP": 0x54, "AER": 0x100, "ACS": 0x148}


def test_the_header_has_the_names_that_rules_ask_for() -> None:
    table = DecodeTable(type1.describe())

    assert {
        name: table.offset_of(name)
        for name in ("COMMAND", "PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS", "BRIDGE_CONTROL", "BAR1")
    } == {
        "COMMAND": 4,
        "PRIMARY_BUS": 0x18,
        "SECONDARY_BUS": 0x19,
        "SUBORDINATE_BUS": 0x1A,
        "BRIDGE_CONTROL": 0x3E,
        "BAR1": 0x14,
    }


def test_a_dword_write_of_bus_numbers_names_all_three() -> None:
    parts = DecodeTable(type1.describe()).split(0x18, 4, 0x00050302)

    assert [(part.name, part.value) for part in parts][:3] == [
        ("PRIMARY_BUS", 2),
        ("SECONDARY_BUS", 3),
        ("SUBORDINATE_BUS", 5),
    ]


def test_capabilities_are_described_where_they_are() -> None:
    table = DecodeTable(type1.describe(ROOT_PORT))

    assert {n: table.offset_of(n) for n in ("DEVCTL", "SLTCTL", "RTCTL", "DEVCTL2", "ACS_CONTROL")} == {
        "DEVCTL": 0x5C,
        "SLTCTL": 0x6C,
        "RTCTL": 0x70,
        "DEVCTL2": 0x7C,
        "ACS_CONTROL": 0x14E,
    }
    assert table.offset_of("MSIX_CONTROL") == 0x4A
    assert table.offset_of("AER_ROOT_COMMAND") == 0x12C


def test_registers_are_in_order_and_do_not_overlap() -> None:
    registers = type1.describe(ROOT_PORT)

    for first, second in pairwise(registers):
        assert first["offset"] + first["width"] <= second["offset"], (first["name"], second["name"])


def test_names_are_unique() -> None:
    names = [register["name"] for register in type1.describe(ROOT_PORT)]

    assert len(names) == len(set(names))


def test_an_unknown_capability_is_refused_by_name() -> None:
    with pytest.raises(DeclarationError, match="no capability VPD is known; there are PM, MSI"):
        type1.describe({"VPD": 0x40})
