# SPDX-License-Identifier: MIT
"""One record of one witness dropped, doubled, changed or swapped, and the file made whole again: never a PASS.

A rule about the bench itself is required by every policy, so its UNKNOWN is enough: no verdict can be PASS then.
"""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pydev.continuity import Outcome, load_policy, load_timeline, verify
from pydev.continuity.evidence import Evidence
from pydev.continuity.rules.agreement import WRITES_AGREE
from pydev.recording.format import CONFIG_REGION, Kind
from pydev.recording.reader import read
from pydev.testkit.mutations.draft import Draft
from pydev.testkit.story import Story

FIELDS = {
    Kind.PLUGIN_WRITE: ("region", "address", "value", "error", "t_ns"),
    Kind.TRACE_WRITE: ("region", "address", "value", "function", "t_ns"),
    Kind.REGION_WRITE: ("region", "address", "value", "size", "function", "t_ns"),
}
"""What each witness knows of a write, by its fields; `error` is the plugin's width."""
_OFTEN_NOTHING = 60_000_000
"""A stamp moved by this is moved across its neighbours, or to where no bench is late."""


@cache
def clean(*, plugin: bool) -> Draft:
    with tempfile.TemporaryDirectory() as folder:
        return Draft.of(read(Story(plugin=plugin).save(Path(folder) / "r.lus")))


@cache
def accounts(*, plugin: bool) -> dict[Kind, list[int]]:
    """Where each witness's records of the guest's config writes begin."""
    draft = clean(plugin=plugin)
    running = draft.records["t_ns"][draft.records["kind"] == Kind.MARK][1]
    found = {kind: draft.of_kind(kind) for kind in FIELDS}
    found[Kind.REGION_WRITE] = [
        head
        for head in found[Kind.REGION_WRITE]
        if draft.records["region"][head] == CONFIG_REGION and draft.records["t_ns"][head] > running
    ]
    return found


def written(draft: Draft, folder: str) -> Path:
    path = Path(folder) / "r.lus"
    path.write_bytes(draft.to_bytes())
    return path


def never_passes(draft: Draft) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = WRITES_AGREE.judge(Evidence(load_timeline(written(draft, folder))))
    assert result.outcome is Outcome.UNKNOWN


def test_what_is_taken_apart_and_put_together_again_passes_and_the_rule_is_required() -> None:
    for plugin in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            verdict = verify(load_timeline(written(clean(plugin=plugin), folder)), load_policy("series"))
        assert verdict.outcome is Outcome.PASS
        assert next(entry for entry in verdict.rules if entry.rule is WRITES_AGREE).required


def test_authors_that_got_lost_never_pass() -> None:
    draft = clean(plugin=True)
    authors = draft.of_kind(Kind.ATTRIBUTION)
    for gone in (authors[:1], authors[-1:], authors):
        never_passes(draft.without(gone))


WITNESS = st.sampled_from(list(FIELDS))


def drawn(data: st.DataObject, kind: Kind) -> int:
    return data.draw(st.sampled_from(accounts(plugin=True)[kind]))


@settings(max_examples=40, deadline=None)
@given(WITNESS, st.data())
def test_a_dropped_record_never_passes(kind: Kind, data: st.DataObject) -> None:
    never_passes(clean(plugin=True).without([drawn(data, kind)]))


@settings(max_examples=40, deadline=None)
@given(WITNESS, st.data())
def test_a_doubled_record_never_passes(kind: Kind, data: st.DataObject) -> None:
    never_passes(clean(plugin=True).with_copy(drawn(data, kind)))


@settings(max_examples=80, deadline=None)
@given(WITNESS, st.data())
def test_a_changed_record_never_passes(kind: Kind, data: st.DataObject) -> None:
    draft, head = clean(plugin=True), drawn(data, kind)
    name = data.draw(st.sampled_from(FIELDS[kind]))
    old = int(draft.records[name][head])
    if name == "t_ns":
        new = old + data.draw(st.sampled_from([-1, 1])) * _OFTEN_NOTHING
    else:
        bits = {"region": 16, "address": 12, "value": 16, "error": 3, "size": 3, "function": 3}[name]
        new = old ^ data.draw(st.integers(1, (1 << bits) - 1))
    if kind is Kind.PLUGIN_WRITE and name == "error" and has_one_witness(draft, head):
        return
    never_passes(draft.with_fields(head, **{name: new}))


def has_one_witness(draft: Draft, head: int) -> bool:
    """Firmware's writes to bridges: no server, and no accessor whose name says how many bytes it writes."""
    is_bridge = int(draft.records["region"][head]) not in (0x300, 0x400)
    first_hello = draft.records["t_ns"][draft.records["kind"] == Kind.AGENT].min()
    return is_bridge and bool(draft.records["t_ns"][head] < first_hello)


@settings(max_examples=40, deadline=None)
@given(WITNESS, st.data())
def test_two_records_in_each_others_place_never_pass(kind: Kind, data: st.DataObject) -> None:
    draft = clean(plugin=True)
    one, other = drawn(data, kind), drawn(data, kind)
    names = [name for name in (*FIELDS[kind], "aux") if name != "t_ns"]
    first, second = ({name: int(draft.records[name][head]) for name in names} for head in (one, other))
    known = [name for name in names if name not in ("aux", "size", "error")]
    if [first[name] for name in known] == [second[name] for name in known]:
        return  # nobody can tell them apart
    never_passes(draft.with_fields(one, **second).with_fields(other, **first))


Spoil = Callable[[Draft, int], Draft]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([Kind.TRACE_WRITE, Kind.REGION_WRITE]), st.data())
def test_two_witnesses_find_what_one_of_them_lost_without_a_plugin(kind: Kind, data: st.DataObject) -> None:
    """Of endpoints: a bridge's writes have one witness then, as the result says."""
    draft = clean(plugin=False)
    heads = [head for head in accounts(plugin=False)[kind] if int(draft.records["function"][head]) in (0, 1)]
    head = data.draw(st.sampled_from(heads))
    spoil: Spoil = data.draw(
        st.sampled_from([lambda d, h: d.without([h]), lambda d, h: d.with_copy(h),
                         lambda d, h: d.with_fields(h, value=int(d.records["value"][h]) ^ 1)])
    )  # fmt: skip
    never_passes(spoil(draft, head))
