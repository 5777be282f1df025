# SPDX-License-Identifier: MIT
"""Who made each config write, on real boots of our kernels and of a distribution's."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from guest_images import build
from guest_images.progress import PlainProgress
from pydev.recording.plugin import PluginWrite
from pydev.recording.timeline import Timeline, load_timeline
from qemu_plugin.attribution import system_map
from qemu_plugin.attribution.loading import load_symbols
from qemu_plugin.pytest_plugin import LiveUpdateFactory

COMMAND, BUS_MASTER = 0x04, 1 << 2
SHUTDOWN = ("pci_clear_master", "pci_device_shutdown", "device_shutdown", "kernel_kexec")
WHOLE = 0.99
"""The share of a kernel's writes whose stack has to reach its bottom."""
BOTTOMS = ("ret_from_fork_asm", "entry_SYSCALL_64", "secondary_startup_64")


def is_in_order(functions: Sequence[str], frames: Sequence[str]) -> bool:
    rest = iter(frames)
    return all(function in rest for function in functions)


def by_kernel(timeline: Timeline) -> dict[str, list[PluginWrite]]:
    found: dict[str, list[PluginWrite]] = {"firmware": [], "outgoing": [], "incoming": [], "unknown": []}
    for write in timeline.plugin.writes:
        assert write.attribution is not None
        found[write.attribution.kernel].append(write)
    return found


def assert_attributed(timeline: Timeline) -> None:
    """Every write has an author, and nearly every kernel's stack is whole."""
    summary = timeline.trailer["attribution"]
    assert summary["problems"] == []
    kernels = by_kernel(timeline)
    assert kernels["unknown"] == []
    assert summary["writes"] == len(timeline.plugin.writes)
    for kernel in ("outgoing", "incoming"):
        stacks = [write.attribution for write in kernels[kernel] if write.attribution is not None]
        assert len(stacks) > 100
        whole = [stack for stack in stacks if stack.note is None]
        assert len(whole) >= WHOLE * len(stacks), Counter(stack.note for stack in stacks).most_common(5)
        assert {stack.frames[-1].startswith(BOTTOMS) for stack in whole} == {True}


def assert_clears_are_explained(timeline: Timeline, count: int) -> None:
    clears = [
        write.attribution
        for write in by_kernel(timeline)["outgoing"]
        if write.offset == COMMAND
        and not write.value & BUS_MASTER
        and write.attribution is not None
        and write.attribution.is_under("device_shutdown")
        and write.attribution.function != "pci_intx"
    ]
    assert len(clears) >= count
    for author in clears:
        assert author.function == "pci_clear_master"
        assert is_in_order(SHUTDOWN, author.frames), author.frames


def test_each_cleared_bus_master_enable_is_explained_from_the_write_to_the_system_call(
    shared_run: Path,
) -> None:
    timeline = load_timeline(shared_run / "recording.lus")
    assert_attributed(timeline)
    assert_clears_are_explained(timeline, count=5)  # three endpoints' and more of the bridges above them


def test_the_incoming_kernel_enumerates_and_its_drivers_probe(shared_run: Path) -> None:
    incoming = by_kernel(load_timeline(shared_run / "recording.lus"))["incoming"]
    authors = [write.attribution for write in incoming if write.attribution is not None]
    first, rest = authors[0], Counter(author.function for author in authors)
    assert first.is_under("kernel_init")
    assert {"pci_setup_device", "pci_scan_bridge_extend"} <= set(rest)
    assert any(author.is_under("pci_device_probe") for author in authors)


def test_what_user_space_writes_is_sysfs(shared_run: Path) -> None:
    writes = load_timeline(shared_run / "recording.lus").plugin.writes
    by_sysfs = [
        write.attribution
        for write in writes
        if write.attribution and write.attribution.function == "pci_write_config"
    ]
    assert by_sysfs
    assert all(is_in_order(("vfs_write", "do_syscall_64"), author.frames) for author in by_sysfs)


def test_before_any_kernel_there_is_the_firmware(shared_run: Path) -> None:
    timeline = load_timeline(shared_run / "recording.lus")
    kernels = [write.attribution.kernel for write in timeline.plugin.writes if write.attribution]
    assert kernels[0] == "firmware"
    assert kernels == sorted(kernels, key=["firmware", "outgoing", "incoming"].index)


@pytest.mark.asyncio
async def test_a_distributions_kernel_is_attributed_without_a_system_map_and_wherever_it_lies(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update("plain-kexec") as run:
        await run.finish()
    assert build.kernel("debian", PlainProgress()).system_map is None
    timeline = load_timeline(run.run.recording)
    assert_attributed(timeline)
    assert_clears_are_explained(timeline, count=5)


@pytest.mark.asyncio
async def test_in_a_chain_each_kernel_comes_in_before_it_goes_out(live_update: LiveUpdateFactory) -> None:
    async with live_update("chain") as run:
        await run.finish()
    timeline = load_timeline(run.run.recording)
    assert_attributed(timeline)
    kernels = [write.attribution.kernel for write in timeline.plugin.writes if write.attribution]
    turns = [kernel for kernel, before in zip(kernels[1:], kernels, strict=False) if kernel != before]
    updates = len(timeline.plugin.jumps)
    assert updates > 1
    assert turns == ["outgoing", "incoming"] * updates


@pytest.mark.parametrize("name", ["luo", "luo-pci"])
def test_a_built_kernels_own_tables_say_what_its_system_map_says(name: str) -> None:
    kernel = build.kernel(name, PlainProgress())
    assert kernel.system_map is not None
    symbols = load_symbols(kernel.image)
    assert symbols.source == "kallsyms"
    listed = zip(*system_map.read(kernel.system_map)[:2], strict=True)
    expected = {(function, address) for function, address in listed if symbols.is_text(address)}
    found = symbols.names.strip(b"\0").decode().split("\0")
    assert set(zip(found, symbols.addresses.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", ["luo", "luo-pci", "debian"])
def test_every_kernel_has_tables_to_unwind_by_and_the_functions_that_matter(name: str) -> None:
    kernel = build.kernel(name, PlainProgress())
    symbols = load_symbols(kernel.image, kernel.system_map)
    assert (symbols.release, symbols.problem) == (kernel.release, None)
    assert symbols.orc is not None
    for function in (
        "pci_conf1_write",
        "pci_mmcfg_write",
        "machine_kexec",
        "pci_clear_master",
        "pci_setup_device",
    ):
        assert symbols.address_range(function) is not None, function


@pytest.mark.asyncio
async def test_whatever_goes_wrong_with_names_the_run_is_recorded_and_judged(
    live_update: LiveUpdateFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("qemu_plugin.experiment.trailer.attribute", fail)
    async with live_update("unpatched") as run:
        verdict = await run.finish()
    timeline = load_timeline(run.run.recording)
    assert timeline.trailer["attribution"]["problems"] == [
        "attribution failed: ZeroDivisionError: a mistake of ours"
    ]
    assert timeline.recording.complete
    failed = {judged.rule.id for judged in verdict.rules if judged.outcome == "FAIL"}
    assert {"BME-ENDPOINT", "BME-BRIDGE", "DMA-CONTINUITY"} <= failed
    assert "attribution failed" in run.run.report.read_text()
