# SPDX-License-Identifier: MIT
"""C and Python state the same format; here the two are held against each other."""

import re
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest
from qemu_plugin.native._core import ffi

import qemu_plugin.native
from pydev.ports import Gate
from pydev.recording import format as recording_format
from pydev.recording.format import CONTINUATION_BYTES, PROLOGUE, RECORD, Flag, Kind
from qemu_plugin.vfio_user.device import DeviceInfo, IrqInfo, RegionInfo, SetIrqs
from qemu_plugin.vfio_user.header import DATA_MAX_BYTES, FDS_MAX, Command

SOURCE = Path(next(iter(qemu_plugin.native.__path__))) / "src"


def enumerators(header: str, prefix: str) -> dict[str, int]:
    text = (SOURCE / header).read_text()
    return {name: int(value) for name, value in re.findall(rf"\b{prefix}_(\w+) = (\d+),", text)}


@pytest.mark.parametrize(
    ("header", "prefix", "python"),
    [
        ("recording.h", "KIND", Kind),
        ("recording.h", "FLAG", Flag),
        ("engine.h", "GATE", Gate),
        ("wire.h", "WIRE", Command),
    ],
)
def test_every_enumerator_in_c_has_pythons_value(
    header: str, prefix: str, python: type[IntEnum] | type[IntFlag]
) -> None:
    found = enumerators(header, prefix)
    expected = {name: int(value) for name, value in python.__members__.items()}

    shared = {name: value for name, value in found.items() if name in expected}

    assert shared
    assert shared == {name: expected[name] for name in shared}
    assert all(name.startswith("IRQ") for name in found.keys() - expected.keys())


def test_the_event_of_the_boundary_is_a_record_without_its_sequence() -> None:
    fields = [(name, field.offset) for name, field in ffi.typeof("struct event").fields]

    dtype = RECORD.fields
    assert dtype is not None
    assert fields == [(name, dtype[name][1] - 8) for name in RECORD.names or () if name != "seq"]
    assert ffi.sizeof("struct event") == RECORD.itemsize - 8


def test_the_limits_in_c_are_those_that_version_announces() -> None:
    text = (SOURCE / "wire.h").read_text()
    assert f"#define WIRE_FDS_MAX {FDS_MAX}\t" in text
    assert DATA_MAX_BYTES == 1 << 16
    assert "#define WIRE_DATA_MAX (1u << 16)" in text


def test_the_prologue_in_c_asserts_the_offsets_of_the_format() -> None:
    text = (SOURCE / "recording.h").read_text()
    for name in ("head", "limit", "dropped", "trailer_crc32"):
        fields = PROLOGUE.fields
        assert fields is not None
        assert f"offsetof(struct prologue, {name}) == {fields[name][1]}," in text
    assert RECORD.itemsize == recording_format.CONTINUATION_OFFSET + CONTINUATION_BYTES


@pytest.mark.parametrize(
    ("layout", "size_bytes"),
    [(DeviceInfo.LAYOUT, 16), (RegionInfo.LAYOUT, 32), (IrqInfo.LAYOUT, 16), (SetIrqs.LAYOUT, 20)],
)
def test_a_layout_has_the_size_that_the_specification_gives(layout: object, size_bytes: int) -> None:
    assert getattr(layout, "size", None) == size_bytes
