# SPDX-License-Identifier: MIT
"""The library: every mutation of a clean recording, or a sample of them that leaves out no kind, function or phase."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from typing import Final, TypeVar

from pydev.recording.format import Kind
from pydev.testkit.mutations import dma, events, wholesale, words, writes
from pydev.testkit.mutations.mutation import Clean, Mutation, Site

_Item = TypeVar("_Item")

SEED: Final = 4
_TRANSACTIONS: Final = (Kind.DMA_WRITE, Kind.DMA_READ, Kind.INTERRUPT)


def mutations(clean: Clean, most: int | None = None, seed: int = SEED) -> Iterator[Mutation]:
    """The mutations of a clean recording.

    `most` is how many of each row of the table are taken from each function and phase, at random and always the
    same for a seed; None is all of them, which for a real recording are some hundred thousand.
    """
    yield from wholesale.of_recording(clean)
    yield from _sampled(writes_of(clean), most, seed)
    for mutation_source in (words.of_header, words.of_trailer, words.of_functions):
        yield from _sampled(mutation_source(clean), most, seed)
    for kind in sorted({int(kind) for kind in clean.draft.records["kind"][clean.draft.heads].tolist()}):
        sites = _sites(clean, kind, most, seed)
        yield from _sampled((m for site in sites for m in _of_site(site)), most, seed)


def sample(found: Iterable[Mutation], count: int, seed: int = SEED) -> list[Mutation]:
    """So many mutations, of as many rows of the table as there are: one of each row, then a second, and so on."""
    rows: dict[tuple[str, str], list[Mutation]] = {}
    for mutation in found:
        rows.setdefault((mutation.kind, mutation.name), []).append(mutation)
    chance = random.Random(seed)
    for row in rows.values():
        chance.shuffle(row)
    in_turn = (mutation for turn in zip_longest(*rows.values()) for mutation in turn if mutation is not None)
    return list(islice(in_turn, count))


def writes_of(clean: Clean) -> Iterator[Mutation]:
    """Every config write of the guest, in all its witnesses."""
    for write in writes.guest_writes(clean):
        yield from writes.of_write(clean, write)


def _of_site(site: Site) -> Iterator[Mutation]:
    clean, head = site.clean, site.head
    yield from events.of_event(clean, head)
    yield from events.swaps(clean, head)
    if site.kind in _TRANSACTIONS:
        yield from dma.of_transaction(clean, head)
    if site.kind in words.LINES:
        yield from words.of_line(clean, head)


def _sites(clean: Clean, kind: int, most: int | None, seed: int) -> list[Site]:
    """Events of a kind: of each function, phase and flags, at most so many."""
    if kind not in set(Kind):
        return []
    heads = clean.draft.of_kind(Kind(kind))
    sites = [Site(clean, head) for head in heads]
    if most is None or kind in (Kind.AGENT, Kind.MARK, Kind.ENGINE, Kind.GATE, Kind.CLIENT):
        return sites
    strata: dict[tuple[object, ...], list[Site]] = {}
    for site in sites:
        strata.setdefault((site["function"], site.phase, site["flags"]), []).append(site)
    chance = random.Random(seed)
    return [site for stratum in strata.values() for site in _some(stratum, most, chance)]


def _sampled(found: Iterable[Mutation], most: int | None, seed: int) -> Iterator[Mutation]:
    """At most so many of each row, function, phase and detail."""
    if most is None:
        yield from found
        return
    strata: dict[tuple[object, ...], list[Mutation]] = {}
    for mutation in found:
        strata.setdefault(_row(mutation), []).append(mutation)
    chance = random.Random(seed)
    for stratum in strata.values():
        yield from _some(stratum, most, chance)


def _row(mutation: Mutation) -> tuple[object, ...]:
    """What a sample is taken of: a row of the table, for each function and phase; for words each member."""
    site = mutation.site
    if site is not None:
        return (mutation.kind, mutation.name, site["function"], site.phase)
    what = mutation.detail.split()[:1] if mutation.name == "undeclare" else mutation.detail
    return (mutation.kind, mutation.name, str(what))


def _some(items: list[_Item], most: int, chance: random.Random) -> list[_Item]:
    return items if len(items) <= most else chance.sample(items, most)
