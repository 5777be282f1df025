# SPDX-License-Identifier: MIT
"""The end of a recording: QEMU's trace joined to it, its writes attributed, then the trailer: is it whole?"""

from typing import Any

import numpy as np

from pydev.recording.format import CONFIG_REGION, RECORD, Kind
from pydev.topology import Topology
from qemu_plugin.attribution.attribute import Summary, attribute
from qemu_plugin.experiment.bench import Bench
from qemu_plugin.experiment.header import functions
from qemu_plugin.experiment.images import Images
from qemu_plugin.machine.join import Joined, join


def join_and_close(bench: Bench, images: Images, incomplete: list[str]) -> None:
    """Append the trace's accesses and the writes' authors to the recording and close it.

    `incomplete` says what went wrong before.
    """
    offsets = bench.clock_offsets_ns or [0, 0]
    joined = _joined(bench, offsets)
    appended = bench.recording.append_batch(joined.records)
    reasons = [*incomplete]
    if appended < len(joined.records):
        reasons.append(f"{len(joined.records) - appended} trace records found no room in the file")
    attribution = _attributed(bench, images)
    bench.recording.close(
        {
            "incomplete": reasons,
            "clock": {
                "realtime_minus_monotonic_ns": [offsets[0], offsets[-1]],
                "step_ns": abs(offsets[-1] - offsets[0]),
                "residual_median_ns": joined.residual_median_ns,
                "residual_max_ns": joined.residual_max_ns,
            },
            "trace": {
                "lines": joined.line_count,
                "writes": joined.write_count,
                "iommu_writes": joined.iommu_count,
                "anchors": joined.anchor_count,
            },
            "attribution": attribution.to_json(),
            "kernels": {"outgoing": images.kernel.release, "incoming": images.next_kernel.release},
            "qemu": images.qemu.version,
            "packages": _packages(images),
        }
    )


def _attributed(bench: Bench, images: Images) -> Summary:
    """Names are an addition: whatever goes wrong with them, the recording is closed and judged without."""
    bench.recording.reserve()
    try:
        return attribute(bench.recording, [images.kernel, images.next_kernel])
    except Exception as error:
        return Summary(problems=[f"attribution failed: {type(error).__name__}: {error}"])


def _joined(bench: Bench, offsets: list[int]) -> Joined:
    text = bench.run.trace_log.read_bytes() if bench.run.trace_log.exists() else b""
    head = bench.recording.head
    records = bench.recording.view(0, head)
    writes = records[(records["kind"] == Kind.REGION_WRITE) & (records["region"] == CONFIG_REGION)]
    return join(
        text, Topology.from_header(functions(bench.experiment)), np.asarray(writes, dtype=RECORD), offsets[0]
    )


def _packages(images: Images) -> dict[str, Any]:
    return {
        "qemu": images.qemu.package,
        "kernel": images.kernel.package,
        "next_kernel": images.next_kernel.package,
    }
