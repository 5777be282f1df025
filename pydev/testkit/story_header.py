# SPDX-License-Identifier: MIT
"""The topology that stories are told of, as a header has it: one preserved endpoint below a switch."""

from collections.abc import Mapping
from typing import Any, Final

from pydev.endpoints import load
from pydev.pci import type1
from pydev.pci.optional import OPTIONAL
from pydev.recording.byte_access import access_of
from pydev.recording.functions import registers_of

EP0, EP1, RP1, UP1, DN1, RP2 = range(6)
BUS_ABOVE: Final = {EP0: 3, EP1: 4, RP1: 0, UP1: 1, DN1: 2, RP2: 0}
DEVFN: Final = {EP0: 0, EP1: 0, RP1: 0x08, UP1: 0, DN1: 0, RP2: 0x10}
BUSES: Final = {RP1: (0, 1, 3), UP1: (1, 2, 3), DN1: (2, 3, 3), RP2: (0, 4, 4)}
FRAMES: Final = (0x4000, 0x7001)
PERIOD_NS: Final = 1_000_000

_STREAM_DESCRIPTION: Final = load("stream")(capabilities=list(OPTIONAL)).describe()
MSIX_CONTROL: Final[int] = next(
    r["offset"] for r in _STREAM_DESCRIPTION["registers"] if r["name"] == "MSIX_CONTROL"
)
EP_ACS: Final[int] = next(r["offset"] for r in _STREAM_DESCRIPTION["registers"] if r["name"] == "ACS_CONTROL")
EP_DEVCTL: Final[int] = next(r["offset"] for r in _STREAM_DESCRIPTION["registers"] if r["name"] == "DEVCTL")
EP_LNKCTL: Final[int] = next(r["offset"] for r in _STREAM_DESCRIPTION["registers"] if r["name"] == "LNKCTL")
PMCSR: Final[int] = next(r["offset"] for r in _STREAM_DESCRIPTION["registers"] if r["name"] == "PMCSR")

_ROOT_PORT: Final = {"SSVID": 0x40, "MSIX": 0x48, "EXP": 0x54, "AER": 0x100, "ACS": 0x148}
_SWITCH_PORT: Final = {"MSI": 0x70, "SSVID": 0x80, "EXP": 0x90, "AER": 0x100}
_MORE: Final = {"PM": 0x40, "DPC": 0x148, "L1SS": 0x154, "DOE": 0x164, "IDE": 0x17C}
BRIDGE_REGISTERS: Final = {
    RP1: type1.describe(_ROOT_PORT),
    UP1: type1.describe(_SWITCH_PORT),
    DN1: type1.describe(_SWITCH_PORT | _MORE),
    RP2: type1.describe(_ROOT_PORT),
}
"""The ports' registers; one has what QEMU's ports have not."""


def left_by_write(function: Mapping[str, Any], offset: int, size: int, before: int, written: int) -> int:
    """What bytes of a function of the header hold after a write, by the access kinds of its registers."""
    near = [r for r in function["registers"] if r["offset"] < offset + size and "count" not in r]
    access = access_of(
        r for entry in near if entry["offset"] + entry["width"] > offset for r in registers_of(entry)
    )
    after = 0
    for at in range(size):
        old, new = before >> 8 * at & 0xFF, written >> 8 * at & 0xFF
        after |= (access[offset + at].after(old, new) if offset + at in access else new) << 8 * at
    return after


def offset(function: int, register: str) -> int:
    """Where a function of the story has a register."""
    table = BRIDGE_REGISTERS.get(function, _STREAM_DESCRIPTION["registers"])
    found: int = next(r["offset"] for r in table if r["name"] == register)
    return found


def functions(*, preserve: bool, stream: bool) -> list[dict[str, Any]]:
    """The header's function table."""
    streams = {"pages": len(FRAMES), "period_ns": PERIOD_NS} if stream else None
    table: list[dict[str, Any]] = [
        {
            "index": EP0,
            "id": "ep0",
            "role": "endpoint",
            "parent": DN1,
            "preserve": preserve,
            "stream": streams,
        },
        {"index": EP1, "id": "ep1", "role": "endpoint", "parent": RP2, "preserve": False, "stream": None},
        {"index": RP1, "id": "rp1", "role": "root_port", "parent": None, "bus": 0},
        {"index": UP1, "id": "up1", "role": "upstream_port", "parent": RP1},
        {"index": DN1, "id": "dn1", "role": "downstream_port", "parent": UP1},
        {"index": RP2, "id": "rp2", "role": "root_port", "parent": None, "bus": 0},
    ]
    described: list[dict[str, Any]] = []
    for entry in table:
        own = (
            {**_STREAM_DESCRIPTION, "model": "stream"}
            if entry["role"] == "endpoint"
            else {"registers": BRIDGE_REGISTERS[entry["index"]]}
        )
        described.append({"bus": None, "preserve": False, **own, **entry, "devfn": DEVFN[entry["index"]]})
    return described
