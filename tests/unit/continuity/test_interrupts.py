# SPDX-License-Identifier: MIT
"""Interrupts over the update: who could raise one, who did, and how the incoming kernel takes over."""

from collections.abc import Callable

import pytest

from pydev.continuity import Outcome, Result
from pydev.ports import Gate, ResetKind
from pydev.recording.format import Flag, Kind
from pydev.testkit.faults import planted_story
from pydev.testkit.story import (
    DN1,
    EP0,
    FINISHED,
    JUMP,
    MSIX_CONTROL,
    RP1,
    SHUTDOWN,
    SWEEP,
    UPDATED,
    Story,
    at,
    offset,
)
from pydev.testkit.story_addresses import COMMAND, PORT_COMMAND
from pydev.testkit.story_interrupts import MSI_CONTROL, MSI_ON, msi_story, pinned_story

Results = Callable[[Story], dict[str, Result]]
PINNED = 0x506
UNMASKED = PINNED & ~0x400
TAKEN = SWEEP + 20
"""When MSI-X is disabled by the incoming kernel."""


def result(answers: dict[str, Result], rule: str) -> Result:
    return answers[rule]


def causes(answers: dict[str, Result]) -> dict[str, str | None]:
    """Every rule that fails, with its cause."""
    return {rule: answer.caused_by for rule, answer in answers.items() if answer.outcome is Outcome.FAIL}


def raised(story: Story, ms: float, vector: int = 0, **more: int) -> None:
    story.add(ms, Kind.INTERRUPT, tag="", function=EP0, region=2, address=vector, value=9, **more)


# --------------------------------------------------------------------- INTX-DISABLE


def test_intx_that_could_escape_fails_its_rule_and_is_named(results: Results) -> None:
    answers = results(planted_story("INTX-DISABLE"))
    assert causes(answers) == {"INTX-DISABLE": None}
    finding = result(answers, "INTX-DISABLE").findings[0]
    assert finding.message == (
        "COMMAND.intx_disable 1 -> 0 at 03:00.0 in enumeration, for 2.000 ms: nothing keeps 03:00.0 from raising INTA"
    )
    assert finding.function == "do_pci_enable_device"


def unmasked_for_good(story: Story) -> None:
    story.write(TAKEN + 1, EP0, COMMAND, UNMASKED)


def unmasked_before_msix_is_off(story: Story) -> None:
    """The mask is gone first, and MSI-X then: what disables it lets INTx out."""
    story.write(SWEEP + 5, EP0, COMMAND, UNMASKED)
    story.remove(lambda e: e.tag == "sizing" and at(SWEEP + 5) < e.t_ns < at(SWEEP + 19))


def by_the_outgoing_kernel(story: Story) -> None:
    """As `pci_msix_shutdown` and `pci_intx_for_msi` do one after the other."""
    story.remove_tag("msix off")
    story.write(SHUTDOWN + 1, EP0, MSIX_CONTROL, 0x0003)
    story.write(SHUTDOWN + 2, EP0, COMMAND, UNMASKED)
    story.remove(lambda e: e.tag == "sizing")


@pytest.mark.parametrize("spoil", [unmasked_for_good, unmasked_before_msix_is_off, by_the_outgoing_kernel])
def test_every_way_to_let_intx_out_is_found(results: Results, spoil: Callable[[Story], None]) -> None:
    story = pinned_story()
    spoil(story)
    story.reconnect()
    assert "INTX-DISABLE" in causes(results(story))


def test_a_reset_that_lets_intx_out_is_to_blame(results: Results) -> None:
    story = pinned_story()
    story.add(UPDATED + 1, Kind.RESET, function=EP0, value=int(ResetKind.FUNCTION_LEVEL))
    story.update(UPDATED + 1.01, EP0, 0x04, 0x00100000)
    story.reconnect()
    answers = results(story)
    assert result(answers, "INTX-DISABLE").caused_by == "RESET"


def toggled_while_msix_is_enabled(story: Story) -> None:
    """As `pci_intx_mask_broken` does, before `pci_msix_init`: prohibited by MSI-X all the while."""
    story.write(SWEEP + 5, EP0, COMMAND, UNMASKED)
    story.write(SWEEP + 5.4, EP0, COMMAND, PINNED)


def masked_once_more(story: Story) -> None:
    story.write(TAKEN + 1, EP0, COMMAND, PINNED)


@pytest.mark.parametrize("spoil", [toggled_while_msix_is_enabled, masked_once_more])
def test_what_lets_nothing_out_is_fine(results: Results, spoil: Callable[[Story], None]) -> None:
    story = pinned_story()
    spoil(story)
    story.reconnect()
    answers = results(story)
    assert result(answers, "INTX-DISABLE").outcome is Outcome.PASS
    assert causes(answers) == {}


def test_a_function_without_a_pin_can_let_nothing_out(results: Results) -> None:
    story = Story()
    story.write(TAKEN + 1, EP0, COMMAND, 0x506)
    story.write(TAKEN + 2, EP0, COMMAND, 0x106)
    story.reconnect()
    answer = result(results(story), "INTX-DISABLE")
    assert answer.outcome is Outcome.VACUOUS
    assert answer.reasons == ("03:00.0 has no interrupt pin: it can raise no INTx",)


def test_a_function_that_could_raise_intx_when_frozen_holds_nothing_back(results: Results) -> None:
    story = pinned_story()
    story.write(150, EP0, COMMAND, UNMASKED)
    story.write(151, EP0, MSIX_CONTROL, 0x0003)
    story.reconnect()
    assert result(results(story), "INTX-DISABLE").outcome is Outcome.VACUOUS


def test_a_pin_that_nobody_declares_is_unknown(results: Results) -> None:
    story = pinned_story()
    registers = story.header["functions"][EP0]["registers"]
    story.header["functions"][EP0]["registers"] = [r for r in registers if r["name"] != "INTERRUPT_PIN"]
    assert result(results(story), "INTX-DISABLE").outcome is Outcome.UNKNOWN


# ------------------------------------------------------------------ MSI-TAKEOVER


def test_msi_left_enabled_fails_its_rule_alone(results: Results) -> None:
    assert causes(results(planted_story("MSI-TAKEOVER"))) == {"MSI-TAKEOVER": None}


def test_msi_taken_over_passes_and_msi_disabled_before_the_jump_is_vacuous(results: Results) -> None:
    assert result(results(msi_story()), "MSI-TAKEOVER").outcome is Outcome.PASS
    story = msi_story()
    story.write(SHUTDOWN + 1, EP0, MSI_CONTROL, MSI_ON & ~1)
    story.reconnect()
    assert result(results(story), "MSI-TAKEOVER").outcome is Outcome.VACUOUS


def test_msi_disabled_and_enabled_again_with_the_old_address_was_taken_over_all_the_same(
    results: Results,
) -> None:
    """Who enables it again in the incoming kernel knows of it: the takeover is what has to happen."""
    story = msi_story()
    story.write(UPDATED + 1, EP0, MSI_CONTROL, MSI_ON)
    story.reconnect()
    assert result(results(story), "MSI-TAKEOVER").outcome is Outcome.PASS


def test_msi_enabled_after_the_freeze_has_to_be_taken_over_too(results: Results) -> None:
    story = msi_story()
    story.remove_tag("msi on")
    story.remove_tag("msi off")
    story.write(SHUTDOWN + 1, EP0, MSI_CONTROL, MSI_ON)
    story.reconnect()
    assert causes(results(story)) == {"MSI-TAKEOVER": None}


def test_msi_disabled_between_the_kernels_is_nobodys_takeover_for_certain(results: Results) -> None:
    story = msi_story()
    story.remove_tag("msi off")
    story.write(SWEEP - 3, EP0, MSI_CONTROL, MSI_ON & ~1)
    story.reconnect()
    assert result(results(story), "MSI-TAKEOVER").outcome is Outcome.UNKNOWN


def test_nobody_has_msi_is_vacuous(results: Results) -> None:
    assert result(results(Story()), "MSI-TAKEOVER").outcome is Outcome.VACUOUS


# ----------------------------------------------------------------- MSIX-SEQUENCE


def test_msix_enabled_without_the_function_mask_fails_its_rule_alone(results: Results) -> None:
    answers = results(planted_story("MSIX-SEQUENCE"))
    assert causes(answers) == {"MSIX-SEQUENCE": None}
    message = result(answers, "MSIX-SEQUENCE").findings[0].message
    assert message.startswith("MSIX_CONTROL.enable 0 -> 1 at 03:00.0 in updated, with function_mask clear")


def test_a_message_by_a_vector_that_was_not_set_up_anew_fails(results: Results) -> None:
    story = Story()
    raised(story, FINISHED - 2, vector=3)
    finding = result(results(story), "MSIX-SEQUENCE").findings[0]
    assert finding.message == "1 messages of 03:00.0 by vector 3, which the incoming kernel had not set up"


def test_a_message_before_its_vector_was_set_up_fails(results: Results) -> None:
    story = Story()
    story.tagged("vectors anew")[0].t_ns = at(FINISHED - 0.5)
    assert "MSIX-SEQUENCE" in causes(results(story))


def test_a_set_up_without_a_file_is_none(results: Results) -> None:
    story = Story()
    story.tagged("vectors anew")[0].fields["extra"] = 0
    assert "MSIX-SEQUENCE" in causes(results(story))


def test_masked_first_and_a_pending_one_afterwards_are_fine(results: Results) -> None:
    story = Story()
    raised(story, 256.05, vector=1, flags=int(Flag.PENDING), error=int(Gate.FUNCTION_MASKED))
    assert result(results(story), "MSIX-SEQUENCE").outcome is Outcome.PASS


def test_msix_that_is_not_enabled_anew_is_vacuous(results: Results) -> None:
    story = Story()
    for tag in ("msix anew", "vectors anew", "doorbell", "catch-up"):
        story.remove_tag(tag)
    story.reconnect()
    assert result(results(story), "MSIX-SEQUENCE").outcome is Outcome.VACUOUS


def test_msix_enabled_twice_is_judged_twice(results: Results) -> None:
    story = Story()
    story.write(260, EP0, MSIX_CONTROL, 0x0003)
    story.write(261, EP0, MSIX_CONTROL, 0x8003)
    story.reconnect()
    answer = result(results(story), "MSIX-SEQUENCE")
    assert (answer.outcome, answer.examined, len(answer.findings)) == (Outcome.FAIL, 2, 1)


# ---------------------------------------------------------------- STRAY-INTERRUPT


def test_a_message_between_the_kernels_is_stray_and_counted(results: Results) -> None:
    story = planted_story("STRAY-INTERRUPT")
    raised(story, SWEEP + 6, vector=2)
    raised(story, SWEEP + 7, flags=int(Flag.BLOCKED), error=int(Gate.BUS_MASTER_OFF))
    raised(story, SWEEP + 8, flags=int(Flag.PENDING), error=int(Gate.FUNCTION_MASKED))
    answers = results(story)
    assert causes(answers) == {"STRAY-INTERRUPT": None}
    finding = result(answers, "STRAY-INTERRUPT").findings[0]
    assert finding.message == (
        "03:00.0 sent 2 MSI-X messages as the outgoing kernel had set them up (vector 0, 2), from 204.500 to 206.000 "
        "ms of the recording, before the incoming kernel took over at 220.000 ms; 1 held pending, 1 refused"
    )
    assert finding.count == 2


@pytest.mark.parametrize("ms", [JUMP + 0.5, SWEEP + 0.5, TAKEN - 0.5])
def test_all_of_the_time_between_counts(results: Results, ms: float) -> None:
    story = Story()
    raised(story, ms)
    assert causes(results(story)) == {"STRAY-INTERRUPT": None}


def test_msi_is_a_message_like_msix(results: Results) -> None:
    story = msi_story()
    story.add(SWEEP + 4, Kind.INTERRUPT, function=EP0, region=1, address=0, value=1)
    assert causes(results(story)) == {"STRAY-INTERRUPT": None}


def test_without_a_takeover_everything_until_the_end_is_stray(results: Results) -> None:
    story = planted_story("MSIX-TAKEOVER")
    raised(story, UPDATED + 3)
    assert "STRAY-INTERRUPT" in causes(results(story))


@pytest.mark.parametrize("ms", [JUMP - 0.5, 150, FINISHED - 0.5])
def test_before_the_jump_and_after_the_takeover_a_message_is_nobodys_surprise(
    results: Results, ms: float
) -> None:
    story = Story()
    raised(story, ms)
    assert result(results(story), "STRAY-INTERRUPT").outcome is Outcome.PASS


def test_what_is_held_or_refused_is_not_sent(results: Results) -> None:
    story = Story()
    raised(story, SWEEP + 7, flags=int(Flag.BLOCKED), error=int(Gate.BUS_MASTER_OFF))
    raised(story, SWEEP + 8, flags=int(Flag.PENDING), error=int(Gate.FUNCTION_MASKED))
    assert result(results(story), "STRAY-INTERRUPT").outcome is Outcome.PASS


def test_without_the_plugin_a_message_about_the_jump_is_unknown(results: Results) -> None:
    story = Story(plugin=False)
    raised(story, SWEEP - 5)
    assert result(results(story), "STRAY-INTERRUPT").outcome is Outcome.UNKNOWN


def test_messages_that_were_off_at_the_jump_are_vacuous(results: Results) -> None:
    story = Story()
    story.write(SHUTDOWN + 1, EP0, MSIX_CONTROL, 0x0003)
    story.reconnect()
    assert result(results(story), "STRAY-INTERRUPT").outcome is Outcome.VACUOUS


# ----------------------------------------------------------------- PORT-INTERRUPT


def test_a_port_that_keeps_its_interrupts_over_the_jump_fails_its_rule_alone(results: Results) -> None:
    answers = results(planted_story("PORT-INTERRUPT"))
    assert causes(answers) == {"PORT-INTERRUPT": None}
    message = result(answers, "PORT-INTERRUPT").findings[0].message
    assert message.startswith("MSIX_CONTROL.enable of 00:01.0 was still set at the jump")


def test_a_port_that_enables_them_again_before_the_jump_fails(results: Results) -> None:
    story = Story()
    story.write(SHUTDOWN + 8, RP1, offset(RP1, "MSIX_CONTROL"), 0x8000)
    assert causes(results(story)) == {"PORT-INTERRUPT": None}


def test_a_port_whose_interrupts_come_on_after_the_freeze_fails(results: Results) -> None:
    story = Story()
    story.remove_tag("port msix on")
    story.remove_tag("port msix off")
    story.write(SHUTDOWN + 8, RP1, offset(RP1, "MSIX_CONTROL"), 0x8000)
    assert causes(results(story)) == {"PORT-INTERRUPT": None}


def test_bus_mastering_that_goes_with_intx_disable_fails_with_the_bridges_own_rule(results: Results) -> None:
    story = Story()
    story.write(SWEEP + 10.4, DN1, COMMAND, (PORT_COMMAND | 0x400) & ~4)
    story.write(SWEEP + 10.6, DN1, COMMAND, PORT_COMMAND)
    assert causes(results(story)) == {"BME-BRIDGE": None, "PORT-INTERRUPT": "BME-BRIDGE"}


def test_intx_disable_alone_and_interrupts_in_the_incoming_kernel_are_fine(results: Results) -> None:
    story = Story()
    story.write(SHUTDOWN + 7, RP1, COMMAND, PORT_COMMAND | 0x400)
    story.write(232, RP1, offset(RP1, "MSIX_CONTROL"), 0xC000)
    story.write(233, RP1, offset(RP1, "MSIX_CONTROL"), 0x8000)
    answers = results(story)
    assert causes(answers) == {}
    assert result(answers, "PORT-INTERRUPT").outcome is Outcome.PASS


def test_ports_without_interrupts_are_vacuous(results: Results) -> None:
    story = Story()
    story.remove_tag("port msix on")
    story.remove_tag("port msix off")
    assert result(results(story), "PORT-INTERRUPT").outcome is Outcome.VACUOUS


def test_without_the_plugin_a_write_of_unknown_width_about_the_jump_is_not_passed(results: Results) -> None:
    story = Story(plugin=False)
    story.remove_tag("port msix off")
    story.trace(SWEEP - 3, RP1, offset(RP1, "MSIX_CONTROL"), 0)
    assert result(results(story), "PORT-INTERRUPT").outcome is not Outcome.FAIL


# --------------------------------------------------------------------- EARLY-MMIO


def test_a_write_to_a_bar_before_any_driver_fails_its_rule_alone(results: Results) -> None:
    answers = results(planted_story("EARLY-MMIO"))
    assert causes(answers) == {"EARLY-MMIO": None}
    assert result(answers, "EARLY-MMIO").findings[0].message == (
        "4 bytes 0xff written to 03:00.0 BAR0 at 0x2c before any driver was probed"
    )


def ring(story: Story, ms: float, function: int = EP0, region: int = 0) -> None:
    story.add(ms, Kind.REGION_WRITE, function=function, region=region, address=0x2C, size=4, value=1)


def test_twenty_writes_are_sixteen_findings_and_a_count(results: Results) -> None:
    story = Story()
    for number in range(20):
        ring(story, SWEEP + 3 + number / 10)
    findings = result(results(story), "EARLY-MMIO").findings
    assert len(findings) == 17
    assert sum(finding.count for finding in findings) == 20


@pytest.mark.parametrize("ms", [150, SHUTDOWN + 2, 240, FINISHED - 2])
def test_the_outgoing_kernel_and_drivers_may_write(results: Results, ms: float) -> None:
    story = Story()
    ring(story, ms)
    assert result(results(story), "EARLY-MMIO").outcome is Outcome.PASS


def test_another_functions_bar_is_not_the_preserved_ones(results: Results) -> None:
    story = Story()
    ring(story, SWEEP + 5, function=1)
    assert result(results(story), "EARLY-MMIO").outcome is Outcome.PASS


def test_about_the_first_probe_it_is_unknown_whose_a_write_is(results: Results) -> None:
    story = Story()
    ring(story, 229)
    assert result(results(story), "EARLY-MMIO").outcome is Outcome.UNKNOWN


def test_without_a_probe_it_is_vacuous(results: Results) -> None:
    story = Story()
    story.remove_tag("probe")
    assert result(results(story), "EARLY-MMIO").outcome is Outcome.VACUOUS
