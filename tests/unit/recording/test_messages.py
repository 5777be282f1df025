# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from pydev.recording.chains import Chains
from pydev.recording.event_index import EventIndex
from pydev.recording.format import Flag, Kind
from pydev.recording.messages import Text, channel_problems, parse_agent_line, texts
from pydev.recording.reader import read
from pydev.recording.writer import RecordingBuilder
from pydev.testkit.story import agent_line


def line(raw: bytes) -> Text:
    return Text(5, Kind.AGENT, False, raw)


def lines(path: Path) -> tuple[list[Text], list[str]]:
    index = EventIndex(read(path))
    chains = Chains(index)
    return texts(index, chains), chains.problems


@pytest.mark.parametrize("size", [0, 1, 39, 40, 41, 80, 1000])
def test_a_text_of_any_length_survives_its_chain(tmp_path: Path, size: int) -> None:
    builder = RecordingBuilder({"schema": 1})
    text = bytes(range(1, 251)) * 5
    builder.append_text(Kind.CONSOLE, b"before", t_ns=1)
    builder.append_text(Kind.AGENT, text[:size], t_ns=2, flags=Flag.TO_GUEST)
    builder.append_text(Kind.CONSOLE, b"after", t_ns=3)
    builder.write(tmp_path / "r.lus")
    found, problems = lines(tmp_path / "r.lus")
    assert problems == []
    assert [t.raw for t in found] == [b"before", text[:size], b"after"]
    assert found[1].to_guest


def test_a_chain_that_is_cut_short_is_a_problem(tmp_path: Path) -> None:
    builder = RecordingBuilder({"schema": 1})
    builder.append(Kind.CONSOLE, t_ns=1, size=100)
    builder.append(Kind.CONTINUATION, t_ns=1)
    builder.write(tmp_path / "r.lus")
    found, problems = lines(tmp_path / "r.lus")
    assert found == []
    assert len(problems) == 2


def test_an_agent_line_is_believed_only_with_its_checksum() -> None:
    raw = agent_line({"seq": 1, "event": "hello"})
    assert parse_agent_line(line(raw)).members["event"] == "hello"
    assert parse_agent_line(line(raw + b"\r\n")).damage is None
    assert parse_agent_line(line(raw.replace(b"hello", b"hallo"))).damage == "its CRC is wrong"
    assert parse_agent_line(line(b"garbage")).damage == "it is not JSON"
    assert parse_agent_line(line(b"garbage")).members == {}
    assert parse_agent_line(line(agent_line({"event": "hello"}))).damage == "it has no sequence number"


@pytest.mark.parametrize(
    ("numbers", "count"), [([1, 2, 3], 0), ([1, 2, 1, 2], 0), ([2, 3], 1), ([1, 3], 1), ([1, 2, 2], 1)]
)
def test_a_number_left_out_is_a_missing_line_and_one_is_a_new_boot(numbers: list[int], count: int) -> None:
    messages = [parse_agent_line(line(agent_line({"seq": number}))) for number in numbers]
    assert len(list(channel_problems(messages))) == count
