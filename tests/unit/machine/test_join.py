# SPDX-License-Identifier: MIT
"""A trace line belongs to the function that its BDF reaches at that moment, whatever it reached before."""

import numpy as np

from pydev.recording.format import NO_FUNCTION, RECORD, Kind
from pydev.topology import Node, Role, Topology
from qemu_plugin.machine.join import join

TREE = Topology(
    [
        Node(0, "ep0", Role.ENDPOINT, 1, 0),
        Node(1, "rp1", Role.ROOT_PORT, None, 1 << 3),
    ]
)
EPOCH_NS = 1795132800_000_000_000  # 2026-11-20T00:00:00Z


def line(second: int, verb: str, device: str, bdf: str, offset: int, value: int) -> str:
    arrow = "->" if verb == "read" else "<-"
    return f"2026-11-20T00:00:{second:02}.000100Z pci_cfg_{verb} {device} {bdf} @{offset:#x} {arrow} {value:#x}\n"


def records(*lines: str, server: np.ndarray | None = None) -> np.ndarray:
    text = "".join(lines).encode()
    return join(text, TREE, np.zeros(0, RECORD) if server is None else server, EPOCH_NS).records


def test_bus_numbers_decide_whose_line_it_is() -> None:
    rows = records(
        line(0, "read", "vfio-user-pci", "01:00.0", 0x4, 0),
        line(1, "write", "pcie-root-port", "00:01.0", 0x18, 0x010100),
        line(2, "write", "vfio-user-pci", "01:00.0", 0x4, 0x6),
        line(3, "write", "pcie-root-port", "00:01.0", 0x18, 0x050500),
        line(4, "write", "vfio-user-pci", "05:00.0", 0x4, 0x2),
    )
    assert rows["function"].tolist() == [1, 0, 1, 0]
    assert rows["kind"].tolist() == [Kind.TRACE_WRITE] * 4
    assert rows["value"].tolist() == [0x010100, 0x6, 0x050500, 0x2]


def test_writes_to_functions_that_are_none_of_ours_are_kept_without_a_function() -> None:
    rows = records(
        line(0, "write", "ICH9-LPC", "00:1f.0", 0x40, 1), line(0, "read", "ICH9-LPC", "00:1f.0", 0x40, 1)
    )
    assert rows["function"].tolist() == [NO_FUNCTION]


def test_the_scan_for_functions_is_kept_absent_ones_included() -> None:
    rows = records(line(0, "read", "empty", "00:03.0", 0, 0xFFFFFFFF))
    assert rows["error"].tolist() == [1]
    assert rows["region"].tolist() == [3 << 3]


def test_stamps_are_on_the_monotonic_clock() -> None:
    assert records(line(7, "write", "mch", "00:00.0", 0x60, 1))["t_ns"].tolist() == [7_000_100_000]


def test_the_residual_is_taken_from_writes_that_both_witnesses_saw_once() -> None:
    server = np.zeros(1, RECORD)
    server[0] = (1, 2_000_190_000, Kind.REGION_WRITE, 0, 0, 0, 2, 7, 0x4, 0x6, 0, 0)
    text = line(1, "write", "pcie-root-port", "00:01.0", 0x18, 0x010100) + line(
        2, "write", "vfio-user-pci", "01:00.0", 0x4, 0x6
    )
    joined = join(text.encode(), TREE, server, EPOCH_NS)
    assert (joined.anchor_count, joined.residual_median_ns, joined.residual_max_ns) == (1, 90_000, 90_000)
    assert (joined.line_count, joined.write_count) == (2, 2)


def test_an_empty_trace_gives_no_records() -> None:
    joined = join(b"", TREE, np.zeros(0, RECORD), 0)
    assert (len(joined.records), joined.anchor_count) == (0, 0)
