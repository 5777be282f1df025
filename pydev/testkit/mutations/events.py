# SPDX-License-Identifier: MIT
"""Mutations of one event of any kind: dropped, doubled, swapped, moved in time, given to another, a field changed."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from pydev.recording.format import CHAINED_KINDS, NO_FUNCTION, TEXT_KINDS, Flag, Kind
from pydev.testkit.mutations.mutation import Clean, Mutation, Site, kind_name

SHIFT_NS: Final = 120_000_000
"""Further than any bench may be late."""

FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.REGION_READ: ("function", "region", "address", "size", "value", "error"),
    Kind.REGION_WRITE: ("function", "region", "address", "size", "value", "extra", "aux", "error"),
    Kind.CONFIG_UPDATE: ("function", "address", "extra", "aux"),
    Kind.DMA_WRITE: ("function", "flags", "address", "size", "value", "extra", "aux"),
    Kind.DMA_READ: ("function", "flags", "address", "size", "value"),
    Kind.INTERRUPT: ("function", "flags", "region", "address", "value"),
    Kind.IRQ_SETUP: ("function", "region", "address", "size", "value", "extra"),
    Kind.DMA_MAP: ("function", "address", "value", "extra", "aux"),
    Kind.DMA_UNMAP: ("function", "address", "value"),
    Kind.RESET: ("function", "value"),
    Kind.CLIENT: ("function", "value"),
    Kind.GATE: ("function", "extra", "aux"),
    Kind.ENGINE: ("function", "region", "value", "address", "size", "extra", "aux"),
    Kind.ENGINE_PAGE: ("function", "region", "value", "address", "size"),
    Kind.REFERENCE: ("value", "extra"),
    Kind.TRACE_READ: ("function", "region", "address", "value", "error"),
    Kind.TRACE_WRITE: ("function", "region", "address", "value", "error"),
    Kind.MARK: ("value",),
    Kind.PLUGIN_WRITE: ("region", "address", "error", "value"),
    Kind.PLUGIN_JUMP: (),
    Kind.PLUGIN_END: ("extra",),
    Kind.ATTRIBUTION: ("value", "extra"),
    Kind.IOMMU: ("address", "value", "extra"),
    Kind.AGENT: ("flags",),
}
"""The fields that a kind uses, each of which is changed by itself."""

_FLAG: Final = {
    Kind.DMA_WRITE: Flag.BLOCKED, Kind.DMA_READ: Flag.BLOCKED, Kind.INTERRUPT: Flag.BLOCKED, Kind.AGENT: Flag.TO_GUEST,
}  # fmt: skip
_STEP: Final = {
    "value": 1, "extra": 1, "aux": 4, "address": 0x1000, "size": 1, "region": 1, "error": 1,
}  # fmt: skip
_LATE_STEP_NS: Final = 200_000_000
_PAGE_BYTES: Final = 4096


def of_event(clean: Clean, head: int) -> Iterator[Mutation]:
    """Every mutation of one event."""
    site = Site(clean, head)
    draft, kind = clean.draft, kind_name(site.kind)

    yield Mutation("drop", kind, partial(draft.without, [head]), (site,))
    yield Mutation("double", kind, partial(draft.with_copy, head), (site,))
    for name, ns in (("later", SHIFT_NS), ("earlier", -SHIFT_NS)):
        moment = max(site.t_ns + ns, 0)
        yield Mutation(f"stamp {name}", kind, partial(draft.with_fields, head, t_ns=moment), (site,))
        yield Mutation(f"move {name}", kind, partial(draft.moved, head, moment), (site,))
    for name in FIELDS.get(Kind(site.kind), ()):
        changed = _changed(site, name)
        yield Mutation(
            f"change {name}",
            kind,
            partial(draft.with_fields, head, **{name: changed}),
            (site,),
            f"{site[name]:#x} -> {changed:#x}",
        )
    if Kind(site.kind) in CHAINED_KINDS:
        yield from _of_chain(site, kind)


def _changed(site: Site, name: str) -> int:
    """Another value for a field: of a function the next endpoint, of a flag the other state, else close by."""
    kind = Kind(site.kind)
    if name == "function":
        endpoints = [f.index for f in site.clean.timeline.functions if f.is_endpoint]
        others = [index for index in endpoints if index != site[name]]
        return others[0] if others else NO_FUNCTION
    if name == "flags":
        return site[name] ^ int(_FLAG[kind])
    if name == "address" and kind in (Kind.DMA_WRITE, Kind.DMA_READ):
        return site[name] + 64 * _PAGE_BYTES * 16
    if name == "address" and kind in (Kind.REGION_READ, Kind.REGION_WRITE, Kind.CONFIG_UPDATE):
        return site[name] ^ 8
    if name == "address" and kind in (Kind.TRACE_READ, Kind.TRACE_WRITE, Kind.PLUGIN_WRITE, Kind.INTERRUPT):
        return site[name] ^ (1 if kind is Kind.INTERRUPT else 8)
    if name == "value" and kind in (Kind.CLIENT, Kind.RESET):
        return site[name] ^ 1
    if name == "extra" and kind is Kind.REFERENCE:
        return site[name] - _LATE_STEP_NS
    return site[name] ^ _STEP[name]


def _of_chain(site: Site, kind: str) -> Iterator[Mutation]:
    draft, head = site.clean.draft, site.head
    if Kind(site.kind) not in TEXT_KINDS:
        return
    text = draft.text(head)
    for name, shorter in (("cut text", text[: len(text) // 2]), ("empty text", b"")):
        yield Mutation(name, kind, partial(draft.with_text, head, shorter), (site,))


def swaps(clean: Clean, head: int) -> Iterator[Mutation]:
    """An event and the next of its kind and function, each at the other's time."""
    site = Site(clean, head)
    draft = clean.draft
    if Kind(site.kind) in CHAINED_KINDS:
        return
    same = (draft.records["kind"] == site.kind) & (draft.records["function"] == site["function"])
    same[: head + 1] = False
    if same.any():
        other = Site(clean, int(same.argmax()))
        yield Mutation("swap", kind_name(site.kind), partial(draft.swapped, head, other.head), (site, other))
