# SPDX-License-Identifier: MIT
import pytest

from pydev.recording.bits import BitShadow
from pydev.recording.config import Open, field_values, known, masked
from pydev.recording.functions import FieldEntry, RegisterEntry
from pydev.recording.names import RegisterNames


def register(name: str, offset: int, width: int, **fields: tuple[int, int, str]) -> RegisterEntry:
    return RegisterEntry(name, offset, width, {f: FieldEntry(f, *where) for f, where in fields.items()})


COMMAND = register("COMMAND", 0x04, 2, bus_master=(2, 1, "rw"), parity=(6, 1, "rw"), snoop=(5, 1, "ro"))
SECONDARY = register("SECONDARY_BUS", 0x19, 1, value=(0, 8, "rw"))
CONTROL = register("CONTROL", 0x40, 2, mode=(0, 4, "rw"), start=(5, 1, "wo"), size=(8, 8, "rws"))
STATUS = register("STATUS", 0x42, 2, error=(0, 4, "rw1c"), state=(8, 4, "ro"))
ALL = (COMMAND, SECONDARY, CONTROL, STATUS)


def shadow() -> BitShadow:
    return BitShadow(ALL, RegisterNames({entry.name: entry for entry in ALL}))


def held(made: BitShadow, entry: RegisterEntry, field: str | None = None) -> int | None:
    values = made.history(entry).at(1 << 40)
    return known(field_values(values, None if field is None else entry.fields[field]))


def test_what_a_specification_resets_to_zero_is_known_and_the_rest_is_not() -> None:
    made = shadow()
    assert (held(made, COMMAND), held(made, SECONDARY)) == (0, 0)
    assert (held(made, CONTROL), held(made, STATUS)) == (None, None)
    assert held(made, CONTROL, "start") == 0  # holds nothing


def test_a_write_is_taken_by_the_fields_that_take_it_and_by_its_width_alone() -> None:
    made = shadow()
    made.write(1, 0x40, 0x7F25, (2,), "write")
    assert held(made, CONTROL) == 0x7F05  # the start bit holds nothing, bits 4, 6 and 7 are reserved
    made.write(2, 0x40, 0x03, (1,), "write")
    assert held(made, CONTROL) == 0x7F03
    changes = made.history(CONTROL).changes
    assert [(change.width, change.cause) for change in changes] == [(2, "write"), (1, "write")]


def test_read_only_bits_keep_and_written_ones_clear() -> None:
    made = shadow()
    made.read(1, 0x42, 0x0305, 4)
    made.write(2, 0x42, 0xFF04, (2,), "write")
    assert held(made, STATUS) == 0x0301
    assert known(made.history(STATUS).at(1)) == 0x0305


def test_a_read_tells_what_was_there_since_the_last_event_that_touched_it() -> None:
    made = shadow()
    made.write(1, 0x42, 0, (2,), "write")  # clears nothing
    made.read(5, 0x42, 0x0201, 4)
    history = made.history(STATUS)
    assert (known(history.initial), known(history.at(1))) == (0x0201, 0x0201)


def test_of_too_many_possibilities_the_known_bits_are_still_known() -> None:
    made = shadow()
    made.write(1, 0x41, 0x7F, (1,), "write")
    values = made.history(CONTROL).at(1)
    assert isinstance(values, frozenset)
    assert known(values) is None
    assert held(made, CONTROL, "size") == 0x7F
    wide = masked(0x5A, 0xFF, 32)
    assert isinstance(wide, Open)
    assert field_values(wide, FieldEntry("low", 0, 8)) == {0x5A}
    assert not field_values(wide, FieldEntry("high", 8, 24))
    assert field_values(wide, FieldEntry("edge", 7, 2)) == {0, 2}


def test_a_write_of_unknown_width_leaves_open_what_it_may_have_touched() -> None:
    made = shadow()
    made.write(1, 0x40, 0x7F05, (2,), "write")
    made.write(2, 0x40, 0x06, (1, 2), "trace")
    assert held(made, CONTROL, "mode") == 6
    assert held(made, CONTROL, "size") is None
    assert made.history(CONTROL).changes[-1].width is None
    made.read(3, 0x40, 0x7F06, 2)
    assert [known(change.after) for change in made.history(CONTROL).changes] == [0x7F05, 0x7F06]


def test_a_bit_that_reads_back_unchanged_before_it_ever_took_a_write_is_hardwired() -> None:
    made = shadow()
    made.write(1, 0x04, 0x44, (2,), "write")
    made.read(2, 0x04, 0x04, 2)
    assert made.problems == []
    assert made.hardwired == {0x04: 0x40}
    assert [known(change.after) for change in made.history(COMMAND).changes] == [0x04]


def test_a_bit_that_took_a_write_once_is_not_hardwired_later() -> None:
    made = shadow()
    made.write(1, 0x04, 0x40, (2,), "write")
    made.read(2, 0x04, 0x40, 2)
    made.write(3, 0x04, 0x00, (2,), "write")
    made.read(4, 0x04, 0x40, 2)
    assert made.problems == ["a read of COMMAND (@0x4) shows 0x40, which no recorded write has left there"]
    assert made.history(COMMAND).changes[-1].cause == "read"


@pytest.mark.parametrize(("offset", "value"), [(0x04, 0x04), (0x19, 7)])
def test_what_every_bridge_has_is_never_taken_for_hardwired(offset: int, value: int) -> None:
    made = shadow()
    made.write(1, offset, value, (1,), "write")
    made.read(2, offset, 0, 1)
    assert len(made.problems) == 1


def test_a_read_that_contradicts_what_was_read_before_is_a_missing_write() -> None:
    made = shadow()
    made.write(1, 0x40, 0x0105, (2,), "write")
    made.read(2, 0x40, 0x0105, 4)
    made.read(3, 0x40, 0x0107, 4)
    assert len(made.problems) == 1
    assert "CONTROL (@0x40)" in made.problems[0]
    assert held(made, CONTROL) == 0x0107


def test_status_that_a_device_changes_by_itself_is_no_missing_write() -> None:
    made = shadow()
    made.read(1, 0x42, 0x0000, 4)
    made.read(2, 0x42, 0x0A03, 4)
    assert made.problems == []
    assert [(known(c.after), c.cause) for c in made.history(STATUS).changes] == [(0x0A03, "read")]


def test_a_reserved_bit_is_zero_until_a_read_shows_otherwise_and_then_always_was() -> None:
    made = shadow()
    made.write(1, 0x40, 0x0105, (2,), "write")
    assert held(made, CONTROL) == 0x0105
    made.read(2, 0x40, 0x0185, 4)
    assert made.problems == []
    assert [known(change.after) for change in made.history(CONTROL).changes] == [0x0185]


def test_after_a_reset_only_what_the_specification_says_is_known() -> None:
    made = shadow()
    made.write(1, 0x19, 7, (1,), "write")
    made.write(1, 0x40, 0x0105, (2,), "write")
    made.reset(5, "bus reset")
    assert held(made, SECONDARY) == 0
    assert held(made, CONTROL) is None
    assert made.history(SECONDARY).changes[-1].cause == "bus reset"
    made.read(6, 0x40, 0x0105, 4)  # this device keeps it
    assert made.problems == []


def test_a_reset_changes_nothing_that_nobody_had_changed() -> None:
    made = shadow()
    made.read(1, 0x40, 0x0105, 4)
    made.reset(5, "machine reset")
    assert held(made, CONTROL) == 0x0105


def test_changes_are_in_the_order_of_their_events_even_where_a_reads_clock_is_ahead() -> None:
    made = shadow()
    made.read(100, 0x42, 0, 4)
    made.read(150, 0x42, 0x0003, 4)
    made.write(140, 0x42, 0x0003, (2,), "write")
    assert [change.t_ns for change in made.history(STATUS).changes] == [140, 140]
