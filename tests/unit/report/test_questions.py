# SPDX-License-Identifier: MIT
"""What the report answers to the reviewers' questions, of stories whose events are known."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pydev.continuity import load_policy, load_timeline, verify
from pydev.recording.format import Flag, Gate, Kind
from pydev.report import render_text
from pydev.report.lines import COLUMNS
from pydev.report.questions import questions
from pydev.testkit.story import EP0, EP1, JUMP, MSIX_CONTROL, SWEEP, UP1, Event, Story, at
from pydev.testkit.story_chain import chain
from pydev.testkit.story_state import tell_state

Answers = Callable[[Story], str]


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """A story's answers as one line, so that it does not matter where lines are broken."""

    def told(story: Story) -> str:
        lines = questions(load_timeline(story.save(tmp_path / "r.lus")))
        assert max(map(len, lines)) <= COLUMNS
        return " ".join(" ".join(lines).split())

    return told


def interrupt(story: Story, ms: float, number: int, vector: int = 0, flags: int = 0, error: int = 0) -> None:
    where = {"function": EP0, "region": 2, "address": vector}
    told = {"value": number, "flags": flags, "error": error}
    story.events.append(Event(at(ms), Kind.INTERRUPT, where | told))


def interrupted() -> Story:
    """Vector 0 is raised before the jump, between it and the takeover, while MSI-X is off, and while it is masked."""
    story = Story()
    story.add(SWEEP + 20, Kind.GATE, function=EP0, extra=0, aux=int(Gate.INTERRUPTS_OFF))
    story.add(256, Kind.GATE, function=EP0, extra=int(Gate.INTERRUPTS_OFF), aux=int(Gate.FUNCTION_MASKED))
    story.add(256.1, Kind.GATE, function=EP0, extra=int(Gate.FUNCTION_MASKED), aux=0)
    story.add(122, Kind.IRQ_SETUP, function=EP0, region=2, address=0, size=2, value=0x24, extra=2)
    interrupt(story, JUMP - 5, 1)
    interrupt(story, JUMP + 5, 2)
    interrupt(story, JUMP + 6, 3)
    interrupt(story, SWEEP + 30, 4, flags=Flag.BLOCKED, error=Gate.INTERRUPTS_OFF)
    interrupt(story, 256.05, 5, flags=Flag.PENDING)
    interrupt(story, 256.3, 5)
    interrupt(story, 270, 6)
    for event in story.tagged("catch-up"):
        event.fields["value"] = 7
    return story


def test_a_preserved_endpoint_at_the_jump_is_told_by_the_names_of_its_registers(answers: Answers) -> None:
    text = answers(Story())
    assert (
        "03:00.0 ep0, preserved COMMAND 0x106 (memory_space, bus_master, serr_enable); D0; BAR0 0xfe000000"
        in text
    )
    assert "DMA: stream running, 25 slots written since frozen and 0 refused" in text


def test_what_changed_since_frozen_is_told_with_its_time_and_its_author(answers: Answers) -> None:
    story = Story()
    story.write(173, UP1, 0x04, 0x103, by="pci_clear_master")
    text = answers(story)
    assert re.search(r"\+12\.9\d\d ms COMMAND\.bus_master 1 -> 0, by pci_clear_master", text)
    assert "01:00.0 up1 COMMAND 0x103 (io_space, memory_space, serr_enable)" in text


def test_what_is_not_preserved_and_not_above_it_has_one_line(answers: Answers) -> None:
    assert "04:00.0 ep1: COMMAND 0x102, no bus master, D0 00:02.0 rp2:" in answers(Story())


def test_the_state_of_the_interrupts_at_the_jump_names_vectors_and_what_is_pending(answers: Answers) -> None:
    story = interrupted()
    interrupt(story, JUMP - 4, 1, vector=1, flags=Flag.PENDING)
    text = answers(story)
    assert "03:00.0 ep0: MSI-X on, not masked, vectors set up: 0, 1, pending: 1; INTx not disabled" in text


def test_vectors_taken_down_before_the_jump_are_not_set_up_any_more(answers: Answers) -> None:
    story = interrupted()
    story.add(172, Kind.IRQ_SETUP, function=EP0, region=2, address=0, size=0, value=0x21)
    assert "MSI-X on, not masked, vectors set up: none, pending: none" in answers(story)


def test_each_interrupt_has_one_fate_and_they_add_up(answers: Answers) -> None:
    text = answers(interrupted())
    assert (
        "MSI-X vector 0: 6 raised, from +20.000 ms to +110.000 ms: 1 delivered to the outgoing kernel, 2 sent to "
        "vectors of the outgoing kernel after the jump, 1 delivered to the incoming kernel, 1 lost (interrupts_off), "
        "1 held pending, and 1 delivered from there"
    ) in text
    assert "MSI-X vector 1: 1 raised, at +129.100 ms: 1 delivered to the incoming kernel" in text


def test_when_it_could_raise_them_is_told_by_the_write_that_ended_it(answers: Answers) -> None:
    text = answers(interrupted())
    assert "could raise them from frozen until +60.000 ms MSIX_CONTROL.enable 1 -> 0" in text
    assert "from +96.100 ms MSIX_CONTROL.function_mask 1 -> 0" in text


def test_an_endpoint_whose_gates_are_not_on_record_is_not_said_to_be_silent(answers: Answers) -> None:
    story = Story()
    story.remove(lambda event: event.kind == Kind.GATE)
    assert "whether it could raise any is not known" in answers(story)


def test_a_kernel_that_is_right_is_said_to_be_and_a_wrong_belief_is_marked(answers: Answers) -> None:
    story = Story()
    said = tell_state(story)
    assert "!!" not in answers(story)
    said[UP1]["secondary"] = 9
    text = answers(story)
    assert "1 of them not as believed" in text
    assert re.search(r"!! 01:00\.0 up1 SECONDARY_BUS holds 2, since -148\.\d+ ms", text)
    assert "the kernel believes 9" in text


def test_a_difference_at_a_function_that_is_not_preserved_is_marked_too(answers: Answers) -> None:
    story = Story()
    tell_state(story)[EP1]["power"] = "D3hot"
    assert "!! 04:00.0 ep1 PMCSR.power_state holds D0; the kernel believes D3hot" in answers(story)


def test_a_device_at_work_that_the_kernel_has_not_enabled_is_remarked_upon(answers: Answers) -> None:
    story = Story()
    tell_state(story)[EP0]["enable"] = 0
    text = answers(story)
    assert "03:00.0 ep0: luscope-stream, enable count 0, though it is bus master, D0" in text
    assert "!!" not in text


def test_a_kernel_that_nobody_asked_is_not_said_to_be_right(answers: Answers) -> None:
    assert "against what the hardware holds nobody asked it" in answers(Story())


def test_every_update_of_a_chain_is_answered(answers: Answers) -> None:
    text = answers(chain(2))
    assert text.count("in which state was each device at the jump (update #") == 2


def test_a_guest_that_was_never_frozen_has_no_jump_to_tell_of(answers: Answers) -> None:
    story = Story()
    story.remove(lambda event: event.tag in ("frozen", "frozen ack"))
    assert "jump" not in answers(story)


def test_the_answers_are_part_of_the_report(tmp_path: Path) -> None:
    timeline = load_timeline(Story().save(tmp_path / "r.lus"))
    report = render_text(timeline, verify(timeline, load_policy("series")))
    assert "in which state was each device at the jump" in report


def test_a_recording_that_cannot_be_answered_from_says_so_and_is_reported_still(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("enable")

    monkeypatch.setattr("pydev.report.questions._ordered", broken)
    assert "could not be answered: KeyError: 'enable'" in answers(Story())


def test_a_masked_function_is_told_as_masked(answers: Answers) -> None:
    story = Story()
    story.write(165, EP0, MSIX_CONTROL, 0xC003)
    story.reconnect()
    assert "03:00.0 ep0: MSI-X on, masked" in answers(story)
