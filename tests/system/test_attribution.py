# SPDX-License-Identifier: MIT
"""The TCG plugin on real boots: it sees what QEMU's trace sees, one to one, and its absence changes nothing else."""

import os
import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydev.recording.format import Kind
from pydev.recording.reader import read
from qemu_plugin.experiment import spec
from qemu_plugin.pytest_plugin import LiveUpdateFactory

Records = np.ndarray[Any, Any]
KASLR_ALIGNMENT = 2 << 20
KERNEL_HALF = 1 << 63


def of(records: Records, kind: Kind) -> Records:
    chosen: Records = records[records["kind"] == kind]
    return chosen


def by_register(writes: Records) -> dict[tuple[int, int], list[int]]:
    """Values, in order, for each BDF and offset."""
    found = defaultdict(list)
    for bdf, offset, value in writes[["region", "address", "value"]].tolist():
        found[bdf, offset].append(value)
    return dict(found)


def assert_one_to_one(records: Records) -> None:
    plugin, trace = of(records, Kind.PLUGIN_WRITE), of(records, Kind.TRACE_WRITE)
    assert len(plugin) > 500
    assert by_register(plugin) == by_register(trace)
    (end,) = of(records, Kind.PLUGIN_END)
    assert (int(end["value"]), int(end["extra"])) == (len(plugin), 0)


def kernel_writes(records: Records) -> tuple[Records, Records]:
    """The plugin's records of writes by the outgoing and by the incoming kernel."""
    (jump,) = of(records, Kind.PLUGIN_JUMP)
    plugin = of(records, Kind.PLUGIN_WRITE)
    plugin = plugin[plugin["extra"] >= KERNEL_HALF]
    return plugin[plugin["t_ns"] < jump["t_ns"]], plugin[plugin["t_ns"] > jump["t_ns"]]


async def recorded(live_update: LiveUpdateFactory, experiment: str | Path) -> Records:
    async with live_update(experiment) as run:
        await run.finish()
    assert run.loss is None
    records: Records = read(run.run.recording).records
    return records


def test_every_write_of_firmware_and_both_kernels_is_seen_by_plugin_and_trace_alike(shared_run: Path) -> None:
    records = read(shared_run / "recording.lus").records
    assert_one_to_one(records)
    outgoing, incoming = kernel_writes(records)
    assert len(outgoing) > 100
    assert len(incoming) > 100
    plugin = of(records, Kind.PLUGIN_WRITE)
    assert (plugin["extra"] < KERNEL_HALF).sum() > 50, "SeaBIOS sizes and places every BAR"


def test_the_plugin_has_the_width_that_the_server_has(shared_run: Path) -> None:
    """QEMU's own writes reach the server too, so that every write of the plugin is found there, and some more."""
    records = read(shared_run / "recording.lus").records
    functions = dict(of(records, Kind.TRACE_WRITE)[["region", "function"]].tolist())
    served = records[(records["kind"] == Kind.REGION_WRITE) & (records["region"] == 7)]
    server = Counter(served[["function", "address", "size", "value"]].tolist())
    seen = of(records, Kind.PLUGIN_WRITE)[["region", "address", "error", "value"]].tolist()
    indexes = set(served["function"].tolist())
    plugin = Counter((functions[bdf], *rest) for bdf, *rest in seen if functions[bdf] in indexes)
    assert sum(plugin.values()) > 50
    assert plugin - server == Counter()


def test_the_jump_comes_after_the_last_write_of_the_outgoing_kernel(shared_run: Path) -> None:
    records = read(shared_run / "recording.lus").records
    outgoing, incoming = kernel_writes(records)
    (jump,) = of(records, Kind.PLUGIN_JUMP)
    assert int(outgoing["t_ns"].max()) < int(jump["t_ns"]) < int(incoming["t_ns"].min())
    assert int(jump["size"]) > 16, "with the stack that machine_kexec was called on"


@pytest.mark.asyncio
async def test_two_cpus_lose_and_double_nothing(live_update: LiveUpdateFactory, tmp_path: Path) -> None:
    experiment = tmp_path / "smp.toml"
    experiment.write_text(
        'name = "smp"\n[guest]\nkernel = "luo-pci"\ncpus = 2\n'
        '[[endpoint]]\nid = "ep0"\nport = "dn1"\npreserve = true\nstream = {}\n'
    )
    assert_one_to_one(await recorded(live_update, experiment))


@pytest.mark.asyncio
async def test_kernels_that_lie_somewhere_else_at_each_boot_are_followed_on_every_cpu(
    live_update: LiveUpdateFactory, tmp_path: Path
) -> None:
    """`isolcpus=0` has CPU 1 look for devices at boot; it is CPU 0 that shuts them down (migrate_to_reboot_cpu)."""
    experiment = tmp_path / "kaslr.toml"
    text = spec.shipped()["plain-kexec"].read_text()
    experiment.write_text(text.replace("[guest]", '[guest]\ncpus = 2\ncommand_line = "isolcpus=0"'))
    records = await recorded(live_update, experiment)
    assert_one_to_one(records)
    assert set((of(records, Kind.PLUGIN_WRITE)["aux"] & 0xFFFF).tolist()) == {0, 1}
    outgoing, incoming = (set(writes["extra"].tolist()) for writes in kernel_writes(records))
    congruent = {pc % KASLR_ALIGNMENT for pc in outgoing}
    assert {pc % KASLR_ALIGNMENT for pc in incoming} <= congruent, "one kernel, at two places"


@pytest.mark.asyncio
async def test_a_qemu_that_is_killed_leaves_every_write_until_then(live_update: LiveUpdateFactory) -> None:
    async with live_update("unpatched") as run:
        await run.phase("frozen")
        os.kill(run.bench.qemu_pid, signal.SIGKILL)
        await run.finish()
    records = read(run.run.recording).records
    assert by_register(of(records, Kind.PLUGIN_WRITE)) == by_register(of(records, Kind.TRACE_WRITE))
    assert len(of(records, Kind.PLUGIN_END)) == 0


@pytest.mark.asyncio
async def test_without_attribution_everything_else_is_as_before(
    live_update: LiveUpdateFactory, tmp_path: Path
) -> None:
    experiment = tmp_path / "off.toml"
    text = spec.shipped()["unpatched"].read_text()
    experiment.write_text(text.replace("[guest]", "[guest]\nattribution = false"))
    async with live_update(experiment) as run:
        verdict = await run.finish()
    assert verdict.as_expected, run.run.report.read_text()
    recording = read(run.run.recording)
    assert recording.header["attribution"] == {"plugin": False, "reason": "switched off"}
    assert not {Kind.PLUGIN_WRITE, Kind.PLUGIN_JUMP, Kind.PLUGIN_END} & set(
        recording.records["kind"].tolist()
    )
