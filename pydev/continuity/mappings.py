# SPDX-License-Identifier: MIT
"""Where the pages of a stream lead: iova to offset in guest memory, from DMA_MAP and DMA_UNMAP, over time."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from pydev.recording.format import Flag, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.timeline import Timeline

UNMAP_ALL: Final = 1 << 1  # linux include/uapi/linux/vfio.h VFIO_DMA_UNMAP_FLAG_ALL
_WRITABLE: Final = 1 << 1  # VFIOU 'DMA_MAP' flags


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a stream's ring, as the device was told."""

    engine: int
    index: int
    iova: int
    size_bytes: int


Target = int | None
"""Offset in guest memory of a page's first byte; None where the device cannot write there."""


def pages(timeline: Timeline, function: FunctionEntry, t_ns: int) -> tuple[Page, ...]:
    """The rings of a function's engines as they were last set up before a moment."""
    starts = timeline.of_kind(Kind.ENGINE, function.index)
    starts = starts[(timeline.column("value", starts) == 1) & (timeline.t_ns[starts] <= t_ns)]
    engines = timeline.column("region", starts).tolist()
    latest = dict(zip(engines, starts.tolist(), strict=True))
    slots = timeline.of_kind(Kind.ENGINE_PAGE, function.index)
    names = ("region", "value", "address", "size")
    rows = zip(slots.tolist(), *(timeline.column(name, slots).tolist() for name in names), strict=True)
    found: dict[tuple[int, int], Page] = {}
    for slot, engine, index, iova, size in rows:
        if slot > latest.get(engine, slot) and timeline.t_ns[slot] <= t_ns:
            found[engine, index] = Page(engine, index, iova, size)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Step:
    """From an event on, where each page leads."""

    t_ns: int
    targets: tuple[Target, ...]


def steps(timeline: Timeline, function: FunctionEntry, wanted: tuple[Page, ...], end_ns: int) -> list[Step]:
    """What each map and unmap up to a moment left of the wanted pages, in order; those that fail change nothing."""
    slots = np.union1d(
        timeline.of_kind(Kind.DMA_MAP, function.index), timeline.of_kind(Kind.DMA_UNMAP, function.index)
    )
    slots = slots[(timeline.t_ns[slots] <= end_ns) & (timeline.column("error", slots) == 0)]
    names = ("t_ns", "kind", "address", "value", "extra", "aux", "flags")
    rows = zip(*(timeline.column(name, slots).tolist() for name in names), strict=True)
    targets: list[Target] = [None] * len(wanted)
    found: list[Step] = []
    for t_ns, kind, iova, size, offset, aux, flags in rows:
        begin, end = iova, iova + size
        if kind == Kind.DMA_MAP:
            leads = bool(flags & Flag.HAS_FD) and bool(aux & _WRITABLE)
            for number, page in enumerate(wanted):
                if leads and begin <= page.iova and page.iova + page.size_bytes <= end:
                    targets[number] = offset + page.iova - begin
        else:
            for number, page in enumerate(wanted):
                is_touched = begin < page.iova + page.size_bytes and page.iova < end
                if is_touched or aux & UNMAP_ALL:
                    targets[number] = None
        if not found or found[-1].targets != tuple(targets):
            found.append(Step(t_ns, tuple(targets)))
    return found
