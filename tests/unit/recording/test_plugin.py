# SPDX-License-Identifier: MIT
from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.errors import RecordingError
from pydev.recording.config import known
from pydev.recording.format import Kind, Mark, PluginWay
from pydev.recording.plugin import PluginWrite
from pydev.recording.timeline import Timeline, load_timeline
from pydev.recording.writer import RecordingBuilder
from pydev.testkit.story import DN1, EP0, RP1, SWEEP, UP1, Story, at, offset


def timeline(story: Story, tmp_path: Path) -> Timeline:
    return load_timeline(story.save(tmp_path / "r.lus"))


def write_at(found: Timeline, ms: float) -> PluginWrite:
    """The plugin's write nearest to a moment of the story."""
    return min(found.plugin_writes(), key=lambda write: abs(write.t_ns - at(ms)))


def test_a_plugins_write_has_all_that_the_instruction_shows(tmp_path: Path) -> None:
    story = Story()
    story.write(173, UP1, 0x04, 0x103, by="pci_clear_master")
    write = write_at(timeline(story, tmp_path), 173)
    assert (write.t_ns, write.function, write.bdf) == (at(173) - 90_000, UP1, 0x100)
    assert (write.offset, write.width, write.value) == (4, 2, 0x103)
    assert (write.cpu, write.way) == (0, PluginWay.PORTS)
    assert write.attribution is not None
    assert (write.attribution.kernel, write.attribution.function) == ("outgoing", "pci_clear_master")
    assert (write.attribution.cpu, write.attribution.pc) == (write.cpu, write.pc)


def test_writes_are_given_by_function_and_all_together_in_the_order_of_their_slots(tmp_path: Path) -> None:
    found = timeline(Story(), tmp_path)
    everything = found.plugin_writes()
    assert [write.slot for write in everything] == sorted(write.slot for write in everything)
    parts = [write for function in range(6) for write in found.plugin_writes(function)]
    assert sorted(parts, key=lambda write: write.slot) == list(everything)
    assert found.plugin_writes(99) == ()
    assert found.has_plugin
    assert not timeline(Story(plugin=False), tmp_path).has_plugin


def test_a_write_reaches_the_function_that_the_bus_numbers_lead_to_at_that_moment(tmp_path: Path) -> None:
    story = Story()
    story.write(210, DN1, 0x19, 9, 1)
    story.write(212, DN1, 0x1A, 9, 1)
    story.plugin(211, EP0, 0x04, 0x106, 2)  # still to 03:00.0, which nobody is any more
    found = timeline(story, tmp_path)
    lost = write_at(found, 211)
    assert (lost.bdf, lost.function) == (0x300, None)
    assert write_at(found, 209).function != lost.function


def test_below_a_bridge_whose_window_is_closed_nobody_is_reached(tmp_path: Path) -> None:
    story = Story()
    story.write(210, RP1, 0x18, 0, 4)
    story.plugin(211, UP1, 0x04, 0x107, 2)
    assert write_at(timeline(story, tmp_path), 211).function is None


def test_a_bus_reset_takes_the_numbers_below_and_remembers_who_did_it(tmp_path: Path) -> None:
    story = Story()
    story.write(225, UP1, 0x3E, 0x42, by="pci_reset_secondary_bus")
    story.write(226, UP1, 0x3E, 0x42, by="pci_reset_secondary_bus")
    story.write(227, UP1, 0x3E, 0x02, by="pci_reset_secondary_bus")
    found = timeline(story, tmp_path)
    ((when, author),) = found.plugin.bus_resets[UP1]
    assert when == at(225) - 90_000
    assert author is not None
    assert author.function == "pci_reset_secondary_bus"
    history = found.history(DN1, "SECONDARY_BUS")
    assert history is not None
    assert (known(history.changes[-1].after), history.changes[-1].cause) == (0, "bus reset")
    assert history.changes[-1].writer == author
    assert found.bdf_at(EP0, at(228)) is None


def test_below_a_slot_without_power_nobody_answers(tmp_path: Path) -> None:
    story = Story()
    control = offset(DN1, "SLTCTL")
    story.write(222, DN1, control, 0x400)
    story.plugin(223, EP0, 0x04, 0xFBFF, 2)
    story.write(224, DN1, control, 0)
    story.write(225, EP0, 0x04, 0x106)
    story.reconnect()
    found = timeline(story, tmp_path)
    assert (write_at(found, 223).function, write_at(found, 223).is_dark) == (None, True)
    assert (write_at(found, 225).function, write_at(found, 225).is_dark) == (EP0, False)
    assert [problem for one in found.agreement.all() for problem in one.problems] == []


def test_a_machine_reset_takes_every_number(tmp_path: Path) -> None:
    story = Story()
    story.mark(205, Mark.MACHINE_RESET)
    story.plugin(206, UP1, 0x04, 0x107, 2)
    assert write_at(timeline(story, tmp_path), 206).function is None


@pytest.mark.parametrize(
    ("fields", "is_sound"),
    [
        ({}, True),
        ({"error": 0}, False),
        ({"error": 3}, False),
        ({"error": 8}, False),
        ({"address": 5}, False),  # across its alignment
        ({"address": 0x1000}, False),
        ({"value": 0x10000}, False),
        ({"aux": 7 << 16}, False),
        ({"aux": 3}, True),  # another processor
    ],
)
def test_a_record_that_no_instruction_can_have_made_is_a_problem(
    tmp_path: Path, fields: dict[str, int], is_sound: bool
) -> None:
    story = Story()
    story.write(173, UP1, 0x04, 0x103)
    event = next(e for e in story.events if e.kind == Kind.PLUGIN_WRITE and e.t_ns == at(173) - 90_000)
    event.fields |= fields
    found = timeline(story, tmp_path)
    assert write_at(found, 173).is_sound is is_sound
    assert bool(found.plugin.problems) is not is_sound


def test_a_processor_whose_stamps_go_backwards_is_a_problem_and_two_processors_are_none(
    tmp_path: Path,
) -> None:
    for cpu, count in ((0, 1), (1, 0)):
        story = Story()
        story.plugin(190, UP1, 0x04, 0x107, 2)
        event = story.events[-1]
        event.slot_ns = at(230)
        event.fields["aux"] = cpu
        assert len(timeline(story, tmp_path).plugin.problems) == count


Spoil = Callable[[RecordingBuilder], None]


def recording(spoil: Spoil, tmp_path: Path) -> Timeline:
    """Two attributed writes and a jump; `spoil` adds what is wrong."""
    port = {"id": "rp1", "role": "root_port", "parent": None, "devfn": 8, "index": 0, "bus": 0}
    builder = RecordingBuilder({"schema": 1, "functions": [port]})
    fields = {"region": 8, "address": 4, "error": 2, "value": 7}
    builder.append_chain(Kind.PLUGIN_WRITE, bytes(16), t_ns=1, **fields)
    builder.append_chain(Kind.PLUGIN_JUMP, bytes(16), t_ns=2)
    stack = b'{"id":4,"kernel":"outgoing","frames":[["f",8,null],["g",0,"m"]],"note":"cut"}'
    builder.append_text(Kind.STACK, stack, t_ns=3)
    builder.append(Kind.ATTRIBUTION, t_ns=3, value=0, extra=4)
    builder.append(Kind.ATTRIBUTION, t_ns=3, value=2, extra=4)
    spoil(builder)
    builder.write(tmp_path / "r.lus")
    return load_timeline(tmp_path / "r.lus")


def test_an_attribution_joins_a_slot_to_a_stack(tmp_path: Path) -> None:
    found = recording(lambda builder: None, tmp_path)
    assert found.plugin.problems == ()
    authors = [w.attribution for w in found.plugin.writes] + [j.attribution for j in found.plugin.jumps]
    assert [(a.frames, a.note) for a in authors if a is not None] == [(("f", "g [m]"), "cut")] * 2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda b: b.append(Kind.ATTRIBUTION, t_ns=4, value=0, extra=4), "is attributed twice"),
        (lambda b: b.append(Kind.ATTRIBUTION, t_ns=4, value=1, extra=4), "refers to no write"),
        (lambda b: b.append(Kind.ATTRIBUTION, t_ns=4, value=0, extra=5), "refers to no STACK record"),
        (lambda b: b.append_text(Kind.STACK, b"{", t_ns=4), "cannot be read"),
        (lambda b: b.append_text(Kind.STACK, b'{"id":1,"kernel":2,"frames":[]}', t_ns=4), "cannot be read"),
        (
            lambda b: b.append_text(Kind.STACK, b'{"id":4,"kernel":"x","frames":[]}', t_ns=4),
            "two STACK records of id 4",
        ),
    ],
)
def test_an_attribution_that_joins_nothing_is_a_problem(tmp_path: Path, spoil: Spoil, words: str) -> None:
    (problem,) = recording(spoil, tmp_path).plugin.problems
    assert words in problem


def test_a_header_that_makes_no_topology_cannot_say_where_writes_went(tmp_path: Path) -> None:
    story = Story()
    story.header["functions"][RP1]["role"] = "teapot"
    with pytest.raises(RecordingError, match="make no topology"):
        timeline(story, tmp_path)


def test_the_history_of_a_bridge_names_the_author_of_each_change(tmp_path: Path) -> None:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "LNKCTL"), 0x40, by="pcie_aspm_configure_common_clock")
    history = timeline(story, tmp_path).history(DN1, "LNKCTL")
    assert history is not None
    change = history.changes[-1]
    assert (change.width, change.cause, known(change.after)) == (2, "write", 0x40)
    assert change.writer is not None
    assert change.writer.function == "pcie_aspm_configure_common_clock"


def test_every_register_that_the_header_declares_has_a_history(tmp_path: Path) -> None:
    for story in (Story(), Story(plugin=False)):
        found = timeline(story, tmp_path)
        for function in found.functions:
            for name in function.registers:
                assert found.history(function.index, name) is not None
        for name, value, size in (("MEMORY_BASE", 0xFE00, 2), ("INTERRUPT_LINE", 11, 1)):
            story.write(140, UP1, offset(UP1, name), value, size)
            history = timeline(story, tmp_path).history(UP1, name)
            assert history is not None
            assert known(history.at(at(141))) == value
