# SPDX-License-Identifier: MIT
"""Joins QEMU's trace to a recording: whose access each line is, and when it happened on CLOCK_MONOTONIC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.recording.format import NO_FUNCTION, RECORD, Kind
from pydev.topology import BUS_BYTES, PRIMARY_OFFSET, BusNumbers, Topology
from qemu_plugin.machine import iommu
from qemu_plugin.machine.commandline import TRACE_TYPES
from qemu_plugin.machine.trace import ConfigAccess, parse

_VENDOR_ID: Final = 0x00
_BUS_NUMBERS: Final = range(PRIMARY_OFFSET, PRIMARY_OFFSET + BUS_BYTES)


@dataclass(frozen=True, slots=True)
class Joined:
    """The trace as records, ready to be appended, and how well the clocks agree."""

    records: npt.NDArray[np.void]
    """RECORD: TRACE_READ and TRACE_WRITE, in the trace's order."""
    line_count: int
    write_count: int
    iommu_count: int
    """Writes to the IOMMU's registers."""
    anchor_count: int
    """Endpoint writes that both the trace and the server saw."""
    residual_median_ns: int
    residual_max_ns: int
    """Server's time minus trace's, over the anchors: the trace precedes the server by some 10 µs to 1 ms."""


def join(
    text: bytes, topology: Topology, server_writes: npt.NDArray[np.void], realtime_minus_monotonic_ns: int
) -> Joined:
    """The config accesses of `text` as records of a recording.

    `topology` is the tree at power-on; it is walked along with the bus numbers that the guest writes.
    `server_writes` are the recording's config REGION_WRITE records. Kept are all accesses of functions of the
    experiment, all writes, and the vendor ID reads by which a kernel looks for functions.
    """
    buses = BusNumbers(topology)
    rows: list[tuple[int, ...]] = []
    lines = writes = 0
    for access in parse(text):
        lines += 1
        writes += access.is_write
        function = buses.function(access.bdf) if access.device in TRACE_TYPES else None
        if function is not None and access.offset in _BUS_NUMBERS:
            (buses.write if access.is_write else buses.read)(function, access.offset, access.value)
        if function is not None or access.is_write or access.offset == _VENDOR_ID:
            rows.append(_row(access, function, realtime_minus_monotonic_ns))
    iommu_rows = [_iommu_row(write, realtime_minus_monotonic_ns) for write in iommu.parse(text)]
    rows += iommu_rows
    records = np.zeros(len(rows), dtype=RECORD)
    if rows:
        columns = np.array(rows, dtype=np.uint64).T
        names = ("t_ns", "kind", "function", "error", "region", "address", "value", "extra")
        for name, column in zip(names, columns, strict=True):
            records[name] = column
    residuals = _residuals(records, server_writes)
    return Joined(
        records,
        lines,
        writes,
        len(iommu_rows),
        len(residuals),
        int(np.median(residuals)) if len(residuals) else 0,
        int(np.abs(residuals).max()) if len(residuals) else 0,
    )


def _row(access: ConfigAccess, function: int | None, offset_ns: int) -> tuple[int, ...]:
    return (
        access.realtime_ns - offset_ns,
        Kind.TRACE_WRITE if access.is_write else Kind.TRACE_READ,
        NO_FUNCTION if function is None else function,
        int(access.is_absent),
        access.bdf,
        access.offset,
        access.value,
        0,
    )


def _iommu_row(write: iommu.IommuWrite, offset_ns: int) -> tuple[int, ...]:
    t_ns = write.realtime_ns - offset_ns
    return (t_ns, Kind.IOMMU, NO_FUNCTION, 0, 0, write.register, write.value, write.status)


def _residuals(trace: npt.NDArray[np.void], server: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Server's time minus trace's for writes that occur once in each: an anchor needs no order to hold on to."""
    found: list[int] = []
    for function in np.unique(server["function"]):
        ours = server[server["function"] == function]
        theirs = trace[(trace["function"] == function) & (trace["kind"] == Kind.TRACE_WRITE)]
        mine, named = _unique(ours), _unique(theirs)
        found += [int(mine[key]) - int(named[key]) for key in mine.keys() & named.keys()]
    return np.array(found, dtype=np.int64)


def _unique(records: npt.NDArray[np.void]) -> dict[tuple[Any, Any], Any]:
    seen: dict[tuple[Any, Any], Any] = {}
    repeated: set[tuple[Any, Any]] = set()
    for offset, value, t_ns in _columns(records, "address", "value", "t_ns"):
        key = (offset, value)
        if key in seen:
            repeated.add(key)
        seen[key] = t_ns
    return {key: t_ns for key, t_ns in seen.items() if key not in repeated}


def _columns(records: npt.NDArray[np.void], *names: str) -> Sequence[tuple[Any, ...]]:
    return list(zip(*(records[name].tolist() for name in names), strict=True))
