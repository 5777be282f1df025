# SPDX-License-Identifier: MIT
"""Whatever happens to a file: it is refused, or not trusted, or means the same; judging never crashes."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pydev.continuity import Outcome, Verdict, load_policy, load_timeline, verify
from pydev.errors import RecordingError
from pydev.recording.format import PROLOGUE, RECORD, RECORD_BYTES, TEXT_KINDS, Kind
from pydev.recording.reader import read
from pydev.recording.writer import RecordingBuilder
from pydev.report import render_text, verdict_json
from pydev.testkit.story import Story

LIMIT_FIELDS = ("limit", "capacity")
"""Room that the writers had: larger or smaller, no event means anything else."""


@cache
def clean() -> bytes:
    return Story().to_bytes()


def judge(data: bytes) -> Verdict | None:
    """The verdict; None where the file is beyond reading."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.lus"
        path.write_bytes(data)
        try:
            timeline = load_timeline(path)
        except RecordingError:
            return None
        verdict = verify(timeline, load_policy("series"))
        render_text(timeline, verdict)
        verdict_json(verdict)
        return verdict


def meaningless(position: int) -> bool:
    offsets = [PROLOGUE.fields[name][1] for name in LIMIT_FIELDS if PROLOGUE.fields]
    return any(offset <= position < offset + 8 for offset in offsets)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_one_changed_byte_never_passes(data: st.DataObject) -> None:
    whole = clean()
    region = data.draw(st.sampled_from(["prologue", "anywhere", "end"]))
    bounds = {
        "prologue": (0, 300),
        "anywhere": (0, len(whole) - 1),
        "end": (len(whole) - 600, len(whole) - 1),
    }
    position = data.draw(st.integers(*bounds[region]))
    mask = data.draw(st.integers(1, 255))
    verdict = judge(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
    assert verdict is None or verdict.outcome is not Outcome.PASS or meaningless(position)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(clean()) - 1))
def test_a_file_cut_anywhere_never_passes(length: int) -> None:
    verdict = judge(clean()[:length])
    assert verdict is None or verdict.outcome is not Outcome.PASS


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 590), min_size=1, max_size=5),
    st.binary(min_size=RECORD_BYTES, max_size=RECORD_BYTES),
)
def test_records_of_nonsense_never_crash_a_judgement(slots: list[int], nonsense: bytes) -> None:
    """Rewritten with a fitting CRC: what a wrong writer would leave."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.lus"
        path.write_bytes(clean())
        whole = read(path)
        records = whole.records.copy()
        kinds = records["kind"].copy()
        for slot in slots:
            records[slot] = np.frombuffer(nonsense, dtype=RECORD)[0]
            records[slot]["kind"] = kinds[slot]
        builder = RecordingBuilder(whole.header)
        builder.append_batch(records)
        trailer = {k: v for k, v in (whole.trailer or {}).items() if k not in ("crc32", "events")}
        verdict = judge(builder.to_bytes(trailer))
    assert verdict is not None
    crashes = [f.message for e in verdict.rules for f in e.result.findings if "crashed" in f.message]
    assert not crashes


FIELDS = st.fixed_dictionaries(
    {
        "t_ns": st.integers(0, 2**64 - 1),
        "function": st.integers(0, 2**16 - 1),
        "flags": st.integers(0, 2**16 - 1),
        "error": st.integers(0, 2**16 - 1),
        "region": st.integers(0, 2**32 - 1),
        "address": st.integers(0, 2**64 - 1),
        "value": st.integers(0, 2**64 - 1),
        "extra": st.integers(0, 2**64 - 1),
        "aux": st.integers(0, 2**64 - 1),
    }
)
PLAIN = [kind for kind in Kind if kind not in TEXT_KINDS and kind is not Kind.CONTINUATION]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(FIELDS, st.binary(max_size=200)), max_size=20))
def test_what_is_written_is_what_is_read(events: list[dict[str, int] | bytes]) -> None:
    builder = RecordingBuilder({"schema": 1, "functions": []})
    for number, event in enumerate(events):
        if isinstance(event, bytes):
            builder.append_text(Kind.CONSOLE, event, t_ns=number)
        else:
            builder.append(PLAIN[number % len(PLAIN)], **event)
    with tempfile.TemporaryDirectory() as folder:
        builder.write(Path(folder) / "r.lus")
        timeline = load_timeline(Path(folder) / "r.lus")
    assert timeline.recording.complete
    plain = [event for event in events if isinstance(event, dict)]
    rows = timeline.records[np.isin(timeline.records["kind"], [int(kind) for kind in PLAIN])]
    assert [{name: int(row[name]) for name in event} for event, row in zip(plain, rows, strict=True)] == plain
    texts = [event for event in events if isinstance(event, bytes)]
    assert [text.raw for text in timeline.console] == texts
