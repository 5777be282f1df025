# SPDX-License-Identifier: MIT
"""Where a preserved endpoint answers, and what is in the way: BAR-SIZING, BAR-FINAL, BRIDGE-WINDOWS, VGA-FORWARDING."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import Outcome, Result
from pydev.continuity.addresses import MEMORY as MEMORY_KIND
from pydev.continuity.addresses import bars_in_use, window
from pydev.continuity.evidence import Evidence
from pydev.recording.timeline import load_timeline
from pydev.testkit.faults import planted_story
from pydev.testkit.story import DN1, EP0, EP1, RP1, RP2, SWEEP, UP1, Story, at
from pydev.testkit.story_addresses import (
    BAR0,
    BRIDGE_CONTROL,
    CLOSED,
    COMMAND,
    EP0_ADDRESS,
    EP0_COMMAND,
    MEMORY_WINDOW,
    PORT_COMMAND,
    PREF_BASE_UPPER32,
    PREF_WINDOW,
    WINDOW,
    shut_decode,
    size_bars,
)

Results = Callable[[Story], dict[str, Result]]
T = SWEEP + 5


def result(answers: dict[str, Result], rule: str) -> Result:
    return answers[rule]


def causes(answers: dict[str, Result]) -> dict[str, str | None]:
    """Every rule that fails, with its cause."""
    return {rule: answer.caused_by for rule, answer in answers.items() if answer.outcome is Outcome.FAIL}


def messages(answers: dict[str, Result], rule: str) -> list[str]:
    return [finding.message for finding in result(answers, rule).findings]


# ----------------------------------------------------------------------- BAR-SIZING


def test_sizing_fails_its_rule_and_no_other_and_says_for_how_long(results: Results) -> None:
    answers = results(planted_story("BAR-SIZING"))
    assert causes(answers) == {"BAR-SIZING": None}
    assert messages(answers, "BAR-SIZING") == [
        "COMMAND.memory_space 1 -> 0 at 03:00.0 in enumeration, for 0.600 ms",
        "BAR0 0xfe000000 -> 0xffffc000 at 03:00.0 in enumeration, for 0.200 ms",
    ]
    assert {finding.function for finding in result(answers, "BAR-SIZING").findings} == {"pci_setup_device"}


def decode_alone(story: Story) -> None:
    story.write(T, EP0, COMMAND, EP0_COMMAND & ~2)
    story.write(T + 0.01, EP0, COMMAND, EP0_COMMAND)
    story.reconnect()


def bar_alone_with_decode_on(story: Story) -> None:
    story.write(T, EP0, BAR0, 0xFFFFFFFF, 4, after=0xFFFFC000)
    story.write(T + 0.01, EP0, BAR0, EP0_ADDRESS, 4)
    story.reconnect()


def sized_by_bytes(story: Story) -> None:
    story.write(T, EP0, BAR0 + 3, 0xFF, 1)
    story.write(T + 0.2, EP0, BAR0 + 3, 0xFE, 1)
    story.reconnect()


def by_the_outgoing_kernel(story: Story) -> None:
    size_bars(story, 172)


@pytest.mark.parametrize(
    "spoil", [decode_alone, bar_alone_with_decode_on, sized_by_bytes, by_the_outgoing_kernel]
)
def test_each_part_of_sizing_and_each_way_to_do_it_is_found(
    results: Results, spoil: Callable[[Story], None]
) -> None:
    story = Story()
    spoil(story)
    assert causes(results(story)) == {"BAR-SIZING": None}


def test_a_bar_that_moves_for_good_is_a_consequence(results: Results) -> None:
    assert causes(results(planted_story("BAR-FINAL"))) == {"BAR-FINAL": None, "BAR-SIZING": "BAR-FINAL"}


def wide_story() -> Story:
    """BAR 0 is 64 bits wide, and its upper half 0."""
    story = Story()
    story.header["functions"][EP0]["config"] = _with_flags(story.header["functions"][EP0]["config"], 4)
    for event in story.events:
        is_bar = event.fields.get("function") == EP0 and event.fields.get("address") == BAR0
        if is_bar and "aux" in event.fields:
            event.fields["aux"] |= 4
    story.reconnect()
    return story


def _with_flags(config: str, flags: int) -> str:
    image = bytearray.fromhex(config)
    image[BAR0] |= flags
    return image.hex()


def test_the_upper_half_of_a_wide_bar_counts_though_it_was_0(results: Results) -> None:
    assert result(results(wide_story()), "BAR-FINAL").outcome is Outcome.PASS
    story = wide_story()
    story.write(T, EP0, BAR0 + 4, 1, 4, after=1)
    story.reconnect()
    assert causes(results(story)) == {"BAR-FINAL": None, "BAR-SIZING": "BAR-FINAL"}
    story = wide_story()
    story.write(T, EP0, BAR0 + 4, 0xFFFFFFFF, 4, after=0xFFFFFFFF)
    story.write(T + 0.2, EP0, BAR0 + 4, 0, 4, after=0)
    story.reconnect()
    assert causes(results(story)) == {"BAR-SIZING": None}


def test_decode_that_is_left_off_is_a_bar_that_is_gone(results: Results) -> None:
    story = Story()
    story.remove(lambda e: e.tag == "sizing" and e.t_ns > at(T))
    story.write(T, EP0, COMMAND, EP0_COMMAND & ~2)
    story.reconnect()
    answers = results(story)
    assert causes(answers) == {"BAR-FINAL": None, "BAR-SIZING": "BAR-FINAL"}
    assert messages(answers, "BAR-FINAL") == ["COMMAND.memory_space 0x1 -> 0x0 at 03:00.0 in enumeration"]


def the_same_address_again(story: Story) -> None:
    story.write(T, EP0, BAR0, EP0_ADDRESS, 4)


def the_rom(story: Story) -> None:
    story.write(T, EP0, 0x30, 0xFFFFF800, 4, after=0)
    story.write(T + 0.2, EP0, 0x30, 0, 4)


def a_bar_that_is_not_there(story: Story) -> None:
    story.write(T, EP0, 0x24, 0xFFFFFFFF, 4, after=0)
    story.write(T + 0.2, EP0, 0x24, 0, 4)


def of_a_control(story: Story) -> None:
    story.write(T, EP1, COMMAND, 0x101)
    story.write(T + 1, EP1, COMMAND, 0x103)


@pytest.mark.parametrize("spoil", [the_same_address_again, the_rom, a_bar_that_is_not_there, of_a_control])
def test_what_harms_no_peer_is_no_sizing(results: Results, spoil: Callable[[Story], None]) -> None:
    story = Story()
    spoil(story)
    story.reconnect()
    answers = results(story)
    assert causes(answers) == {}
    assert result(answers, "BAR-SIZING").outcome is Outcome.PASS


def test_an_endpoint_that_decoded_nothing_when_frozen_is_vacuous(results: Results) -> None:
    story = Story()
    story.write(150, EP0, COMMAND, EP0_COMMAND & ~2)
    story.reconnect()
    assert result(results(story), "BAR-SIZING").outcome is Outcome.VACUOUS


def test_an_update_that_nobody_finished_is_unknown(results: Results) -> None:
    story = Story()
    story.remove_tag("finish")
    answers = results(story)
    rules = ("BAR-SIZING", "BAR-FINAL", "BRIDGE-WINDOWS", "VGA-FORWARDING")
    assert {result(answers, rule).outcome for rule in rules} == {Outcome.UNKNOWN}


# ------------------------------------------------------------------- BRIDGE-WINDOWS


@pytest.mark.parametrize("bridge", [RP1, UP1, DN1])
def test_a_port_that_stops_decoding_for_a_moment_shuts_what_is_below(results: Results, bridge: int) -> None:
    story = Story()
    shut_decode(story, T, bridge)
    answers = results(story)
    assert causes(answers) == {"BRIDGE-WINDOWS": None}
    assert "for 0.500 ms: every window below is shut" in messages(answers, "BRIDGE-WINDOWS")[0]


def closed_for_a_moment(story: Story) -> None:
    story.write(T, DN1, MEMORY_WINDOW, CLOSED, 4)
    story.write(T + 0.01, DN1, MEMORY_WINDOW, WINDOW, 4)


def rewritten_in_two_halves(story: Story) -> None:
    """The base goes up before the limit does."""
    story.write(T, DN1, MEMORY_WINDOW, 0xFE10)
    story.write(T + 0.1, DN1, MEMORY_WINDOW, 0xFE00)


def left_elsewhere(story: Story) -> None:
    story.write(T, DN1, MEMORY_WINDOW, 0xFD00FD00, 4)


def one_that_holds_nothing_left_open(story: Story) -> None:
    story.write(T, DN1, PREF_WINDOW, 0xFDF0FDF0, 4)


def own_bar_with_decode_on(story: Story) -> None:
    story.write(40, RP1, 0x10, 0xFE400000, 4)
    story.write(T, RP1, 0x10, 0xFFFFFFFF, 4)
    story.write(T + 0.2, RP1, 0x10, 0xFE400000, 4)


def own_bar_moved(story: Story) -> None:
    story.write(40, RP1, 0x10, 0xFE400000, 4)
    story.write(T, RP1, COMMAND, PORT_COMMAND & ~2)
    story.write(T + 0.1, RP1, 0x10, 0xFE500000, 4)
    story.write(T + 0.2, RP1, COMMAND, PORT_COMMAND)


@pytest.mark.parametrize(
    "spoil",
    [closed_for_a_moment, rewritten_in_two_halves, left_elsewhere, one_that_holds_nothing_left_open,
     own_bar_with_decode_on, own_bar_moved],
)  # fmt: skip
def test_windows_and_a_ports_own_bar_are_judged(results: Results, spoil: Callable[[Story], None]) -> None:
    story = Story()
    spoil(story)
    assert causes(results(story)) == {"BRIDGE-WINDOWS": None}


def test_the_window_that_holds_the_endpoint_is_named(results: Results) -> None:
    story = Story()
    closed_for_a_moment(story)
    assert messages(results(story), "BRIDGE-WINDOWS")[0] == (
        "MEMORY_BASE.base 0xfe0 -> 0xfff at 02:00.0 in enumeration, for 0.010 ms (memory window "
        "0xfe000000-0xfe0fffff, with BAR0 of what is preserved below)"
    )


def the_same_window_again(story: Story) -> None:
    story.write(T, DN1, MEMORY_WINDOW, WINDOW, 4)


def one_that_holds_nothing_tried_out(story: Story) -> None:
    """As `pci_read_bridge_windows` does to the upper half of a prefetchable window."""
    story.write(T, DN1, PREF_BASE_UPPER32, 0xFFFFFFFF, 4)
    story.write(T + 0.5, DN1, PREF_BASE_UPPER32, 0, 4)


def io_that_nobody_uses(story: Story) -> None:
    story.write(T, DN1, COMMAND, PORT_COMMAND & ~1)
    story.write(T + 0.1, DN1, 0x30, 0xFFFF, 4)
    story.write(T + 0.2, DN1, 0x30, 0, 4)
    story.write(T + 0.3, DN1, COMMAND, PORT_COMMAND)


def of_another_path(story: Story) -> None:
    shut_decode(story, T, RP2)
    story.write(T + 1, RP2, MEMORY_WINDOW, CLOSED, 4)


@pytest.mark.parametrize(
    "spoil",
    [the_same_window_again, one_that_holds_nothing_tried_out, io_that_nobody_uses, of_another_path],
)
def test_what_holds_nothing_preserved_may_be_tried_out(
    results: Results, spoil: Callable[[Story], None]
) -> None:
    story = Story()
    spoil(story)
    answers = results(story)
    assert causes(answers) == {}
    assert result(answers, "BRIDGE-WINDOWS").outcome is Outcome.PASS


def test_a_window_of_unknown_width_is_not_passed(results: Results) -> None:
    story = Story(plugin=False)
    story.trace(T, DN1, MEMORY_WINDOW, 0x00, write=True)
    assert result(results(story), "BRIDGE-WINDOWS").outcome in (Outcome.UNKNOWN, Outcome.FAIL)


def test_nothing_below_that_answers_is_vacuous(results: Results) -> None:
    story = Story()
    for event in story.events:
        if event.fields.get("function") == EP0 and event.fields.get("address") == BAR0:
            for name in ("value", "aux"):
                if name in event.fields:
                    event.fields[name] = 0
        elif event.fields.get("region") == 0x300 and event.fields.get("address") == BAR0:
            event.fields["value"] = 0
    story.reconnect()
    assert result(results(story), "BRIDGE-WINDOWS").outcome is Outcome.VACUOUS


def test_addresses_are_as_the_registers_have_them(tmp_path: Path) -> None:
    story = Story()
    evidence = Evidence(load_timeline(story.save(tmp_path / "story.lus")))
    functions = evidence.timeline.functions
    found = bars_in_use(evidence, functions[EP0], at(160))
    assert found is not None
    assert [(bar.registers, bar.address, bar.is_io) for bar in found] == [(("BAR0",), EP0_ADDRESS, False)]
    assert str(window(evidence, functions[DN1], MEMORY_KIND, at(160))) == "0xfe000000-0xfe0fffff"


# -------------------------------------------------------------------- VGA-FORWARDING


def test_vga_forwarding_switched_on_for_a_moment_fails_and_names_its_writer(results: Results) -> None:
    answers = results(planted_story("VGA-FORWARDING"))
    assert causes(answers) == {"VGA-FORWARDING": None}
    assert result(answers, "VGA-FORWARDING").findings[0].function == "pci_set_vga_state"


@pytest.mark.parametrize(("value", "field"), [(0x12, "vga_16bit_decode"), (0x06, "isa_enable")])
def test_what_goes_with_vga_forwarding_is_judged_too(results: Results, value: int, field: str) -> None:
    story = Story()
    story.write(T, DN1, BRIDGE_CONTROL, value)
    answers = results(story)
    assert causes(answers) == {"VGA-FORWARDING": None}
    assert result(answers, "VGA-FORWARDING").findings[0].field == field


def test_master_abort_mode_off_and_on_is_none_of_it(results: Results) -> None:
    story = Story()
    story.write(T, DN1, BRIDGE_CONTROL, 0x22)
    story.write(T + 0.1, DN1, BRIDGE_CONTROL, 0x02)
    assert result(results(story), "VGA-FORWARDING").outcome is Outcome.PASS
