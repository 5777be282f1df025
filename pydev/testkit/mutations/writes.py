# SPDX-License-Identifier: MIT
"""Mutations of a config write in all of its witnesses: what another guest would have left, had it made another.

A write of an endpoint is in the server's record, in QEMU's trace and, where there is one, in the plugin's; one of
a bridge in the last two. Losing it from one of them is an event's mutation (`events`); here they still agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from pydev.recording.format import CONFIG_REGION, Kind
from pydev.recording.functions import FieldEntry, RegisterEntry
from pydev.testkit.mutations.draft import Draft
from pydev.testkit.mutations.mutation import Clean, Mutation, Site

APART_NS: Final = 5_000_000
"""Witnesses of one write are closer than this."""


@dataclass(frozen=True)
class GuestWrite:
    """One config write of the guest: the site of each witness, that of the function first."""

    sites: tuple[Site, ...]

    @property
    def register(self) -> RegisterEntry | None:
        """The register that it begins in, as the header names it."""
        function = self.sites[0].function
        if function is None:
            return None
        at = self.sites[0]["address"]
        return next((r for r in function.registers.values() if r.offset <= at < r.offset + r.width), None)

    @property
    def name(self) -> str:
        """The register's name, or its offset where it has none."""
        return self.register.name if self.register is not None else f"{self.sites[0]['address']:#x}"


def guest_writes(clean: Clean) -> list[GuestWrite]:
    """Every config write of the guest to a function of the topology, by the trace."""
    records = clean.draft.records
    server = _by_place(
        clean, np.flatnonzero((records["kind"] == Kind.REGION_WRITE) & (records["region"] == CONFIG_REGION))
    )
    plugin = _by_place(clean, np.flatnonzero(records["kind"] == Kind.PLUGIN_WRITE))
    found = []
    for head in clean.draft.of_kind(Kind.TRACE_WRITE):
        trace = Site(clean, head)
        if trace.function is None:
            continue
        served = _take_nearest(server.get((trace["function"], trace["address"]), []), trace)
        seen = _take_nearest(plugin.get((trace["region"], trace["address"]), []), trace)
        found.append(GuestWrite(tuple(site for site in (served, trace, seen) if site is not None)))
    return found


def _by_place(
    clean: Clean, heads: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> dict[tuple[int, int], list[Site]]:
    places: dict[tuple[int, int], list[Site]] = {}
    for head in heads.tolist():
        site = Site(clean, head)
        owner = site["region"] if site.kind == Kind.PLUGIN_WRITE else site["function"]
        places.setdefault((owner, site["address"]), []).append(site)
    return places


def _take_nearest(sites: list[Site], trace: Site) -> Site | None:
    """The witness of the same write, which is then no other's."""
    close = [
        s
        for s in sites
        if abs(s.t_ns - trace.t_ns) <= APART_NS and s["value"] & 0xFF == trace["value"] & 0xFF
    ]
    if not close:
        return None
    nearest = min(close, key=lambda site: abs(site.t_ns - trace.t_ns))
    sites.remove(nearest)
    return nearest


def of_write(clean: Clean, write: GuestWrite) -> Iterator[Mutation]:
    """The write never made, and made with each field of its register changed."""
    kind, sites, name = "config write", write.sites, write.name
    yield Mutation("never made", kind, partial(_never_made, clean, write), sites, name)
    for entry in _fields(write):
        yield Mutation(
            "other value",
            kind,
            partial(_with_bit, clean, write, entry.lsb),
            sites,
            f"{name}.{entry.name}" if write.register is not None else name,
        )


def _never_made(clean: Clean, write: GuestWrite) -> Draft:
    return reconnected(clean.draft.without([site.head for site in write.sites]))


def _fields(write: GuestWrite) -> list[FieldEntry]:
    """The fields that the write reaches; its lowest bit where nobody names any."""
    register, at = write.register, write.sites[0]["address"]
    size = max(site["size"] if site.kind == Kind.REGION_WRITE else 1 for site in write.sites)
    if register is None or not register.fields:
        return [FieldEntry("bit 0", 0, 1)]
    moved = 8 * (register.offset - at)
    shifted = (replace(f, lsb=f.lsb + moved) for f in register.fields.values())
    return [f for f in shifted if 0 <= f.lsb < 8 * size]


def _with_bit(clean: Clean, write: GuestWrite, bit: int) -> Draft:
    """The write with one bit of its value the other way, and what it left with it."""
    draft = clean.draft
    for site in write.sites:
        fields = {"value": site["value"] ^ 1 << bit}
        if site.kind == Kind.REGION_WRITE:
            fields["aux"] = site["aux"] ^ 1 << bit
        draft = draft.with_fields(site.head, **fields)
    return reconnected(draft)


def reconnected(draft: Draft) -> Draft:
    """Each server's record of config space with what the one before it left as the value before."""
    images = {
        entry["index"]: bytearray.fromhex(entry["config"])
        for entry in draft.header["functions"]
        if entry.get("config")
    }
    records = draft.records.copy()
    is_write = (records["kind"] == Kind.REGION_WRITE) & (records["region"] == CONFIG_REGION)
    for at in np.flatnonzero(is_write | (records["kind"] == Kind.CONFIG_UPDATE)).tolist():
        image = images.get(int(records["function"][at]))
        begin, size = int(records["address"][at]), int(records["size"][at])
        if image is None or records["error"][at] or begin + size > len(image):
            continue
        records["extra"][at] = int.from_bytes(image[begin : begin + size], "little")
        image[begin : begin + size] = int(records["aux"][at]).to_bytes(8, "little")[:size]
    return replace(draft, records=records)
