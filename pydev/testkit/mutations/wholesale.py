# SPDX-License-Identifier: MIT
"""Mutations of many events at once: a kind lost altogether, or of one function, or of one span of the update."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from pydev.recording.format import Kind
from pydev.testkit.mutations.mutation import Clean, Mutation, Site, kind_name

MOST_NAMED: Final = 256
"""Events of which a mutation says which they are."""


def of_recording(clean: Clean) -> Iterator[Mutation]:
    """Every kind without any, of each function, before frozen, in the blackout and after it."""
    records = clean.draft.records
    for number in np.unique(records["kind"]).tolist():
        if number == Kind.CONTINUATION:
            continue
        is_kind = records["kind"] == number
        yield _without(clean, "drop all", number, is_kind)
        owners = np.unique(records["function"][is_kind]).tolist()
        for owner in owners if len(owners) > 1 else ():
            label = clean.timeline.functions[owner].id if owner < len(clean.timeline.functions) else "none"
            yield _without(
                clean, "drop all of a function", number, is_kind & (records["function"] == owner), label
            )
        yield from _spans(clean, number, is_kind)


def _spans(
    clean: Clean, number: int, is_kind: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> Iterator[Mutation]:
    times = clean.draft.records["t_ns"]
    for blackout in clean.timeline.blackouts:
        inside = (times > blackout.begin.t_ns) & (times <= blackout.end_ns)
        sweep = blackout.start_of("enumeration")
        spans = [("before frozen", times <= blackout.begin.t_ns), ("in the blackout", inside)]
        spans.append(("after finished", times > blackout.end_ns))
        if sweep is not None:
            spans += [
                ("by the outgoing kernel", inside & (times < sweep)),
                ("by the incoming", inside & (times >= sweep)),
            ]
        for name, where in spans:
            if (is_kind & where).any():
                yield _without(clean, f"drop all {name}", number, is_kind & where)


def _without(
    clean: Clean, name: str, number: int, gone: "np.ndarray[tuple[int], np.dtype[np.bool_]]", detail: str = ""
) -> Mutation:
    heads = np.flatnonzero(gone).tolist()
    sites = tuple(Site(clean, head) for head in heads) if len(heads) <= MOST_NAMED else ()
    return Mutation(name, kind_name(number), partial(clean.draft.without, heads), sites, detail)
