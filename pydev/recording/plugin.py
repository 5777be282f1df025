# SPDX-License-Identifier: MIT
"""What QEMU's TCG plugin saw: every config write of the guest, with width, writer and the function it reached.

The plugin knows the bus, device and function that an instruction names; which function of the topology answers
there is decided by walking the bus numbers along with the plugin's own writes to bridges. A write through the
ports is stamped just before its `out`, one through the memory-mapped window just after its store.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pydev.errors import DeclarationError, RecordingError
from pydev.recording.attribution import Attribution, Attributions
from pydev.recording.event_index import EventIndex
from pydev.recording.format import Kind, PluginWay
from pydev.recording.functions import FunctionEntry
from pydev.topology import BUS_BYTES, PRIMARY_OFFSET, BusNumbers, Node, Role, Topology

WIDTHS: Final = (1, 2, 4)
"""Bytes of a config access: one dword at most."""
_WAY_SHIFT: Final = 16
_CPU_MASK: Final = (1 << _WAY_SHIFT) - 1
_CONFIG_BYTES: Final = 4096
_BUS_RESET_BIT: Final = 8 * 0x3E + 6
"""BRIDGE_CONTROL.secondary_bus_reset (PCIe 6.0 7.5.1.3.13), in bits from the beginning of config space."""


@dataclass(frozen=True, slots=True)
class PluginWrite:
    """One config write of the guest, as the instruction made it."""

    t_ns: int
    slot: int
    """In the file."""
    function: int | None
    """Index of the function that it reached; None: none of the experiment's."""
    bdf: int
    offset: int
    width: int
    """Bytes."""
    value: int
    cpu: int
    pc: int
    """Guest virtual address of the instruction."""
    way: PluginWay | int
    attribution: Attribution | None = None
    is_dark: bool = False
    """The slot above what it was meant for had no power: QEMU drops it without a trace line (hw/pci/pci_host.c
    pci_host_config_write_common)."""

    @property
    def is_sound(self) -> bool:
        """Whether it is an access that the guest can have made."""
        return (
            self.width in WIDTHS
            and self.offset % self.width == 0
            and self.offset + self.width <= _CONFIG_BYTES
            and self.value < 1 << 8 * self.width
            and isinstance(self.way, PluginWay)
        )


@dataclass(frozen=True, slots=True)
class PluginJump:
    """The outgoing kernel's last function has been entered."""

    t_ns: int
    slot: int
    attribution: Attribution | None = None


@dataclass(frozen=True, slots=True)
class PluginEnd:
    """The plugin's own count, as QEMU exits."""

    writes: int
    lost: int


@dataclass(frozen=True, slots=True)
class PluginLog:
    """Everything that the plugin left in a recording, in the order of its slots."""

    writes: tuple[PluginWrite, ...] = ()
    jumps: tuple[PluginJump, ...] = ()
    ends: tuple[PluginEnd, ...] = ()
    problems: tuple[str, ...] = ()
    bus_resets: dict[int, list[tuple[int, Attribution | None]]] = field(default_factory=dict)
    """When a bridge began to hold the bus below it in reset, and by whom."""


def read_plugin_log(
    index: EventIndex,
    functions: Sequence[FunctionEntry],
    attributions: Attributions,
    machine_resets_ns: Iterable[int],
) -> PluginLog:
    """The plugin's records; RecordingError where it wrote some and the header's functions make no topology."""
    slots = index.of_kind(Kind.PLUGIN_WRITE)
    ends = index.of_kind(Kind.PLUGIN_END)
    problems = list(attributions.problems)
    walk = _Walk(functions, index, machine_resets_ns) if len(slots) else None
    names = ("t_ns", "seq", "region", "address", "error", "value", "aux", "extra")
    writes: list[PluginWrite] = []
    last_ns: dict[int, int] = {}
    for row in zip(*(index.column(name, slots).tolist() for name in names), strict=True):
        write = _parse(*row, attributions=attributions)
        if not write.is_sound:
            problems.append(
                f"the plugin's record in slot {write.slot} is no config access: "
                f"{write.width} bytes at {write.offset:#x}"
            )
        if write.t_ns < last_ns.get(write.cpu, 0):
            problems.append(f"the clock went backwards before the plugin's record in slot {write.slot}")
        last_ns[write.cpu] = write.t_ns
        writes.append(walk.follow(write) if walk is not None else write)
    jumps = tuple(_jumps(index, attributions))
    said = (index.column(name, ends).tolist() for name in ("value", "extra"))
    return PluginLog(
        tuple(writes),
        jumps,
        tuple(PluginEnd(*row) for row in zip(*said, strict=True)),
        tuple(problems),
        walk.bus_resets if walk is not None else {},
    )


def _parse(
    t_ns: int,
    seq: int,
    bdf: int,
    offset: int,
    width: int,
    value: int,
    aux: int,
    pc: int,
    *,
    attributions: Attributions,
) -> PluginWrite:
    cpu, way = aux & _CPU_MASK, aux >> _WAY_SHIFT
    known_way = PluginWay(way) if way in set(PluginWay) else way
    attribution = attributions.of(seq - 1, cpu, pc)
    return PluginWrite(t_ns, seq - 1, None, bdf, offset, width, value, cpu, pc, known_way, attribution)


def _jumps(index: EventIndex, attributions: Attributions) -> Iterable[PluginJump]:
    slots = index.of_kind(Kind.PLUGIN_JUMP)
    columns = (index.column(name, slots).tolist() for name in ("t_ns", "seq", "aux", "extra"))
    for t_ns, seq, aux, pc in zip(*columns, strict=True):
        yield PluginJump(t_ns, seq - 1, attributions.of(seq - 1, aux & _CPU_MASK, pc))


class _Walk:
    """The bus numbers as the writes go by, and so the function that each of them reaches."""

    def __init__(
        self, functions: Sequence[FunctionEntry], index: EventIndex, resets_ns: Iterable[int]
    ) -> None:
        self._topology = _topology(functions, index)
        self._buses = BusNumbers(self._topology)
        self._resets = sorted(resets_ns)
        self._held: set[int] = set()
        """Bridges that hold the bus below them in reset."""
        self._dark: set[int] = set()
        """Bridges whose slot has no power."""
        self._power = {f.index: bit for f in functions if (bit := _power_bit(f)) is not None}
        self.bus_resets: dict[int, list[tuple[int, Attribution | None]]] = {}

    def follow(self, write: PluginWrite) -> PluginWrite:
        """The write with the function that it reaches; what it does to the numbering is done."""
        while self._resets and self._resets[0] <= write.t_ns:
            self._resets.pop(0)
            self._buses.reset()
            self._held.clear()
            self._dark.clear()
        function = self._buses.function(write.bdf)
        if function is not None and self._topology.nodes[function].parent in self._dark:
            return replace(write, is_dark=True)
        if function is not None and write.is_sound and self._topology.nodes[function].role.is_bridge:
            self._buses.write(function, write.offset, write.value, write.width)
            self._hold(function, write)
            if (is_off := _written(write, self._power.get(function))) is not None:
                (self._dark.add if is_off else self._dark.discard)(function)
        return replace(write, function=function)

    def _hold(self, function: int, write: PluginWrite) -> None:
        """Secondary bus reset: the bridges below lose their numbers (QEMU hw/pci/pci_bridge.c)."""
        is_held = _written(write, _BUS_RESET_BIT)
        if is_held is None:
            return
        if is_held and function not in self._held:
            self.bus_resets.setdefault(function, []).append((write.t_ns, write.attribution))
            for node in self._topology.bridges():
                if any(port.index == function for port in self._topology.upstream_path(node.index)):
                    self._buses.write(node.index, PRIMARY_OFFSET, 0, BUS_BYTES)
                    self._held.discard(node.index)
                    self._dark.discard(node.index)
        (self._held.add if is_held else self._held.discard)(function)


def _written(write: PluginWrite, bit: int | None) -> int | None:
    """The value that a write gives a bit of config space; None where it does not touch it."""
    if bit is None or not 8 * write.offset <= bit < 8 * (write.offset + write.width):
        return None
    return write.value >> (bit - 8 * write.offset) & 1


def _power_bit(function: FunctionEntry) -> int | None:
    """Where SLTCTL.power_controller of a port is, 1 being off, in bits from the beginning of config space."""
    register = function.registers.get("SLTCTL")
    entry = None if register is None else register.fields.get("power_controller")
    return None if register is None or entry is None else 8 * register.offset + entry.lsb


def _topology(functions: Sequence[FunctionEntry], index: EventIndex) -> Topology:
    try:
        return Topology(Node(f.index, f.id, Role(f.role), f.parent, f.devfn) for f in functions)
    except (DeclarationError, ValueError) as error:
        path = index.recording.path
        raise RecordingError(f"{path}: the header's functions make no topology: {error}") from error
