# SPDX-License-Identifier: MIT
import pytest

from pydev.endpoints.stream import StreamEndpoint
from pydev.errors import DeclarationError
from pydev.pci import type1
from pydev.topology import BusNumbers, Node, Numbers, Role, Topology, guessed_width
from pydev.units import parse_bdf

EP0, EP1, RP1, UP1, DN1, DN2, RP2 = range(7)
ROOT = Node(0, "a", Role.ROOT_PORT, None, 8)


@pytest.fixture
def tree() -> Topology:
    return Topology(
        [
            Node(EP0, "ep0", Role.ENDPOINT, DN1, 0, is_preserved=True),
            Node(EP1, "ep1", Role.ENDPOINT, DN2, 0),
            Node(RP1, "rp1", Role.ROOT_PORT, None, 1 << 3),
            Node(UP1, "up1", Role.UPSTREAM_PORT, RP1, 0),
            Node(DN1, "dn1", Role.DOWNSTREAM_PORT, UP1, 0),
            Node(DN2, "dn2", Role.DOWNSTREAM_PORT, UP1, 1 << 3),
            Node(RP2, "rp2", Role.ROOT_PORT, None, 2 << 3),
        ]
    )


@pytest.fixture
def buses(tree: Topology) -> BusNumbers:
    made = BusNumbers(tree)
    for port, numbers in {RP1: 0x040100, UP1: 0x040201, DN1: 0x030302, DN2: 0x040402, RP2: 0x050500}.items():
        made.write(port, 0x18, numbers, 4)
    return made


# -- tree -----------------------------------------------------------------------------------------------


def test_the_upstream_path_leads_from_the_nearest_port_to_the_root(tree: Topology) -> None:
    assert [node.id for node in tree.upstream_path(EP0)] == ["dn1", "up1", "rp1"]
    assert tree.upstream_path(RP1) == ()


def test_children_are_in_order_of_devfn(tree: Topology) -> None:
    assert [node.id for node in tree.children(UP1)] == ["dn1", "dn2"]
    assert [node.id for node in tree.children(None)] == ["rp1", "rp2"]


def test_a_tree_comes_out_of_a_recordings_header(tree: Topology) -> None:
    functions = [
        {"index": n.index, "id": n.id, "role": str(n.role), "parent": n.parent, "devfn": n.devfn,
         "preserve": n.is_preserved, "model": "stream", "bus": None}
        for n in tree.nodes.values()
    ]  # fmt: skip

    assert Topology.from_header(functions).nodes == tree.nodes


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([ROOT, Node(0, "b", Role.ROOT_PORT, None, 16)], "b and a both have index 0"),
        ([ROOT, Node(1, "b", Role.ROOT_PORT, None, 8)], "b and a are both at devfn 0x8"),
        ([Node(0, "a", Role.DOWNSTREAM_PORT, None, 8)], "a, a downstream_port, cannot be on bus 0"),
        ([Node(0, "a", Role.ENDPOINT, 5, 0)], "a has parent 5, which does not exist"),
        (
            [Node(0, "a", Role.UPSTREAM_PORT, 1, 0), Node(1, "b", Role.DOWNSTREAM_PORT, 0, 0)],
            "a is below itself",
        ),
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused(nodes: list[Node], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        Topology(nodes)


# -- constants ------------------------------------------------------------------------------------------


def test_bus_numbers_of_every_bridge_are_constant_once_anything_is_preserved(tree: Topology) -> None:
    constant = {c.function for c in tree.constants() if c.register == "SECONDARY_BUS"}

    assert constant == {RP1, UP1, DN1, DN2, RP2}


def test_bus_mastering_is_constant_on_the_preserved_path_alone(tree: Topology) -> None:
    constant = {c.function for c in tree.constants() if (c.register, c.field) == ("COMMAND", "bus_master")}

    assert constant == {EP0, RP1, UP1, DN1}


def test_nothing_is_constant_where_nothing_is_preserved(tree: Topology) -> None:
    assert tree.constants([]) == []


def test_constants_name_registers_and_fields_that_exist(tree: Topology) -> None:
    bridge = type1.describe({"EXP": 0x54, "ACS": 0x148})
    endpoint = StreamEndpoint().describe()["registers"]
    for constant in tree.constants():
        registers = endpoint if constant.function == EP0 else bridge
        (register,) = [r for r in registers if r["name"] == constant.register]
        if constant.field is not None:
            assert constant.field in {field["name"] for field in register["fields"]}


# -- bus numbers ----------------------------------------------------------------------------------------


def test_functions_and_requester_ids_are_found_in_both_directions(buses: BusNumbers) -> None:
    expected = {
        RP1: "00:01.0", RP2: "00:02.0", UP1: "01:00.0", DN1: "02:00.0", DN2: "02:01.0",
        EP0: "03:00.0", EP1: "04:00.0",
    }  # fmt: skip
    for function, text in expected.items():
        assert buses.bdf(function) == parse_bdf(text)
        assert buses.function(parse_bdf(text)) == function


def test_before_enumeration_only_root_ports_have_an_address(tree: Topology) -> None:
    buses = BusNumbers(tree)

    assert buses.bdf(RP1) == parse_bdf("00:01.0")
    assert buses.bdf(EP0) is None
    assert buses.function(parse_bdf("01:00.0")) is None


def test_a_reset_forgets_all_numbers(buses: BusNumbers) -> None:
    assert buses.function(parse_bdf("03:00.0")) == EP0

    buses.reset()

    assert buses.function(parse_bdf("03:00.0")) is None
    assert buses.numbers(RP1) == Numbers()


def test_a_changed_secondary_bus_moves_what_is_below(buses: BusNumbers) -> None:
    change = buses.write(DN1, 0x18, 0x060602, 4)
    buses.write(UP1, 0x1A, 6, 1)
    buses.write(RP1, 0x1A, 6, 1)

    assert change is not None
    assert (change.before, change.after) == (Numbers(2, 3, 3), Numbers(2, 6, 6))
    assert buses.bdf(EP0) == parse_bdf("06:00.0")
    assert buses.function(parse_bdf("06:00.0")) == EP0
    assert buses.function(parse_bdf("03:00.0")) is None


def test_a_bus_outside_the_window_above_is_not_reached(buses: BusNumbers) -> None:
    buses.write(RP1, 0x1A, 3, 1)

    assert buses.function(parse_bdf("03:00.0")) == EP0
    assert buses.function(parse_bdf("04:00.0")) is None


def test_a_write_that_changes_no_number_is_no_change(buses: BusNumbers) -> None:
    assert buses.write(DN1, 0x18, 0x030302, 4) is None
    assert buses.write(DN1, 0x3E, 0x40, 2) is None
    assert buses.write(EP0, 0x18, 0xFFFFFFFF, 4) is None


@pytest.mark.parametrize(
    ("offset", "value", "width"),
    [
        (0x18, 0x00030302, 4),
        (0x18, 0x40030302, 4),
        (0x18, 0x0302, 2),
        (0x18, 0x02, 1),
        (0x18, 0, 4),
        (0x19, 0xFF, 1),
        (0x19, 0, 1),
        (0x1A, 0, 1),
        (0x1A, 0xFF, 1),
    ],
)
def test_widths_are_guessed_as_firmware_and_linux_write(offset: int, value: int, width: int) -> None:
    assert guessed_width(offset, value) == width


def test_a_scan_without_widths_is_followed(tree: Topology) -> None:
    """SeaBIOS's bytes first, then Linux closing and opening the bridge with dwords."""
    buses = BusNumbers(tree)
    for offset, value in ((0x19, 0xFF), (0x1A, 0), (0x19, 1), (0x1A, 0xFF), (0x1A, 4)):
        buses.write(RP1, offset, value)
    assert buses.numbers(RP1) == Numbers(0, 1, 4)

    buses.write(RP1, 0x18, 0)
    assert buses.numbers(RP1) == Numbers(0, 0, 0)
    assert buses.is_guess(RP1)

    buses.write(RP1, 0x18, 0x00FF0100)
    buses.write(RP1, 0x1A, 4)
    assert buses.numbers(RP1) == Numbers(0, 1, 4)
    assert not buses.is_guess(RP1)


def test_a_read_corrects_a_wrong_guess(buses: BusNumbers) -> None:
    buses.write(RP1, 0x18, 0)

    change = buses.read(RP1, 0x18, 0x00040100)

    assert change is not None
    assert change.after == Numbers(0, 1, 4)
    assert not buses.is_guess(RP1)


def test_a_read_that_shows_one_byte_leaves_the_rest_a_guess(buses: BusNumbers) -> None:
    buses.write(RP1, 0x18, 0)
    buses.read(RP1, 0x19, 1, 1)

    assert buses.numbers(RP1) == Numbers(0, 1, 0)
    assert buses.is_guess(RP1)
