# SPDX-License-Identifier: MIT
"""Endpoints with more capabilities than they need: what QEMU shows of them to a guest, and that they are no harm."""

from typing import Any

import pytest

from pydev.pci import capability_offsets
from pydev.pci.doe import DISCOVERY, PCI_SIG, DiscoveryRequest, DiscoveryResponse, DoeControl, DoeStatus
from pydev.pci.doe import ObjectHeader1 as Header1
from pydev.pci.doe import ObjectHeader2 as Header2
from pydev.pci.optional import OPTIONAL
from pydev.recording.format import Kind
from pydev.recording.timeline import load_timeline
from pydev.registers import DecodeTable
from qemu_plugin.experiment import spec
from qemu_plugin.pytest_plugin import LiveUpdateFactory

pytestmark = pytest.mark.asyncio

CONFIG_BYTES = 0x300
EP0 = "0000:03:00.0"
HIDDEN_BY_QEMU = {"SRIOV"}  # QEMU hw/vfio/pci.c vfio_add_ext_cap


def experiment() -> spec.Experiment:
    names = ", ".join(f'"{name}"' for name in OPTIONAL)
    text = spec.shipped()["live-update"].read_text()
    options = f'port = "dn1"\noptions = {{ capabilities = [{names}] }}\n'
    return spec.parse(text.replace('port = "dn1"\n', options), "capabilities.toml")


async def read(run: Any, offset: int) -> int:
    return int((await run.agent("config", bdf=EP0, offset=offset, width=4))["value"])


async def write(run: Any, offset: int, value: int) -> None:
    await run.agent("config", bdf=EP0, offset=offset, width=4, value=value)


async def test_a_guest_sees_them_and_lives_on_and_every_write_of_its_kernel_has_a_name(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update(experiment()) as run:
        await run.phase("prepared")
        words = [await read(run, offset) for offset in range(0, CONFIG_BYTES, 4)]
        answer = await discover(run)
        verdict = await run.finish()
    seen = set(capability_offsets(b"".join(word.to_bytes(4, "little") for word in words)))
    assert {kind().name for kind in OPTIONAL.values()} - seen == HIDDEN_BY_QEMU
    assert (answer.vendor_id, answer.object_type, answer.next_index) == (PCI_SIG, DISCOVERY, 0)
    assert verdict.outcome == "PASS", run.run.report.read_text()
    assert nameless(run.run.recording) == []


async def discover(run: Any) -> DiscoveryResponse:
    """Ask the mailbox what it speaks, as linux drivers/pci/doe.c does."""
    config = b"".join([(await read(run, at)).to_bytes(4, "little") for at in range(0, CONFIG_BYTES, 4)])
    base = capability_offsets(config)["DOE"]
    control, status, mailbox, answer = (base + offset for offset in (0x08, 0x0C, 0x10, 0x14))
    request = (Header1.compose(vendor_id=PCI_SIG), Header2.compose(length=3), DiscoveryRequest.compose())
    for dword in request:
        await write(run, mailbox, dword)
    await write(run, control, DoeControl.compose(go=1))
    dwords = []
    while DoeStatus(await read(run, status)).data_object_ready:
        dwords.append(await read(run, answer))
        await write(run, answer, 0)
    return DiscoveryResponse(dwords[2])


def nameless(recording: Any) -> list[str]:
    """Config writes of the guest that reached one of ours where no register is declared."""
    timeline = load_timeline(recording)
    found = []
    for function in timeline.header["functions"]:
        table = DecodeTable(function["registers"])
        slots = timeline.of_kind(Kind.TRACE_WRITE, function["index"])
        offsets = set(timeline.column("address", slots).tolist())
        found += [f"{function['id']} {offset:#x}" for offset in sorted(offsets) if not table.split(offset, 1)]
    return found
