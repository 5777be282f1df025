# SPDX-License-Identifier: MIT
"""Mutations of a transaction that is whole in itself: another page, another number, refused, once more."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from pydev.endpoints.payload import PAGE_BYTES, SLOTS_PER_PAGE, slot_words
from pydev.ports import Gate
from pydev.recording.format import Flag, Kind
from pydev.testkit.mutations.mutation import Clean, Mutation, Site, kind_name

ELSEWHERE: Final = 0x0DEA_D000
"""A page that nobody preserved."""


def of_transaction(clean: Clean, head: int) -> Iterator[Mutation]:
    """Every mutation of a DMA or of an interrupt."""
    site = Site(clean, head)
    kind = kind_name(site.kind)
    flags = site["flags"]
    if site.kind == Kind.INTERRUPT:
        yield from _of_interrupt(site)
        return
    if flags & Flag.BLOCKED:
        passed = {"flags": flags & ~int(Flag.BLOCKED), "error": 0}
        yield Mutation("let pass", kind, partial(clean.draft.with_fields, head, **passed), (site,))
    else:
        for gate in (Gate.BUS_MASTER_OFF, Gate.NO_CLIENT):
            fields = {"flags": flags | Flag.BLOCKED, "error": int(gate)}
            yield Mutation(
                "refuse",
                kind,
                partial(clean.draft.with_fields, head, **fields),
                (site,),
                gate.name or "",
            )
        unmapped = {"flags": flags | Flag.FAULT}
        yield Mutation("no mapping", kind, partial(clean.draft.with_fields, head, **unmapped), (site,))
    if site.kind == Kind.DMA_WRITE and flags & Flag.STREAM:
        yield from _of_slot(clean, site)


def _of_slot(clean: Clean, site: Site) -> Iterator[Mutation]:
    kind = kind_name(site.kind)
    pages = _pages(clean, site["function"])
    page, inside = site["address"] // PAGE_BYTES * PAGE_BYTES, site["address"] % PAGE_BYTES
    other = pages[(pages.index(page) + 1) % len(pages)] if page in pages else ELSEWHERE
    places = {
        "to another page of the ring": {"address": other + inside},
        "to a page not preserved": {"address": ELSEWHERE + inside},
        "with the next number": {"value": site["value"] + 1},
        "with the number before": {"value": site["value"] - 1},
        "of another generation": {"extra": site["extra"] + 1},
        "of another engine": {"extra": site["extra"] ^ 1 << 32},
    }
    for name, fields in places.items():
        whole = _whole(site, len(pages), fields)
        yield Mutation(name, kind, partial(clean.draft.with_fields, site.head, **whole), (site,))
        yield Mutation(
            f"once more, {name}",
            kind,
            partial(clean.draft.with_copy, site.head, **whole),
            (site,),
        )


def _whole(site: Site, pages: int, fields: dict[str, int]) -> dict[str, int]:
    """The fields with the checksum that the engine would have recorded for them."""
    held = {name: site[name] for name in ("t_ns", "extra", "address", "value")} | fields
    t_ns, extra, address, number = (
        np.array([held[name]], dtype=np.uint64) for name in ("t_ns", "extra", "address", "value")
    )
    words = slot_words(t_ns, extra, address, number, pages * SLOTS_PER_PAGE)
    return fields | {"aux": int(words[0, 6])}


def _pages(clean: Clean, function: int) -> list[int]:
    """A stream's pages, in ring order."""
    records = clean.draft.records
    is_page = (records["kind"] == Kind.ENGINE_PAGE) & (records["function"] == function)
    found: dict[int, int] = dict(
        zip(records["value"][is_page].tolist(), records["address"][is_page].tolist(), strict=True)
    )
    return [found[number] for number in sorted(found)]


def _of_interrupt(site: Site) -> Iterator[Mutation]:
    kind = kind_name(site.kind)
    states: dict[str, dict[str, int]] = {
        "lose": {"flags": int(Flag.BLOCKED), "error": int(Gate.INTERRUPTS_OFF)},
        "hold pending": {"flags": int(Flag.PENDING), "error": int(Gate.FUNCTION_MASKED)},
        "deliver": {"flags": 0, "error": 0},
    }
    for name, fields in states.items():
        if site["flags"] != fields["flags"]:
            yield Mutation(name, kind, partial(site.clean.draft.with_fields, site.head, **fields), (site,))
