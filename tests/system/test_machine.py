# SPDX-License-Identifier: MIT
"""What the project says of QEMU's machine, asked of a running one."""

import pytest

from pydev.pci import capability_chain, capability_offsets
from qemu_plugin.experiment.spec import DEFAULT_PORTS
from qemu_plugin.machine.commandline import PORT_CAPABILITIES
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

CONFIG_BYTES = 0x200


async def test_ports_have_their_capabilities_where_the_function_table_says(
    machine: LiveUpdateFactory,
) -> None:
    async with machine("unpatched") as run:
        ids = {port.id: port.kind for port in DEFAULT_PORTS}
        found = {}
        for identity, bdf in _ports(await run.qmp("query-pci")):
            if identity in ids:
                words = [await _dword(run, bdf, offset) for offset in range(0, CONFIG_BYTES, 4)]
                found[identity] = b"".join(word.to_bytes(4, "little") for word in words)
    assert set(found) == set(ids)
    for identity, config in found.items():
        offsets = capability_offsets(config)
        assert offsets == PORT_CAPABILITIES[ids[identity]], identity
        assert len(list(capability_chain(config))) == len(offsets), f"{identity} has one without a name"


async def _dword(run, bdf: str, offset: int) -> int:  # type: ignore[no-untyped-def]
    reply = await run.agent("config", bdf=bdf, offset=offset, width=4)
    return int(reply["value"])


def _ports(buses: list[dict]) -> list[tuple[str, str]]:  # type: ignore[type-arg]
    found = []
    for bus in buses:
        for device in bus["devices"]:
            found.append(
                (device["qdev_id"], f"0000:{device['bus']:02x}:{device['slot']:02x}.{device['function']}")
            )
            if "pci_bridge" in device:
                found += _ports([{"devices": device["pci_bridge"].get("devices", [])}])
    return found
