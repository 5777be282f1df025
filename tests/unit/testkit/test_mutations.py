# SPDX-License-Identifier: MIT
"""Whatever one event of a clean recording is made to be, and whatever becomes of its file: it does not pass."""

from functools import cache
from pathlib import Path

import pytest

from pydev.continuity import Outcome, Policy, load_policy, load_timeline, verify
from pydev.errors import PolicyError, RecordingError
from pydev.recording.format import Kind
from pydev.recording.reader import read
from pydev.testkit.mutations import damage
from pydev.testkit.mutations.draft import Draft
from pydev.testkit.mutations.events import of_event
from pydev.testkit.mutations.harmless import EXCUSES
from pydev.testkit.mutations.judging import Judged, judged, policy_of, table
from pydev.testkit.mutations.library import mutations, sample
from pydev.testkit.mutations.mutation import Clean, Mutation
from pydev.testkit.story import UP1, Story


@cache
def whole() -> bytes:
    return Story().to_bytes()


@pytest.fixture
def clean(tmp_path: Path) -> Clean:
    path = tmp_path / "clean.lus"
    path.write_bytes(whole())
    return Clean.of(load_timeline(path))


@pytest.fixture
def policy(clean: Clean) -> Policy:
    return policy_of(clean, load_policy("series"))


def wrong(found: list[Judged]) -> list[str]:
    return [one.mutation.describe() for one in found if one.is_wrong]


def test_a_draft_that_nothing_was_done_to_is_the_recording(clean: Clean) -> None:
    again = read_bytes(clean.draft.to_bytes(), Path(clean.timeline.recording.path).with_name("again.lus"))
    assert again.recording.problems == ()
    assert (again.records == clean.timeline.records).all()
    assert verify(again, load_policy("series")).outcome is Outcome.PASS


def read_bytes(data: bytes, path: Path):  # type: ignore[no-untyped-def]
    path.write_bytes(data)
    return load_timeline(path)


@pytest.mark.parametrize("kind", [Kind.DMA_WRITE, Kind.AGENT, Kind.TRACE_WRITE, Kind.PLUGIN_WRITE])
def test_what_proves_a_file_whole_holds_for_every_mutation(clean: Clean, tmp_path: Path, kind: Kind) -> None:
    head = clean.draft.of_kind(kind)[-1]
    for mutation in of_event(clean, head):
        recording = read_bytes(mutation.make().to_bytes(), tmp_path / "mutated.lus").recording
        assert recording.problems == (), mutation.describe()


def test_every_row_of_the_table_is_noticed_or_excused(clean: Clean, policy: Policy) -> None:
    found = list(judged(clean, sample(mutations(clean), 160), policy))
    assert wrong(found) == [], table(found)
    assert len({one.mutation.kind for one in found}) > 20


def test_no_config_write_can_be_lost_from_any_of_its_witnesses(clean: Clean, policy: Policy) -> None:
    kinds = {kind.name for kind in (Kind.REGION_WRITE, Kind.TRACE_WRITE, Kind.PLUGIN_WRITE)}
    lost = [m for m in mutations(clean) if m.name == "drop" and m.kind in kinds]
    found = list(judged(clean, lost, policy))
    assert len(found) > 100
    assert wrong(found) == []
    passed = {one.excuse.id for one in found if one.excuse is not None}
    assert passed == {"qemu's own", "device's own register"}


def test_a_rule_that_looks_away_is_told(
    clean: Clean, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library is a test of the rules: without one, its mutations pass, and the table says so."""
    monkeypatch.setattr("pydev.continuity.rules.record.coherence_problems", lambda timeline: [])
    reference = clean.draft.of_kind(Kind.REFERENCE)[20]
    found = list(judged(clean, [m for m in of_event(clean, reference) if m.name == "drop"], policy))
    assert len(wrong(found)) == 1
    assert "PASS (WRONG) 1" in table(found)


def test_a_recording_that_is_not_clean_is_no_ground_for_mutations(tmp_path: Path) -> None:
    story = Story()
    story.write(173, UP1, 0x04, 0x103)
    with pytest.raises(PolicyError, match="FAIL"):
        policy_of(Clean.of(load_timeline(story.save(tmp_path / "r.lus"))), load_policy("series"))


def test_an_excuse_says_why_and_covers_not_everything(clean: Clean) -> None:
    nothing = Mutation("drop", Kind.DMA_WRITE.name, lambda: Draft.of(clean.timeline.recording))
    for excuse in EXCUSES:
        assert len(excuse.reason) > 30, excuse.id
        assert not excuse.covers(nothing), excuse.id
    assert len({excuse.id for excuse in EXCUSES}) == len(EXCUSES)


def test_every_bit_of_the_prologue_is_noticed_but_for_those_that_nobody_reads(tmp_path: Path) -> None:
    path = tmp_path / "damaged.lus"
    unnoticed = set()
    for damaged in damage.flips(whole(), 100, seed=1):
        path.unlink(missing_ok=True)
        path.write_bytes(damaged.data)
        try:
            is_noticed = bool(read(path).problems)
        except RecordingError:
            is_noticed = True
        if not is_noticed:
            unnoticed.add(damaged.region)
    assert unnoticed == set(damage.UNREAD)


def test_no_damaged_file_passes(policy: Policy, tmp_path: Path) -> None:
    chosen = [one for one in damage.flips(whole(), 6, seed=2) if one.region not in damage.UNREAD][::12]
    found = list(damage.assessed([*chosen, *damage.cuts(whole(), 10, seed=2)], policy, tmp_path))
    assert [one.damage.what for one in found if one.outcome == Outcome.PASS] == []
    assert "cut in records" in damage.table(found)
