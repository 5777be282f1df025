# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from pydev.recording.chains import Chains
from pydev.recording.event_index import EventIndex
from pydev.recording.format import Kind
from pydev.recording.reader import read
from pydev.recording.writer import RecordingBuilder


def chains(builder: RecordingBuilder, tmp_path: Path) -> tuple[Chains, EventIndex]:
    builder.write(tmp_path / "r.lus")
    index = EventIndex(read(tmp_path / "r.lus"))
    return Chains(index), index


@pytest.mark.parametrize("size", [0, 16, 39, 40, 41, 2064])
def test_a_plugins_chain_holds_raw_bytes_of_any_length(tmp_path: Path, size: int) -> None:
    builder = RecordingBuilder({"schema": 1})
    raw = bytes(range(256)) * 9
    builder.append_text(Kind.CONSOLE, b"before", t_ns=1)
    builder.append_chain(Kind.PLUGIN_WRITE, raw[:size], t_ns=2, region=8, address=4, error=2, value=7)
    builder.append_text(Kind.STACK, b"after", t_ns=3)
    found, index = chains(builder, tmp_path)
    assert found.problems == []
    assert found.bytes_of(index.of_kind(Kind.PLUGIN_WRITE)) == [raw[:size]]


def damaged(tmp_path: Path, **fields: int) -> list[str]:
    """The problems of two chains of three records each, whose fifth record has other fields."""
    builder = RecordingBuilder({"schema": 1})
    for t_ns in (1, 2):
        builder.append_chain(Kind.PLUGIN_WRITE, bytes(80), t_ns=t_ns, function=t_ns)
    records = builder.records().copy()
    for name, value in fields.items():
        records[name][4] = value
    again = RecordingBuilder({"schema": 1})
    again.append_batch(records)
    return chains(again, tmp_path)[0].problems


def test_a_whole_chain_has_no_problem(tmp_path: Path) -> None:
    assert damaged(tmp_path) == []


def test_a_chain_with_another_event_inside_is_cut_short(tmp_path: Path) -> None:
    assert "the chain of records from slot 3 is cut short" in damaged(tmp_path, kind=int(Kind.MARK))


@pytest.mark.parametrize("fields", [{"t_ns": 1}, {"function": 1}])
def test_a_continuation_of_another_event_is_foreign(tmp_path: Path, fields: dict[str, int]) -> None:
    assert damaged(tmp_path, **fields) == ["slot 4 continues another record than the one before it"]


def test_a_continuation_without_a_head_does_not_add_up(tmp_path: Path) -> None:
    builder = RecordingBuilder({"schema": 1})
    builder.append(Kind.CONTINUATION, t_ns=1)
    assert len(chains(builder, tmp_path)[0].problems) == 1


def test_a_head_that_claims_less_than_follows_it_does_not_add_up(tmp_path: Path) -> None:
    builder = RecordingBuilder({"schema": 1})
    builder.append(Kind.PLUGIN_WRITE, t_ns=1, size=40)
    builder.append(Kind.CONTINUATION, t_ns=1)
    builder.append(Kind.CONTINUATION, t_ns=1)
    assert chains(builder, tmp_path)[0].problems == ["chained records and their continuations do not add up"]
