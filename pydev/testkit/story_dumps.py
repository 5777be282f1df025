# SPDX-License-Identifier: MIT
"""Dumps of the ports' registers in a story: what a snapshot of config space leaves in the trace.

The values are worked out when the story is written, from its own writes and from what its ports set themselves,
so that a spoilt story stays one.
"""

from typing import TYPE_CHECKING, Any, Final

from pydev.pci.express import ExpFlags
from pydev.pci.express_port import SlotCapabilities, SlotControl
from pydev.recording.format import Kind
from pydev.registers import Register
from pydev.testkit.story_header import BRIDGE_REGISTERS, BUS_ABOVE, DEVFN, DN1, RP1, RP2, UP1, offset

if TYPE_CHECKING:
    from pydev.testkit.story import Story

TAG: Final = "dump"
_SPANS: Final = (range(0x1C, 0xC0, 4), range(0x100, 0x1B0, 4))
_BELOW: Final = {RP1: (UP1, DN1), UP1: (DN1,), DN1: (), RP2: ()}
_BRIDGE_CONTROL: Final = 0x3E
_BUS_RESET: Final = 0x40
_ON: Final = 1
_OFF: Final = 3

SLOT_ON: Final = SlotControl.compose(power_indicator=_ON, attention_indicator=_OFF)
"""Slot Control of every port that has a slot."""
_SLOT: Final[dict[type[Register], int]] = {
    SlotCapabilities: SlotCapabilities.compose(power_controller=1, power_indicator=1, attention_indicator=1),
    SlotControl: SLOT_ON,
}
_POWER_ON: Final[dict[int, dict[type[Register], int]]] = {
    RP1: {ExpFlags: ExpFlags.compose(port_type=4, slot_implemented=1), **_SLOT},
    UP1: {ExpFlags: ExpFlags.compose(port_type=5)},
    DN1: {ExpFlags: ExpFlags.compose(port_type=6, slot_implemented=1), **_SLOT},
    RP2: {ExpFlags: ExpFlags.compose(port_type=4, slot_implemented=1), **_SLOT},
}
"""What ports hold that nobody writes, where a rule asks for it (QEMU hw/pci/pcie.c pcie_cap_slot_init)."""


def tell_dump(story: "Story", ms: float) -> None:
    """Have every port's registers read, dword by dword, at a moment of the story."""
    step = 0.0
    for bridge in BRIDGE_REGISTERS:
        for span in _SPANS:
            for at in span:
                story.trace(ms + step, bridge, at, 0, write=False, tag=TAG)
                step += 0.0005


def fill_dumps(story: "Story") -> None:
    """Give each read of a dump the value that the writes before it have left."""
    ports = {bridge: _Port(bridge) for bridge in BRIDGE_REGISTERS}
    set_by_ports = sorted(story.set_by_ports)
    for event in sorted(story.events, key=lambda e: e.t_ns):
        bridge = event.fields.get("function", 0)
        if not event.is_trace or bridge not in ports:
            continue
        while set_by_ports and set_by_ports[0][0] <= event.t_ns:
            _, port, register, bits = set_by_ports.pop(0)
            ports[port].set(register, bits)
        at = event.fields["address"]
        if event.kind == Kind.TRACE_WRITE:
            ports[bridge].write(at, event.fields["value"], event.width)
            if at == _BRIDGE_CONTROL and event.fields["value"] & _BUS_RESET:
                for below in _BELOW[bridge]:
                    ports[below] = _Port(below)
        elif event.tag == TAG:
            event.fields["value"] = ports[bridge].dword(at)
            event.fields["region"] = BUS_ABOVE[bridge] << 8 | DEVFN[bridge]


class _Port:
    """A port's bytes, and what a write makes of them by the access kinds of its fields."""

    def __init__(self, bridge: int) -> None:
        self._bytes = bytearray(0x200)
        self._registers: dict[int, Any] = {r["offset"]: r for r in BRIDGE_REGISTERS[bridge]}
        self._bridge = bridge
        for register, value in _POWER_ON[bridge].items():
            self._put(self._registers[offset(bridge, register.name)], value)

    def dword(self, at: int) -> int:
        return int.from_bytes(self._bytes[at : at + 4], "little")

    def set(self, register: str, bits: int) -> None:
        described = self._registers[offset(self._bridge, register)]
        self._put(described, self._get(described) | bits)

    def write(self, at: int, value: int, width: int) -> None:
        """What a write of so many bytes changes; 0: the register that begins there, as a trace has no width."""
        known = self._registers.get(at)
        end = at + (width or (known["width"] if known is not None else 0))
        for register in self._registers.values():
            begin = register["offset"]
            touched = range(max(at, begin), min(end, begin + register["width"]))
            covered = sum(0xFF << 8 * (byte - begin) for byte in touched)
            if covered:
                shift = 8 * (begin - at)
                self._write(register, covered, value >> shift if shift > 0 else value << -shift)

    def _write(self, register: Any, covered: int, value: int) -> None:
        """The part of a write that fell on one register."""
        held = self._get(register)
        for field in register["fields"]:
            mask = ((1 << field["bits"]) - 1) << field["lsb"] & covered
            if field["access"] in ("rw", "rws"):
                held = held & ~mask | value & mask
            elif field["access"] in ("rw1c", "rw1cs"):
                held &= ~(value & mask)
        self._put(register, held)

    def _get(self, register: Any) -> int:
        at = register["offset"]
        return int.from_bytes(self._bytes[at : at + register["width"]], "little")

    def _put(self, register: Any, value: int) -> None:
        at, width = register["offset"], register["width"]
        self._bytes[at : at + width] = value.to_bytes(width, "little")
