# SPDX-License-Identifier: MIT
"""A recording with the plugin's raw records in it, and what is appended to say who made each write."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from guest_images.kernel_image import KernelImage
from pydev.recording.format import (
    CONTINUATION_BYTES,
    CONTINUATION_OFFSET,
    NO_FUNCTION,
    PLUGIN_STACK,
    RECORD,
    RECORD_BYTES,
    Kind,
    Mark,
    PluginWay,
)
from pydev.recording.timeline import Timeline, load_timeline
from qemu_plugin.attribution import testkit
from qemu_plugin.attribution.attribute import attribute
from qemu_plugin.attribution.reading import read
from qemu_plugin.attribution.testkit import Tiny
from qemu_plugin.attribution.unwind import RawStack
from qemu_plugin.native.recording import RecordingWriter

SLIDE = 0x1E00000
BIOS = RawStack(0xEA3ED, 0x6FB8, 0, b"")
SHUTDOWN = [
    "pci_conf1_write", "pci_write_config_word", "__pci_set_master", "pci_clear_master", "pci_device_shutdown",
    "device_shutdown", "kernel_kexec", "do_syscall_64", "entry_SYSCALL_64",
]  # fmt: skip
BDF, COMMAND = 0x0300, 4


class Run:
    """A run's recording that has not been closed yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recording = RecordingWriter.create(path, {"schema": 1, "functions": []}, extent=1 << 14)
        self.t_ns = 0

    def witness(self, raw: RawStack, kind: Kind = Kind.PLUGIN_WRITE, cpu: int = 0) -> None:
        """What the plugin appends: a head with the raw stack behind it."""
        self.t_ns += 1000
        payload = np.array((raw.rsp, raw.rbp), dtype=PLUGIN_STACK).tobytes() + raw.memory
        count = -(-len(payload) // CONTINUATION_BYTES)
        rows = np.zeros(1 + count, dtype=RECORD)
        rows["t_ns"], rows["function"], rows["kind"] = self.t_ns, NO_FUNCTION, Kind.CONTINUATION
        head = {"kind": kind, "size": len(payload), "extra": raw.pc, "aux": cpu | PluginWay.PORTS << 16}
        if kind == Kind.PLUGIN_WRITE:
            head |= {"error": 2, "region": BDF, "address": COMMAND, "value": 0x102}
        for name, value in head.items():
            rows[name][0] = value
        chain = rows[1:].view(np.uint8).reshape(count, RECORD_BYTES)
        padded = payload.ljust(count * CONTINUATION_BYTES, b"\0")
        chain[:, CONTINUATION_OFFSET:] = np.frombuffer(padded, dtype=np.uint8).reshape(
            count, CONTINUATION_BYTES
        )
        self.recording.append_batch(rows)

    def freeze(self) -> None:
        self.recording.append(Kind.MARK, value=int(Mark.FROZEN_ACKNOWLEDGED), t_ns=self.t_ns + 1)

    def close(self) -> Timeline:
        self.recording.close({})
        return load_timeline(self.path)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    yield Run(tmp_path / "recording.lus")


def image(tiny: Tiny, name: str = "tiny") -> KernelImage:
    return KernelImage(name, tiny.kernel.path, None, "7.3.0-tiny", None, {})


def live_update(run: Run, tiny: Tiny) -> None:
    run.witness(BIOS)
    for _ in range(3):
        run.witness(tiny.boot(SLIDE))
    run.freeze()
    run.witness(tiny.shutdown(SLIDE), cpu=1)
    run.witness(
        tiny.raw("machine_kexec", "after_machine_kexec", 0, "in_do_syscall_64", slide=SLIDE), Kind.PLUGIN_JUMP
    )
    for _ in range(3):
        run.witness(tiny.boot())


def test_every_write_and_jump_gets_its_author(run: Run, tiny: Tiny) -> None:
    live_update(run, tiny)
    summary = attribute(run.recording, [image(tiny), image(tiny)])
    assert summary.to_json() == {
        "writes": 8, "attributed": 7, "firmware": 1, "unknown": 0, "cut_short": 0, "problems": [],
    }  # fmt: skip
    timeline = run.close()
    assert timeline.plugin.problems == ()
    kernels = [write.attribution.kernel if write.attribution else None for write in timeline.plugin.writes]
    assert kernels == ["firmware", *["outgoing"] * 4, *["incoming"] * 3]
    shutdown = timeline.plugin.writes[4].attribution
    assert shutdown is not None
    assert list(shutdown.frames) == SHUTDOWN
    assert (shutdown.function, shutdown.cpu, shutdown.note) == ("pci_clear_master", 1, None)
    (jump,) = timeline.plugin.jumps
    assert jump.attribution is not None
    assert jump.attribution.frames[:2] == ("machine_kexec", "kernel_kexec")


def test_a_stack_that_many_writes_have_is_on_the_record_once(run: Run, tiny: Tiny) -> None:
    live_update(run, tiny)
    attribute(run.recording, [image(tiny), image(tiny)])
    stacks = [json.loads(text.raw) for text in run.close().texts if text.kind is Kind.STACK]
    assert len(stacks) == 5  # firmware, boot, shutdown, jump, boot again
    assert [stack["kernel"] for stack in stacks].count("incoming") == 1
    assert next(stack for stack in stacks if "pci_clear_master" in str(stack))["recovered"] == [1, 3, 4]


def test_a_stack_that_ends_early_is_said_and_counted(run: Run, tiny: Tiny) -> None:
    for _ in range(3):
        run.witness(tiny.boot())
    cut = tiny.shutdown()
    run.witness(RawStack(cut.pc, cut.rsp, cut.rbp, cut.memory[:40]))
    summary = attribute(run.recording, [image(tiny)])
    assert (summary.attributed, summary.cut_short) == (4, 1)
    found = run.close().plugin.writes[-1].attribution
    assert found is not None
    assert found.frames == ("pci_conf1_write", "pci_write_config_word", "__pci_set_master")
    assert found.note is not None
    assert "outside the 40 bytes saved" in found.note


def test_writes_of_a_kernel_that_is_not_known_have_no_frames_and_their_address(
    run: Run, tiny: Tiny, tmp_path: Path
) -> None:
    other = testkit.build(
        tmp_path, functions={"first": [("nop", testkit.frame(8))] * 100, **testkit.FUNCTIONS}
    )
    for _ in range(3):
        run.witness(tiny.boot())
    summary = attribute(run.recording, [KernelImage("other", other.path, None, "7.3.0-tiny", None, {})])
    assert (summary.attributed, summary.unknown) == (0, 3)
    assert summary.problems == ["kernel 0 of the run, counted from 0, fits no image that is known"]
    found = run.close().plugin.writes[0].attribution
    assert found is not None
    assert (found.kernel, found.frames) == ("unknown", ())
    assert (
        found.note == f"an instruction at {tiny.kernel['pci_conf1_write_out']:#x}, in no image that is known"
    )


def test_an_image_that_cannot_be_read_is_a_problem_and_no_exception(
    run: Run, tiny: Tiny, tmp_path: Path
) -> None:
    (tmp_path / "bzImage").write_bytes(testkit.bzimage(b"\x89LZO" + bytes(32)))
    run.witness(tiny.boot())
    summary = attribute(run.recording, [KernelImage("lzo", tmp_path / "bzImage", None, "7", None, {})])
    assert summary.unknown == 1
    assert "lzo compression is not supported" in summary.problems[0]


def test_a_kernel_without_tables_is_named_by_its_function_alone(run: Run, tmp_path: Path) -> None:
    kernel = testkit.build(tmp_path, orc_header=bytes(20))
    without = Tiny(kernel, read(kernel.path, None))
    for _ in range(2):
        run.witness(without.boot())
    summary = attribute(run.recording, [image(without)])
    assert (summary.attributed, summary.cut_short) == (2, 2)
    assert "an ORC layout of a version that is not known" in summary.problems[0]
    found = run.close().plugin.writes[0].attribution
    assert found is not None
    assert found.frames == ("pci_conf1_write",)


def test_a_recording_without_a_plugin_costs_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qemu_plugin.attribution.attribute.load_symbols", None)
    run.freeze()
    head = run.recording.head
    assert attribute(run.recording, []).to_json()["writes"] == 0
    assert run.recording.head == head


def test_a_record_whose_chain_is_cut_short_has_no_author(run: Run, tiny: Tiny) -> None:
    for _ in range(2):
        run.witness(tiny.boot())
    head = np.zeros(1, dtype=RECORD)
    head["kind"], head["size"], head["extra"] = Kind.PLUGIN_WRITE, 400, tiny.boot().pc
    run.recording.append_batch(head)
    assert attribute(run.recording, [image(tiny)]).writes == 2
