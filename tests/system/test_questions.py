# SPDX-License-Identifier: MIT
"""What the report answers of real runs, held against the recording itself and against QEMU's own view."""

import re
from pathlib import Path

import numpy as np
import pytest

from pydev.continuity import Timeline, load_timeline
from pydev.recording.format import Flag, Kind
from qemu_plugin.pytest_plugin import LiveUpdateFactory

COMMAND_BUS_MASTER = 1 << 2


def unwrapped(report: Path) -> str:
    """A report without its line breaks."""
    return " ".join(report.read_text().split())


def told_of(text: str, name: str, question: str) -> str:
    """What a question's answer says of one function, up to the next function."""
    answer = text[text.index(question) :]
    return re.split(
        r" [0-9a-f]{2}:[0-9a-f]{2}\.\d \w+", answer[answer.index(name) + len(name) :], maxsplit=1
    )[0]


def config_of(snapshot: Path, name: str) -> bytes:
    """A function's config space, as QEMU gave it at a phase."""
    (text,) = [part for part in snapshot.read_text().split("\n\n") if part.split()[1] == name]
    return bytes.fromhex("".join(re.findall(r"^[0-9a-f]+: (.*)$", text, re.M)))


def interrupts(timeline: Timeline, name: str) -> tuple[int, int, int]:
    """How many an endpoint raised from frozen to finished, how many of them were lost, how many held."""
    index = next(function.index for function in timeline.functions if function.id == name)
    slots = timeline.of_kind(Kind.INTERRUPT, index)
    (blackout,) = timeline.blackouts
    numbers = timeline.column("value", slots).astype(np.int64)
    is_raised = np.diff(numbers, prepend=0) > 0
    times = timeline.t_ns[slots]
    inside = is_raised & (times > blackout.begin.t_ns) & (times <= blackout.end_ns)
    flags = timeline.column("flags", slots)[inside]
    lost = int(np.count_nonzero(flags & np.uint64(int(Flag.BLOCKED))))
    held = int(np.count_nonzero(flags & np.uint64(int(Flag.PENDING))))
    return int(np.count_nonzero(inside)), lost, held


def counted(text: str, words: str) -> int:
    """The sum of the numbers before some words."""
    return sum(int(number) for number in re.findall(rf"(\d+) {words}", text))


def check_interrupts(text: str, timeline: Timeline, name: str, bdf: str) -> None:
    raised, lost, held = interrupts(timeline, name)
    told = told_of(text, f"{bdf} {name}", "could it raise interrupts")
    assert counted(told, "raised") == raised, told
    assert counted(told, r"lost \(") == lost, told
    assert counted(told, "held pending") == held, told
    delivered = counted(told, "delivered to the") + counted(told, "delivered about")
    assert delivered + counted(told, "sent to vectors of the outgoing kernel") == raised - lost - held, told


def check_registers(text: str, run: Path, name: str, bdf: str) -> None:
    """At the jump a preserved endpoint and QEMU agree about COMMAND and BAR 0, as nothing wrote them after it."""
    config = config_of(run / "config-frozen.lspci", name)
    told = told_of(text, f"{bdf} {name}, preserved", "in which state was each device at the jump")
    bar0 = int.from_bytes(config[0x10:0x14], "little") & ~0xF
    assert f"BAR0 {bar0:#x}" in told, told
    assert "D0;" in told


@pytest.mark.asyncio
async def test_devices_that_are_kept_alive_are_told_as_the_machine_has_them(
    live_update: LiveUpdateFactory,
) -> None:
    async with live_update("live-update") as run:
        await run.finish()
    text, timeline = unwrapped(run.run.report), load_timeline(run.run.recording)
    for name, bdf in (("ep0", "03:00.0"), ("ep2", "05:00.0")):
        check_registers(text, run.run.path, name, bdf)
        check_interrupts(text, timeline, name, bdf)
        command = int.from_bytes(config_of(run.run.path / "config-frozen.lspci", name)[4:6], "little")
        told = told_of(text, f"{bdf} {name}, preserved", "in which state was each device at the jump")
        assert f"COMMAND {command:#x} (" in told
        assert "bus_master" in told
        assert "DMA: stream running" in told
        assert "and 0 refused" in told
        assert "nothing of this changed since frozen" in told
        assert (
            f"{bdf} {name}: MSI-X on, not masked, vectors set up: 0, 1, pending: none; INTx disabled" in text
        )
    assert "00:01.0 rp1: MSI-X off" in text
    assert "04:00.0 ep1: COMMAND 0x502, no bus master, D0, stream not running" in text
    beliefs = text[text.index("what does the kernel believe") :]
    assert beliefs.count(", all as believed") == 3, beliefs
    assert "!!" not in beliefs


def test_devices_that_an_ordinary_kernel_stops_are_told_with_who_stopped_them(shared_run: Path) -> None:
    text, timeline = unwrapped(shared_run / "report.txt"), load_timeline(shared_run / "recording.lus")
    check_registers(text, shared_run, "ep0", "03:00.0")
    check_interrupts(text, timeline, "ep0", "03:00.0")
    told = told_of(text, "03:00.0 ep0, preserved", "in which state was each device at the jump")
    before = int.from_bytes(config_of(shared_run / "config-frozen.lspci", "ep0")[4:6], "little")
    assert f"COMMAND {before & ~COMMAND_BUS_MASTER:#x} (" in told
    assert re.search(r"\+\d+\.\d+ ms COMMAND\.bus_master 1 -> 0, by pci_clear_master", told)
    for name, bdf in (("dn1", "02:00.0"), ("up1", "01:00.0"), ("rp1", "00:01.0")):
        above = told_of(text, f"{bdf} {name}", "in which state was each device at the jump")
        assert "COMMAND.bus_master 1 -> 0, by pci_clear_master" in above, above
    could = told_of(text, "03:00.0 ep0", "could it raise interrupts")
    assert re.search(
        r"from frozen until \+\d+\.\d+ ms COMMAND\.bus_master 1 -> 0, by pci_clear_master", could
    )
    # Without a driver the agent sets MSI-X up past the kernel, which has no idea of it.
    assert "!! 03:00.0 ep0 MSIX_CONTROL.enable holds 1" in text
    assert text.count("!!") == 1


def test_what_the_new_kernel_believes_is_what_qemu_has(shared_run: Path) -> None:
    text = unwrapped(shared_run / "report.txt")
    updated = text[text.index("updated, the incoming kernel:") :]
    for name, bdf in (("rp1", "00:01.0"), ("up1", "01:00.0"), ("dn1", "02:00.0")):
        config = config_of(shared_run / "config-updated.lspci", name)
        base, limit = (int.from_bytes(config[at : at + 2], "little") for at in (0x20, 0x22))
        window = f"window {base << 16:#x}-{(limit << 16) + 0xFFFFF:#x}"
        told = told_of(text, f"{bdf} {name}: pcieport", "what does the kernel believe")
        assert f"bus {config[0x19]:02x} below" in told, told
        assert window in told, told
    assert "all as believed" in updated
