# SPDX-License-Identifier: MIT
"""What hardware would have lost on the way up, and what it would not."""

from collections.abc import Callable

import pytest

from pydev.continuity import Outcome, Result
from pydev.ports import Gate, ResetKind
from pydev.recording.format import Flag, Kind
from pydev.testkit.faults import planted_story
from pydev.testkit.story import DN1, EP0, FROZEN, PMCSR, RP1, RP2, SWEEP, UP1, UPDATED, Story, at, offset
from pydev.testkit.story_addresses import COMMAND, MEMORY_WINDOW, PORT_COMMAND, WINDOW
from pydev.testkit.story_chain import chain

Results = Callable[[Story], dict[str, Result]]
RULE = "UPSTREAM-FORWARDING"
OFF = PORT_COMMAND & ~4


def result(answers: dict[str, Result], rule: str = RULE) -> Result:
    return answers[rule]


def causes(answers: dict[str, Result]) -> dict[str, str | None]:
    """Every rule that fails, with its cause."""
    return {rule: answer.caused_by for rule, answer in answers.items() if answer.outcome is Outcome.FAIL}


# ------------------------------------------------------------------- planted faults


def test_what_passed_an_upstream_bridge_that_masters_no_bus_would_have_been_lost(results: Results) -> None:
    answers = results(planted_story(RULE))
    assert causes(answers) == {"BME-BRIDGE": None, RULE: "BME-BRIDGE"}
    finding = result(answers).findings[0]
    assert finding.message == (
        "5 transactions of 03:00.0 would have been lost at 01:00.0 from 172.910 to 177.910 ms of the recording: "
        "COMMAND.bus_master off, by pci_clear_master"
    )
    assert (finding.register, finding.field, finding.bdf, finding.count) == (
        "COMMAND",
        "bus_master",
        0x100,
        5,
    )
    assert finding.stack[0] == "pci_clear_master" or "pci_clear_master" in finding.stack


@pytest.mark.parametrize("bridge", [DN1, UP1, RP1])
def test_each_bridge_of_the_way_is_judged(results: Results, bridge: int) -> None:
    story = Story()
    story.write(235, bridge, COMMAND, OFF)
    story.write(238, bridge, COMMAND, PORT_COMMAND)
    assert causes(results(story)) == {"BME-BRIDGE": None, RULE: "BME-BRIDGE"}


def test_a_message_without_any_dma_is_lost_as_well(results: Results) -> None:
    story = Story(stream=False)
    story.add(174, Kind.INTERRUPT, function=EP0, region=2, address=0, value=1)
    story.write(173, UP1, COMMAND, OFF)
    story.write(175, UP1, COMMAND, PORT_COMMAND)
    finding = result(results(story)).findings[0]
    assert finding.message.startswith("1 interrupt message of 03:00.0 would have been lost at 01:00.0")


def test_a_read_is_a_transaction_too(results: Results) -> None:
    story = Story(stream=False)
    story.add(174, Kind.DMA_READ, function=EP0, address=0x4000000, size=8)
    story.write(173, UP1, COMMAND, OFF)
    story.write(175, UP1, COMMAND, PORT_COMMAND)
    assert result(results(story)).outcome == "FAIL"


def test_a_bridge_that_mastered_no_bus_when_the_guest_was_frozen_had_no_way_up_at_all(
    results: Results,
) -> None:
    story = Story()
    story.write(140, UP1, COMMAND, OFF)
    answers = results(story)
    assert causes(answers) == {RULE: None}
    assert result(answers).findings[0].message.endswith("COMMAND.bus_master off when the guest was frozen")


def test_a_bridge_in_d3hot_passes_nothing(results: Results) -> None:
    story = Story()
    story.write(UPDATED + 5, DN1, offset(DN1, "PMCSR"), 3)
    assert causes(results(story)) == {"POWER-STATE": None, RULE: "POWER-STATE"}


def test_a_bus_held_in_reset_passes_nothing_whatever_the_endpoint_goes_on_to_send(results: Results) -> None:
    story = Story()
    story.write(UPDATED + 1, DN1, 0x3E, 0x42)
    story.write(UPDATED + 4, DN1, 0x3E, 0x02)
    assert causes(results(story)) == {"RESET": None, RULE: "RESET"}


def test_what_an_endpoint_sends_until_its_server_is_told_of_the_reset_is_the_clients_delay(
    results: Results,
) -> None:
    story = Story()
    story.write(UPDATED + 1, DN1, 0x3E, 0x42)
    story.add(UPDATED + 3, Kind.GATE, function=EP0, extra=0, aux=int(Gate.IN_RESET))
    story.add(UPDATED + 3.1, Kind.RESET, function=EP0, value=int(ResetKind.DEVICE))
    story.remove(lambda e: e.kind == Kind.DMA_WRITE and e.t_ns > at(UPDATED + 3))
    story.write(UPDATED + 5, DN1, 0x3E, 0x02)
    answers = results(story)
    assert result(answers, "RESET").outcome == "FAIL"
    assert result(answers).outcome == "PASS"


def test_a_disabled_link_passes_nothing(results: Results) -> None:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "LNKCTL"), 0x10)
    story.write(SWEEP + 8, DN1, offset(DN1, "LNKCTL"), 0)
    assert causes(results(story)) == {"LINK-CONTROL": None, RULE: "LINK-CONTROL"}


def test_a_slot_without_power_passes_nothing(results: Results) -> None:
    answers = results(planted_story("SLOT-POWER"))
    assert causes(answers) == {"SLOT-POWER": None, RULE: "SLOT-POWER"}


def test_a_window_that_covers_memory_sends_dma_back_down(results: Results) -> None:
    story = Story()
    # 00000000h to fe0fffffh: the endpoint's BAR, and all of memory below 4 GiB.
    story.write(SWEEP + 5, DN1, MEMORY_WINDOW, 0xFE000000, 4, by="pci_setup_bridge_mmio")
    story.write(SWEEP + 8, DN1, MEMORY_WINDOW, WINDOW, 4)
    answers = results(story)
    assert causes(answers) == {"BRIDGE-WINDOWS": None, RULE: "BRIDGE-WINDOWS"}
    message = result(answers).findings[0].message
    assert "its memory window 0x0-0xfe0fffff covers them, by pci_setup_bridge_mmio" in message


def test_five_spans_are_five_findings_and_many_are_counted_together(results: Results) -> None:
    story = Story()
    for number in range(20):
        story.write(SWEEP + 2 * number + 0.5, UP1, COMMAND, OFF)
        story.write(SWEEP + 2 * number + 1.5, UP1, COMMAND, PORT_COMMAND)
    findings = result(results(story)).findings
    assert len(findings) == 17
    assert sum(finding.count for finding in findings) == 20
    assert any("in 4 further spans" in finding.message for finding in findings)


# --------------------------------------------------------------------- acceptable


def off_between_two_transactions(story: Story) -> None:
    story.write(SWEEP + 10.4, UP1, COMMAND, OFF)
    story.write(SWEEP + 10.6, UP1, COMMAND, PORT_COMMAND)


def off_while_the_endpoint_is_refused_anyway(story: Story) -> None:
    story.block(170.5, 240, Gate.BUS_MASTER_OFF)
    story.write(171, UP1, COMMAND, OFF)
    story.write(239, UP1, COMMAND, PORT_COMMAND)


def off_on_another_path(story: Story) -> None:
    story.write(SWEEP + 5, RP2, COMMAND, OFF)


def link_of_an_upstream_port(story: Story) -> None:
    """Link Disable is reserved there (PCIe 6.0 7.5.3.7)."""
    story.write(SWEEP + 5, UP1, offset(UP1, "LNKCTL"), 0x10)


def a_pending_interrupt(story: Story) -> None:
    off_between_two_transactions(story)
    fields = {"region": 2, "value": 1, "flags": int(Flag.PENDING)}
    story.add(SWEEP + 10.5, Kind.INTERRUPT, tag="", function=EP0, address=0, **fields)


def the_same_written_again(story: Story) -> None:
    story.write(SWEEP + 5, UP1, COMMAND, PORT_COMMAND)


def off_before_the_freeze(story: Story) -> None:
    story.write(130, UP1, COMMAND, OFF)
    story.write(135, UP1, COMMAND, PORT_COMMAND)


def a_window_that_covers_no_memory(story: Story) -> None:
    story.write(SWEEP + 5, DN1, MEMORY_WINDOW, 0xFE00FD00, 4)


@pytest.mark.parametrize(
    "spoil",
    [off_between_two_transactions, off_while_the_endpoint_is_refused_anyway, off_on_another_path,
     link_of_an_upstream_port, a_pending_interrupt, the_same_written_again, off_before_the_freeze,
     a_window_that_covers_no_memory],
)  # fmt: skip
def test_nothing_was_lost(results: Results, spoil: Callable[[Story], None]) -> None:
    story = Story()
    spoil(story)
    answer = result(results(story))
    assert answer.outcome is Outcome.PASS, answer
    assert answer.examined > 0


# -------------------------------------------------------------- not decided, silent


def dip_about_a_transaction(story: Story) -> None:
    """Shorter than the trace's clock is exact, and a transaction is in it."""
    story.trace(SWEEP + 10.0, UP1, COMMAND, OFF)
    story.trace(SWEEP + 10.02, UP1, COMMAND, PORT_COMMAND)


def a_read_shows_what_nobody_wrote(story: Story) -> None:
    story.trace(SWEEP + 10.5, UP1, COMMAND, OFF, write=False)


@pytest.mark.parametrize("spoil", [dip_about_a_transaction, a_read_shows_what_nobody_wrote])
def test_without_the_plugin_doubt_about_a_transaction_is_unknown(
    results: Results, spoil: Callable[[Story], None]
) -> None:
    story = Story(plugin=False)
    spoil(story)
    assert result(results(story)).outcome is Outcome.UNKNOWN


def test_doubt_in_which_nothing_was_sent_is_none(results: Results) -> None:
    story = Story(plugin=False)
    story.trace(SWEEP + 10.4, UP1, COMMAND, OFF)
    story.trace(SWEEP + 10.6, UP1, COMMAND, PORT_COMMAND)
    assert result(results(story)).outcome is Outcome.PASS


def test_a_transaction_within_the_time_that_a_write_takes_is_not_certainly_lost(results: Results) -> None:
    story = Story()
    written = SWEEP + 10.005 + 0.09  # the stamp is before the transaction by less than a write takes
    story.write(written, UP1, COMMAND, OFF)
    story.write(written + 0.5, UP1, COMMAND, PORT_COMMAND)
    assert result(results(story)).outcome is Outcome.UNKNOWN


def test_an_endpoint_that_sent_nothing_is_vacuous(results: Results) -> None:
    story = Story(stream=False)
    story.remove_tag("catch-up")
    answer = result(results(story))
    assert answer.outcome is Outcome.VACUOUS
    assert answer.reasons == ("no transaction of 03:00.0 reached memory between frozen and finished",)


def test_an_endpoint_without_a_bridge_above_is_vacuous(results: Results) -> None:
    story = Story()
    story.header["functions"][EP0] |= {"parent": None, "bus": 3}
    assert result(results(story)).reasons == ("no bridge is above 03:00.0",)


def test_without_a_finish_report_it_is_unknown(results: Results) -> None:
    story = Story()
    story.remove_tag("finish")
    assert result(results(story)).outcome is Outcome.UNKNOWN


# ------------------------------------------------------------------ broken and unseen


@pytest.mark.parametrize("update", range(3))
def test_one_bad_update_of_three_is_found(results: Results, update: int) -> None:
    story = chain(3)
    span_ms = 194 * update
    story.write(173 + span_ms, UP1, COMMAND, OFF)
    story.write(178 + span_ms, UP1, COMMAND, PORT_COMMAND)
    assert causes(results(story)) == {"BME-BRIDGE": None, RULE: "BME-BRIDGE"}


def test_off_twice_without_a_transaction_between_is_one_span(results: Results) -> None:
    story = Story()
    story.write(173, UP1, COMMAND, OFF)
    story.write(175.5, UP1, COMMAND, OFF & ~2)  # written again, and still off
    story.write(178, UP1, COMMAND, PORT_COMMAND)
    findings = result(results(story)).findings
    assert [finding.count for finding in findings] == [5]


def test_an_endpoint_of_its_own_root_port_is_judged_by_that_port(results: Results) -> None:
    story = Story()
    story.header["functions"][1]["preserve"] = True  # ep1, below rp2, whose bus mastering is cleared
    story.add(SWEEP + 5, Kind.DMA_READ, function=1, address=0x4000000, size=8)
    messages = [finding.message for finding in result(results(story)).findings]
    assert any("of 04:00.0 would have been lost at 00:02.0" in message for message in messages)


def test_the_endpoints_own_power_state_is_not_the_bridges(results: Results) -> None:
    story = Story()
    story.write(232, EP0, PMCSR, 3)
    story.block(232, 245, Gate.POWER_STATE)
    story.write(245, EP0, PMCSR, 0)
    story.reconnect()
    assert result(results(story)).outcome is Outcome.PASS
    assert FROZEN < 232
