# SPDX-License-Identifier: MIT
import pytest

from pydev.recording.byte_access import access_of
from pydev.recording.config import ByteLog, ServerShadow, known, possible_widths
from pydev.recording.functions import FieldEntry, RegisterEntry
from pydev.recording.traced import TraceAccess, TraceShadow, trace_shadow

SECONDARY = RegisterEntry("SECONDARY_BUS", 0x19, 1, {})
COMMAND = RegisterEntry("COMMAND", 4, 2, {"bus_master": FieldEntry("bus_master", 2, 1)})


def shadow(*accesses: tuple[str, int, int]) -> TraceShadow:
    made = TraceShadow()
    for t_ns, (verb, offset, value) in enumerate(accesses):
        made.access(TraceAccess(t_ns, verb == "w", offset, value))
    return made


def secondary(made: TraceShadow) -> set[int]:
    return set(made.log.history(SECONDARY).at(100))


@pytest.mark.parametrize(
    ("offset", "value", "widths"),
    [
        (0x18, 0x30201, (4,)),
        (0x18, 0x201, (2, 4)),
        (0x18, 0x1, (1, 2, 4)),
        (0x1A, 0x1, (1, 2)),
        (0x19, 0x1, (1,)),
        (0x19, 0x201, (2,)),  # never seen; the magnitude is believed
    ],
)
def test_alignment_and_magnitude_bound_a_width(offset: int, value: int, widths: tuple[int, ...]) -> None:
    assert possible_widths(offset, value) == widths


def test_a_dword_write_sets_every_bus_number() -> None:
    assert secondary(shadow(("w", 0x18, 0x00030201))) == {2}


def test_a_small_write_at_18h_leaves_the_secondary_bus_open() -> None:
    assert secondary(shadow(("w", 0x19, 5), ("w", 0x18, 1))) == {5, 0}


def test_the_read_just_before_decides_the_width_of_a_read_modify_write() -> None:
    assert secondary(shadow(("w", 0x18, 0x00030201), ("r", 0x18, 0x00030201), ("w", 0x18, 0))) == {0}


def test_a_read_of_another_offset_decides_nothing() -> None:
    assert secondary(shadow(("w", 0x18, 0x00030201), ("r", 0x1C, 0x00030201), ("w", 0x18, 0))) == {0, 2}


def test_a_later_read_settles_the_past() -> None:
    made = shadow(("w", 0x19, 5), ("w", 0x18, 1), ("r", 0x19, 5))
    changes = made.log.history(SECONDARY).changes
    assert [set(change.after) for change in changes] == [{5}, {5}]


def test_a_read_that_contradicts_every_write_is_a_problem_and_is_followed() -> None:
    made = shadow(("w", 0x19, 5), ("r", 0x19, 6))
    assert made.problems == ["a read of @0x19 shows 0x6 where the trace derives 0x5"]
    assert secondary(made) == {6}
    assert made.log.history(SECONDARY).changes[-1].cause == "read"


def test_read_only_bits_of_a_bridges_command_are_no_contradiction() -> None:
    assert shadow(("w", 4, 0xFFFF), ("r", 4, 0x0507)).problems == []
    assert len(shadow(("w", 4, 0xFFFF), ("r", 4, 0x0503)).problems) == 1


DEVCTL2 = RegisterEntry("DEVCTL2", 0xB8, 2, {"ari_forwarding": FieldEntry("ari_forwarding", 5, 1)})


def capability(*accesses: tuple[str, int, int] | tuple[str, int, int, int]) -> TraceShadow:
    made = TraceShadow(range(0xB8, 0xBA))
    for t_ns, (verb, offset, value, *width) in enumerate(accesses):
        made.access(TraceAccess(t_ns, verb == "w", offset, value, width[0] if width else None))
    return made


def held(made: TraceShadow) -> int | None:
    return known(made.log.history(DEVCTL2).at(100))


def test_a_capabilitys_register_is_not_known_until_it_is_read() -> None:
    assert held(capability()) is None
    assert held(capability(("r", 0xB8, 0x20))) is None  # by a byte, as far as anybody can tell
    assert held(capability(("r", 0xB8, 0x20, 4))) == 0x20
    assert held(capability(("r", 0xB8, 0x420))) == 0x420


def test_a_read_before_any_write_tells_what_it_held_at_power_on() -> None:
    made = capability(("r", 0xB8, 0x20, 4), ("w", 0xB8, 0), ("r", 0xB8, 0, 4))
    history = made.log.history(DEVCTL2)
    assert (known(history.initial), held(made)) == (0x20, 0)


def test_a_write_that_a_read_only_bit_did_not_take_never_was() -> None:
    made = capability(("r", 0xB8, 0x0F, 4), ("w", 0xB8, 0x10F), ("r", 0xB8, 0x0F, 4))
    assert [known(change.after) for change in made.log.history(DEVCTL2).changes] == [0x0F]
    assert made.problems == []


def test_a_value_that_was_read_back_once_is_not_explained_away_by_a_later_read() -> None:
    made = capability(("r", 0xB8, 0, 4), ("w", 0xB8, 0x20), ("r", 0xB8, 0x20, 4), ("r", 0xB8, 0, 4))
    changes = made.log.history(DEVCTL2).changes
    assert [known(change.after) for change in changes] == [0x20, 0]
    assert changes[-1].cause == "read"


def test_bits_that_neither_the_write_nor_its_past_had_are_a_change_that_nobody_wrote() -> None:
    made = capability(("r", 0xB8, 0, 4), ("w", 0xB8, 0x20), ("r", 0xB8, 0x40, 4))
    assert made.log.history(DEVCTL2).changes[-1].cause == "read"


def test_a_read_modify_write_is_as_wide_as_its_read_may_be() -> None:
    made = capability(("r", 0xB8, 0x420), ("w", 0xB8, 0))
    assert held(made) == 0


STATUS = RegisterEntry(
    "STATUS", 0x40, 2, {"error": FieldEntry("error", 0, 4, "rw1c"), "state": FieldEntry("state", 8, 8, "ro")}
)


def test_without_widths_too_written_ones_clear_and_read_only_bits_keep() -> None:
    made = TraceShadow(range(0x40, 0x42), access_of([STATUS]))
    for t_ns, (verb, value) in enumerate((("r", 0x0305), ("w", 0xFF04), ("w", 0x0400))):
        made.access(TraceAccess(t_ns, verb == "w", 0x40, value))
    assert [known(change.after) for change in made.history(STATUS).changes] == [0x0301, 0x0301]
    assert made.problems == []


def test_a_reset_makes_a_written_register_unknown_again() -> None:
    made = trace_shadow([TraceAccess(1, True, 0xB8, 0x420)], [(5, "bus reset")], range(0xB8, 0xBA))
    assert known(made.log.history(DEVCTL2).at(2)) == 0x420
    assert known(made.log.history(DEVCTL2).at(6)) is None


def test_setting_the_bus_reset_bit_is_noticed_once() -> None:
    made = shadow(("w", 0x3E, 0x42), ("w", 0x3E, 0x42), ("w", 0x3E, 2), ("w", 0x3E, 0x42))
    assert made.bus_resets == [0, 3]


def test_a_reset_from_above_returns_a_bridge_to_power_on() -> None:
    made = trace_shadow([TraceAccess(1, True, 0x19, 5), TraceAccess(9, False, 0x19, 0)], [(5, "bus reset")])
    assert made.problems == []
    assert known(made.log.history(SECONDARY).at(4)) == 5
    assert known(made.log.history(SECONDARY).at(5)) == 0


def test_an_endpoints_register_follows_what_the_server_held_afterwards() -> None:
    made = ServerShadow(bytes(4096))
    made.event(1, 4, 2, 0, 0x106, by_guest=True)
    made.event(2, 4, 4, 0x106, 0x00100102, by_guest=False)
    history = made.log.history(COMMAND)
    assert [(known(c.before), known(c.after), c.width, c.cause) for c in history.changes] == [
        (0, 0x106, 2, "write"),
        (0x106, 0x102, None, "device"),
    ]
    assert made.problems == []


def test_a_value_before_that_nobody_wrote_is_a_missing_write() -> None:
    made = ServerShadow(bytes(4096))
    made.event(1, 4, 2, 7, 3, by_guest=True)
    assert made.problems == ["config write missing: @0x4 held 0x7 where the record derives 0x0"]


def test_a_history_answers_for_the_very_moment_of_a_change() -> None:
    log = ByteLog(None)
    log.put(10, 0x19, [frozenset((3,))], None, "trace")
    history = log.history(SECONDARY)
    assert (known(history.at(9)), known(history.at(10))) == (0, 3)
    assert len(history.between(9, 10)) == 1
    assert len(history.between(10, 11)) == 0
