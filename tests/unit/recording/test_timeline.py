# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from pydev.errors import RecordingError
from pydev.recording.config import known
from pydev.recording.format import Kind, Mark, ResetKind
from pydev.recording.timeline import Timeline, load_timeline
from pydev.recording.writer import RecordingBuilder
from pydev.testkit.story import (
    DN1,
    EP0,
    EP1,
    FROZEN,
    JUMP,
    RP1,
    SHUTDOWN,
    SWEEP,
    UP1,
    UPDATED,
    Story,
    at,
    offset,
)
from pydev.testkit.story_chain import chain


def timeline(story: Story, tmp_path: Path) -> Timeline:
    return load_timeline(story.save(tmp_path / "r.lus"))


def test_every_phase_begins_where_its_event_is(tmp_path: Path) -> None:
    found = {phase.name: phase for phase in timeline(Story(), tmp_path).phases}
    assert list(found) == [
        "boot", "normal", "prepared", "frozen", "shutdown", "jump", "enumeration", "probe", "updated", "finished",
    ]  # fmt: skip
    assert found["frozen"].t_ns == at(FROZEN)
    assert found["enumeration"].t_ns == at(SWEEP)
    assert found["updated"].t_ns == at(UPDATED)
    assert (found["jump"].t_ns, found["jump"].source) == (at(JUMP), "machine_kexec entered")
    assert found["jump"].uncertainty_ns < 10_000


def test_without_the_plugin_the_jump_is_between_the_last_outgoing_write_and_the_sweep(tmp_path: Path) -> None:
    found = timeline(Story(plugin=False), tmp_path)
    jump = found.phase("jump")
    assert jump is not None
    assert at(SHUTDOWN + 4) < jump.t_ns < at(SHUTDOWN + 6)
    assert jump.t_ns + jump.uncertainty_ns >= at(SWEEP)
    assert [phase.name for phase in found.phases] == [p.name for p in timeline(Story(), tmp_path).phases]


def test_each_update_of_a_chain_has_its_own_jump(tmp_path: Path) -> None:
    found = timeline(chain(3), tmp_path)
    jumps = [found.phase("jump", update) for update in range(3)]
    assert len({jump.t_ns for jump in jumps if jump is not None}) == 3
    assert {jump.source for jump in jumps if jump is not None} == {"machine_kexec entered"}


def test_the_probe_begins_with_the_first_write_that_a_driver_made_after_the_sweep(tmp_path: Path) -> None:
    story = Story()
    probe = ("pci_enable_device", "pcie_portdrv_probe", "pci_device_probe", "really_probe")
    story.write(140, RP1, 0x04, 0x107, stack=probe)
    story.write(215, RP1, 0x04, 0x107, stack=("pci_setup_device",))
    story.write(221, RP1, 0x04, 0x107, stack=probe)
    found = timeline(story, tmp_path).phase("probe")
    assert found is not None
    assert (found.t_ns, found.source) == (at(221) - 90_000, "first write under pci_device_probe")


def test_realizing_is_not_booting(tmp_path: Path) -> None:
    boot = timeline(Story(), tmp_path).phase("boot")
    assert boot is not None
    assert boot.t_ns == at(10)


def test_a_function_is_found_below_its_ports_secondary_bus(tmp_path: Path) -> None:
    found = timeline(Story(), tmp_path)
    bdfs = [found.bdf_at(f, at(150)) for f in (EP0, EP1, RP1, UP1, DN1)]
    assert bdfs == [0x300, 0x400, 0x08, 0x100, 0x200]
    assert found.bdf_at(EP0, at(6)) is None
    function = found.function_at(0x300, at(150))
    assert function is not None
    assert function.index == EP0


def test_a_changed_bus_number_moves_what_is_below(tmp_path: Path) -> None:
    story = Story()
    story.write(170, DN1, 0x19, 9, 1)
    assert timeline(story, tmp_path).bdf_at(EP0, at(171)) == 0x900


def test_all_witnesses_of_a_clean_story_agree(tmp_path: Path) -> None:
    found = timeline(Story(), tmp_path)
    assert found.structural_problems() == []
    assert [one.problems for one in found.agreement.all()] == [[]] * 6
    assert all(lead == 80_000 for one in found.agreement.all() for lead in one.leads_ns)


def test_writes_inside_a_reset_sequence_need_no_trace_line(tmp_path: Path) -> None:
    story = Story()
    story.add(140, Kind.IRQ_SETUP, function=EP1, region=2)
    story.server(140.1, EP1, 0x04, 0, 2, after=None)
    story.add(140.2, Kind.RESET, function=EP1, value=1)
    story.server(140.3, EP1, 0x10, 0, 4, after=None)
    assert timeline(story, tmp_path).agreement[EP1].problems == []


def test_a_bus_reset_of_a_function_without_interrupts_has_nothing_to_disable(tmp_path: Path) -> None:
    story = Story()
    story.server(140.1, EP1, 0x04, 0, 2, after=None)
    story.add(140.2, Kind.RESET, function=EP1, value=1)
    story.reconnect()
    assert timeline(story, tmp_path).agreement[EP1].problems == []


def test_a_write_long_before_such_a_reset_is_the_guests(tmp_path: Path) -> None:
    story = Story()
    story.server(100.1, EP1, 0x04, 0, 2, after=None)
    story.add(140.2, Kind.RESET, function=EP1, value=1)
    story.reconnect()
    assert len(timeline(story, tmp_path).agreement[EP1].problems) == 1


def test_a_dump_tells_the_width_of_its_reads_and_a_lone_read_does_not(tmp_path: Path) -> None:
    story = Story()
    assert known_devctl2(timeline(story, tmp_path)) == 0x20
    story.remove_tag("dump")
    story.trace(FROZEN + 0.1, DN1, offset(DN1, "DEVCTL2"), 0x20, write=False)
    assert known_devctl2(timeline(story, tmp_path)) is None


def test_a_read_that_was_repeated_before_a_reset_counts_again_after_it(tmp_path: Path) -> None:
    for has_plugin in (True, False):
        story = Story(plugin=has_plugin)
        for ms in (205, 206, 228, 229):
            story.trace(ms, DN1, 0x19, 3, write=False)
        assert timeline(story, tmp_path).structural_problems() == []
        story.write(225, UP1, 0x3E, 0x42)
        story.write(227, UP1, 0x3E, 0x02)
        problems = timeline(story, tmp_path).structural_problems()
        assert any("a read of SECONDARY_BUS (@0x19) shows 0x3" in problem for problem in problems)


def known_devctl2(found: Timeline) -> int | None:
    history = found.history(DN1, "DEVCTL2")
    assert history is not None
    return known(history.at(at(FROZEN + 1)))


def test_a_panic_ends_a_blackout(tmp_path: Path) -> None:
    story = Story()
    story.remove(lambda e: e.members is not None and e.t_ns > at(FROZEN + 1))
    story.console(230, "[    0.900000] Kernel panic - not syncing: x")
    blackout = timeline(story, tmp_path).blackouts[0]
    assert (blackout.end_ns, blackout.is_over, blackout.is_finished) == (at(230), True, False)


def test_a_slots_reset_shortly_before_the_machines_does_not_end_the_guest(tmp_path: Path) -> None:
    story = Story()
    story.add(240, Kind.RESET, function=EP0, value=int(ResetKind.DEVICE))
    story.mark(270, Mark.MACHINE_RESET)
    assert timeline(story, tmp_path).guest_end_ns == at(270)


def test_a_reset_of_every_endpoint_is_the_machines_and_ends_the_guest(tmp_path: Path) -> None:
    story = Story()
    for endpoint in (EP0, EP1):
        story.add(240, Kind.RESET, function=endpoint, value=int(ResetKind.DEVICE))
    story.mark(270, Mark.MACHINE_RESET)
    assert timeline(story, tmp_path).guest_end_ns < at(240)


def test_the_same_writes_without_a_reset_are_reported(tmp_path: Path) -> None:
    story = Story()
    story.add(140, Kind.IRQ_SETUP, function=EP1, region=2)
    story.server(140.1, EP1, 0x04, 0, 2, after=None)
    story.server(140.3, EP1, 0x10, 0, 4, after=None)
    assert len(timeline(story, tmp_path).agreement[EP1].problems) == 2


def test_two_missing_records_are_each_named(tmp_path: Path) -> None:
    story = Story()
    gone = [e for e in story.tagged("sizing") if e.kind == Kind.REGION_WRITE and e.fields["function"] == EP0]
    for event in gone[:2]:
        story.events.remove(event)
    problems = timeline(story, tmp_path).agreement[EP0].problems
    assert len(problems) == 2
    assert all("did not record" in problem.message for problem in problems)


def test_each_element_of_a_register_array_is_a_register(tmp_path: Path) -> None:
    story = Story()
    array = {"name": "ENTRY", "offset": 0xF0, "width": 4, "count": 3, "stride": 4, "fields": []}
    story.header["functions"][UP1]["registers"].append(array)
    story.write(140, UP1, 0xF4, 5, 4)
    found = timeline(story, tmp_path)
    assert [name for name in found.functions[UP1].registers if name.startswith("ENTRY")] == [
        "ENTRY[0]", "ENTRY[1]", "ENTRY[2]",
    ]  # fmt: skip
    assert found.history(UP1, "ENTRY[1]") is not None
    assert found.history(UP1, "ENTRY") is None


@pytest.mark.parametrize(
    "functions",
    [
        [{"index": 1, "id": "a", "role": "endpoint", "devfn": 0}],
        [{"index": 0, "id": "a", "role": "endpoint"}],
        [{"index": 0, "id": "a", "role": "endpoint", "devfn": 0, "parent": 0}],
        [{"index": 0, "id": "a", "role": "endpoint", "devfn": 0, "parent": 7}],
        [{"index": 0, "id": "a", "role": "endpoint", "devfn": 0, "config": "zz"}],
        ["nonsense"],
        7,
    ],
)
def test_a_function_table_that_makes_no_tree_is_a_recording_error(tmp_path: Path, functions: object) -> None:
    RecordingBuilder({"schema": 1, "functions": functions}).write(tmp_path / "r.lus")
    with pytest.raises(RecordingError):
        load_timeline(tmp_path / "r.lus")
