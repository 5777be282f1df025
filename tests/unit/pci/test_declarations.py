# SPDX-License-Identifier: MIT
"""Names: no byte of a header or of a capability is without one, and none has two."""

from itertools import pairwise

import pytest

from pydev.endpoints import load
from pydev.pci import capability_chain, capability_offsets, type1
from pydev.pci.optional import OPTIONAL
from pydev.registers import DecodeTable, JsonRegister

HEADER = range(0x40)
BRIDGE = {
    "SSVID": 0x40, "MSIX": 0x48, "EXP": 0x54, "PM": 0x90, "MSI": 0xA0, "AER": 0x100, "ACS": 0x148, "DSN": 0x150,
    "LTR": 0x160, "L1SS": 0x168, "DPC": 0x178, "DOE": 0x184, "IDE": 0x19C,
}  # fmt: skip


def endpoint_registers(*capabilities: str) -> list[JsonRegister]:
    described: list[JsonRegister] = load("stream")(capabilities=list(capabilities)).describe()["registers"]
    return described


def nameless(registers: list[JsonRegister], span: range) -> list[int]:
    table = DecodeTable(registers)
    return [offset for offset in span if not table.split(offset, 1)]


def test_every_byte_of_a_type_0_header_has_a_name() -> None:
    assert nameless(endpoint_registers(), HEADER) == []


def test_every_byte_of_a_type_1_header_has_a_name() -> None:
    assert nameless(type1.describe(), HEADER) == []


@pytest.mark.parametrize("name", BRIDGE)
def test_every_byte_of_a_bridges_capability_has_a_name(name: str) -> None:
    size = type1.BRIDGE_CAPABILITIES[name].size_bytes

    assert nameless(type1.describe({name: 0x200}), range(0x200, 0x200 + size)) == []


def test_a_bridge_with_everything_has_no_name_twice_and_no_byte_in_two_registers() -> None:
    registers = type1.describe(BRIDGE)

    assert len({register["name"] for register in registers}) == len(registers)
    for first, second in pairwise(registers):
        assert first["offset"] + first["width"] <= second["offset"], (first["name"], second["name"])


def test_every_byte_of_an_endpoints_capabilities_has_a_name() -> None:
    endpoint = load("stream")(capabilities=list(OPTIONAL))
    described = endpoint.describe()
    config = bytes.fromhex(described["config"])

    assert (
        len(list(capability_chain(config)))
        == len(capability_offsets(config))
        == len(described["capabilities"])
    )
    sizes = {kind().name: kind().size_bytes for kind in OPTIONAL.values()}
    for name, size in sizes.items():
        at = described["capabilities"][name]
        assert nameless(described["registers"], range(at, at + size)) == [], name
    names = [register["name"] for register in described["registers"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", OPTIONAL)
def test_the_headers_of_a_capability_say_what_it_is(name: str) -> None:
    capability = OPTIONAL[name]()
    described = load("stream")(capabilities=[name]).describe()

    assert capability.name in described["capabilities"]
    assert capability_offsets(bytes.fromhex(described["config"])) == described["capabilities"]


def test_a_root_ports_containment_has_registers_more() -> None:
    table = DecodeTable(type1.describe({"DPC_ROOT": 0x200}))

    assert table.offset_of("DPC_PIO_STATUS") == 0x20C
    assert DecodeTable(type1.describe({"DPC": 0x200})).offset_of("DPC_PIO_STATUS") is None


def test_the_slots_interlock_is_toggled_by_a_one_and_holds_nothing() -> None:
    register = DecodeTable(type1.describe({"EXP": 0x54})).register("SLTCTL")

    assert register is not None
    assert {f["name"]: f["access"] for f in register["fields"]}["interlock"] == "wo"
