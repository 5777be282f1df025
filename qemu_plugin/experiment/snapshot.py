# SPDX-License-Identifier: MIT
"""The config space of every function at a moment, as `lspci -F FILE` reads it (`config-*.lspci`).

Read by QEMU through the ECAM window, so the guest has no part in it. Each access has its line in the trace, and
so is one more witness of what the registers held.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from pydev.units import bdf_text
from qemu_plugin.experiment.bench import Bench

SNAPSHOT_PHASES: Final = ("frozen", "updated", "finished")
SNAPSHOT_BYTES: Final = 0x200
"""Enough for every capability of QEMU's ports and of the endpoints."""
ECAM_BASE: Final = 0xB000_0000  # SeaBIOS src/fw/dev-q35.h Q35_HOST_BRIDGE_PCIEXBAR_ADDR
_ABSENT: Final = (b"\xff\xff", b"\0\0")


def locations(buses: list[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """Each function that has an id and its BDF, from QMP's reply to `query-pci`."""
    for bus in buses:
        for device in bus.get("devices", ()):
            if device.get("qdev_id"):
                yield device["qdev_id"], device["bus"] << 8 | device["slot"] << 3 | device["function"]
            yield from locations([device.get("pci_bridge") or {}])


async def snapshot(bench: Bench, name: str) -> None:
    """Write `config-NAME.lspci`; BenchError where QEMU does not answer."""
    found = sorted(locations(await bench.qmp("query-pci")), key=lambda entry: entry[1])
    text = []
    for identity, bdf in found:
        data = await _read(bench, bdf)
        if data[:2] in _ABSENT:  # not reachable: its bridge has been renumbered or shut
            continue
        lines = (f"{at:02x}: {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16))
        text.append("\n".join((f"0000:{bdf_text(bdf)} {identity}", *lines)) + "\n")
    (bench.run.path / f"config-{name}.lspci").write_text("\n".join(text), encoding="ascii")


async def _read(bench: Bench, bdf: int) -> bytes:
    path = bench.folder / "config"
    where = {"val": ECAM_BASE + (bdf << 12), "size": SNAPSHOT_BYTES, "filename": str(path)}
    await bench.qmp("pmemsave", where)
    return await asyncio.to_thread(path.read_bytes)
