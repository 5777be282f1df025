# SPDX-License-Identifier: MIT
"""The tree of ports and endpoints, its bus numbers as guest writes change them, and what may not change.

A function is known by its index in the recording's function table. Its bus is the secondary bus of the port
above it, so its BDF is a fact of a moment: `BusNumbers` follows the writes and answers in both directions.
Nothing here reads or writes registers; names of registers are `pydev.pci.type1`'s and `pydev.pci.type0`'s.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydev.errors import DeclarationError
from pydev.units import Bdf

PRIMARY_OFFSET: Final = 0x18  # PCIe 6.0 7.5.1.3: primary, secondary and subordinate bus, one byte each
BUS_BYTES: Final = 3


class Role(StrEnum):
    """What a function is in the tree."""

    ROOT_PORT = "root_port"
    UPSTREAM_PORT = "upstream_port"
    DOWNSTREAM_PORT = "downstream_port"
    ENDPOINT = "endpoint"

    @property
    def is_bridge(self) -> bool:
        """Whether it has buses below."""
        return self is not Role.ENDPOINT


_PARENTS: Final[Mapping[Role, frozenset[Role | None]]] = {
    Role.ROOT_PORT: frozenset({None}),
    Role.UPSTREAM_PORT: frozenset({Role.ROOT_PORT, Role.DOWNSTREAM_PORT}),
    Role.DOWNSTREAM_PORT: frozenset({Role.UPSTREAM_PORT}),
    Role.ENDPOINT: frozenset({None, Role.ROOT_PORT, Role.DOWNSTREAM_PORT}),
}


@dataclass(frozen=True, slots=True)
class Node:
    """One function: `index` in the function table, `id` as QEMU and reports call it, index of its `parent`.

    `devfn` is device << 3 | function on its bus. Without a parent it is on bus 0.
    """

    index: int
    id: str
    role: Role
    parent: int | None
    devfn: int
    is_preserved: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """A register, or one field of it, that has to keep its value; `field` None means all of it."""

    function: int
    register: str
    field: str | None
    why: str


class Topology:
    """The tree, which does not change; DeclarationError where the nodes make none."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes: dict[int, Node] = {}
        for node in nodes:
            if node.index in self.nodes:
                raise DeclarationError(
                    f"{node.id} and {self.nodes[node.index].id} both have index {node.index}"
                )
            self.nodes[node.index] = node
        places: dict[tuple[int | None, int], Node] = {}
        for node in self.nodes.values():
            self._check(node)
            other = places.setdefault((node.parent, node.devfn), node)
            if other is not node:
                raise DeclarationError(
                    f"{node.id} and {other.id} are both at devfn {node.devfn:#x} of one bus"
                )

    def _check(self, node: Node) -> None:
        parent = None if node.parent is None else self.nodes.get(node.parent)
        if node.parent is not None and parent is None:
            raise DeclarationError(f"{node.id} has parent {node.parent}, which does not exist")
        if (parent.role if parent else None) not in _PARENTS[node.role]:
            below = f"below {parent.id}, a {parent.role}" if parent else "on bus 0"
            raise DeclarationError(f"{node.id}, a {node.role}, cannot be {below}")
        if len(list(self._ancestors(node))) != len({n.index for n in self._ancestors(node)}):
            raise DeclarationError(f"{node.id} is below itself")

    @classmethod
    def from_header(cls, functions: Sequence[Mapping[str, Any]]) -> "Topology":
        """The tree of a recording's header, from its `functions` list."""
        return cls(
            Node(
                index=function["index"],
                id=function["id"],
                role=Role(function["role"]),
                parent=function["parent"],
                devfn=function["devfn"],
                is_preserved=bool(function.get("preserve", False)),
            )
            for function in functions
        )

    def _ancestors(self, node: Node) -> Iterator[Node]:
        """The ports above, nearest first; bounded, so that a circle ends."""
        for _ in range(len(self.nodes) + 1):
            if node.parent is None or node.parent not in self.nodes:
                return
            node = self.nodes[node.parent]
            yield node

    def upstream_path(self, index: int) -> tuple[Node, ...]:
        """The ports between a function and the root complex, nearest first, root port last."""
        return tuple(self._ancestors(self.nodes[index]))

    def children(self, index: int | None) -> tuple[Node, ...]:
        """The functions on the bus below a port, or on bus 0, by devfn."""
        below = (node for node in self.nodes.values() if node.parent == index)
        return tuple(sorted(below, key=lambda node: node.devfn))

    def bridges(self) -> tuple[Node, ...]:
        """All ports, by index."""
        return tuple(node for _, node in sorted(self.nodes.items()) if node.role.is_bridge)

    def preserved(self) -> tuple[Node, ...]:
        """The endpoints declared preserved, by index."""
        return tuple(node for _, node in sorted(self.nodes.items()) if node.is_preserved)

    def preserved_bridges(self, preserved: Iterable[int] | None = None) -> tuple[Node, ...]:
        """Every port above a preserved endpoint, by index."""
        indexes = [node.index for node in self.preserved()] if preserved is None else list(preserved)
        above = {port.index for index in indexes for port in self.upstream_path(index)}
        return tuple(self.nodes[index] for index in sorted(above))

    def constants(self, preserved: Iterable[int] | None = None) -> list[Constant]:
        """What has to keep its value while these endpoints (by default the declared ones) are preserved.

        Source: the PCI live update series, revision 9: the requester ID is constant, every numbered bridge
        keeps its bus numbers as soon as anything is preserved, ARI forwarding and ACS are adopted, bus
        mastering stays on for the whole path.
        """
        indexes = [node.index for node in self.preserved()] if preserved is None else sorted(set(preserved))
        if not indexes:
            return []
        found = [Constant(i, *what) for i in indexes for what in _ENDPOINT_CONSTANTS]
        found += [Constant(node.index, *what) for node in self.bridges() for what in _BRIDGE_CONSTANTS]
        found += [
            Constant(node.index, *what)
            for node in self.preserved_bridges(indexes)
            for what in _PATH_CONSTANTS
        ]
        return found


_ENDPOINT_CONSTANTS: Final[tuple[tuple[str, str | None, str], ...]] = (
    ("COMMAND", "bus_master", "the endpoint stops issuing requests"),
    ("PMCSR", "power_state", "outside D0 no request is issued, and the way back resets the function"),
    ("DEVCTL", "max_payload_size", "the ends of the path disagree and packets are malformed"),
)
_BRIDGE_CONSTANTS: Final[tuple[tuple[str, str | None, str], ...]] = (
    ("SECONDARY_BUS", None, "requester IDs below change and completions are misrouted"),
    ("SUBORDINATE_BUS", None, "a bus below is lost or taken from a sibling"),
)
_PATH_CONSTANTS: Final[tuple[tuple[str, str | None, str], ...]] = (
    ("PRIMARY_BUS", None, "the bridge's place in the hierarchy changes"),
    ("COMMAND", "bus_master", "requests from below are no longer forwarded"),
    ("BRIDGE_CONTROL", "secondary_bus_reset", "everything below is reset"),
    ("DEVCTL", "max_payload_size", "the ends of the path disagree and packets are malformed"),
    ("DEVCTL2", "ari_forwarding", "functions 8 and up become unreachable"),
    ("ACS_CONTROL", None, "peer-to-peer requests take another path"),
    ("SLTCTL", "power_controller", "the slot loses power"),
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The three bus numbers of a bridge."""

    primary: int = 0
    secondary: int = 0
    subordinate: int = 0


@dataclass(frozen=True, slots=True)
class BusChange:
    """A write that changed a bridge's bus numbers; `is_guess` where its width had to be guessed."""

    function: int
    before: Numbers
    after: Numbers
    is_guess: bool


@dataclass(slots=True)
class BusNumbers:
    """The bus numbers of every bridge at one moment, fed with the accesses in their order.

    All are 0 after a reset (PCIe 6.0 7.5.1.3). Changes invalidate one table, so looking up a BDF is cheap.
    """

    topology: Topology
    _bytes: dict[int, bytearray] = field(init=False)
    _guessed: set[int] = field(init=False, default_factory=set)
    _table: dict[int, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._bytes = {node.index: bytearray(BUS_BYTES) for node in self.topology.bridges()}

    def reset(self) -> None:
        """All bridges are as after power-on."""
        self.__post_init__()
        self._guessed.clear()
        self._table = None

    def numbers(self, function: int) -> Numbers:
        """The numbers of one bridge."""
        return Numbers(*self._bytes[function])

    def is_guess(self, function: int) -> bool:
        """Whether the last write to this bridge's numbers was of a width that had to be guessed."""
        return function in self._guessed

    def write(self, function: int, offset: int, value: int, size: int = 0) -> BusChange | None:
        """Follow a config write; gives the change, or None where the numbers are the same after it.

        `size` in bytes; 0 where it is not known (a trace line has none), then see `guessed_width`.
        """
        size_known = size or guessed_width(offset, value)
        touched = range(max(offset, PRIMARY_OFFSET), min(offset + size_known, PRIMARY_OFFSET + BUS_BYTES))
        if function not in self._bytes or not touched:
            return None
        before = self.numbers(function)
        for byte in touched:
            self._bytes[function][byte - PRIMARY_OFFSET] = value >> 8 * (byte - offset) & 0xFF
        is_guess = not size and _is_ambiguous(offset, value)
        self._guessed = self._guessed | {function} if is_guess else self._guessed - {function}
        after = self.numbers(function)
        if before == after:
            return None
        self._table = None
        return BusChange(function, before, after, is_guess)

    def read(self, function: int, offset: int, value: int, size: int = 0) -> BusChange | None:
        """Learn from a config read; gives the change where a guess was wrong, None where it was right.

        Of a read of unknown width only the bytes up to its highest non-zero one are believed.
        """
        width = size or max(-(-value.bit_length() // 8), 1)
        was_guess = self.is_guess(function)
        change = self.write(function, offset, value, width)
        shows_all = offset <= PRIMARY_OFFSET and offset + width >= PRIMARY_OFFSET + BUS_BYTES
        if was_guess and not shows_all:
            self._guessed.add(function)
        return change

    def bdf(self, function: int) -> Bdf | None:
        """The requester ID of a function now; None while the port above it has no secondary bus."""
        node = self.topology.nodes[function]
        if node.parent is None:
            return Bdf(node.devfn)
        secondary = self.numbers(node.parent).secondary
        return Bdf(secondary << 8 | node.devfn) if secondary else None

    def function(self, bdf: int) -> int | None:
        """The function that a config request for this BDF reaches now; None where it is none of ours."""
        if self._table is None:
            self._table = dict(self._routes(None, 0))
        return self._table.get(bdf)

    def _routes(self, port: int | None, bus: int) -> Iterator[tuple[int, int]]:
        """Every BDF that reaches a function from here: buses inside the windows of all ports above.

        Where siblings claim one bus, the lowest devfn comes last and so wins, as in a scan in that order.
        """
        for node in reversed(self.topology.children(port)):
            yield bus << 8 | node.devfn, node.index
            if node.role.is_bridge:
                numbers = self.numbers(node.index)
                if bus < numbers.secondary <= numbers.subordinate:
                    window = range(numbers.secondary, numbers.subordinate + 1)
                    below = self._routes(node.index, numbers.secondary)
                    yield from ((bdf, index) for bdf, index in below if bdf >> 8 in window)


def guessed_width(offset: int, value: int) -> int:
    """The width in bytes of a write whose width nobody recorded, from where it went and what it carried.

    Firmware writes the numbers byte by byte (SeaBIOS src/fw/pciinit.c pci_bios_init_bus_rec). Linux writes
    the dword at PRIMARY_BUS, 0 to close the bridge and all numbers to open it, and the byte at
    SUBORDINATE_BUS (linux 7.3 drivers/pci/probe.c pci_scan_bridge_extend). So 0 at PRIMARY_BUS is a dword;
    any other value takes as many bytes as it needs, where three mean a dword.
    """
    if offset % 4 == 0 and value == 0:
        return 4
    needed = max(-(-value.bit_length() // 8), 1)
    return 4 if needed == 3 else needed


def _is_ambiguous(offset: int, value: int) -> bool:
    """Whether another width would have left other numbers behind."""
    return offset < PRIMARY_OFFSET + BUS_BYTES - 1 and value <= 0xFFFF
