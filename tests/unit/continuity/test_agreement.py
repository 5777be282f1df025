# SPDX-License-Identifier: MIT
"""The witnesses of a config write against each other: whatever one of them tells otherwise is named."""

from collections.abc import Callable
from typing import Any

import pytest

from pydev.continuity import Outcome, Result, Verdict
from pydev.recording.format import Kind
from pydev.testkit.story import (
    BEGIN_NS,
    DN1,
    EP0,
    EP1,
    FROZEN,
    MS,
    MSIX_CONTROL,
    RP1,
    UP1,
    Event,
    Story,
    at,
    offset,
)
from pydev.testkit.story_chain import chain

Judge = Callable[..., Verdict]

PLUGIN, TRACE, SERVER = Kind.PLUGIN_WRITE, Kind.TRACE_WRITE, Kind.REGION_WRITE
WITNESSES = {PLUGIN: "the plugin did not see it", TRACE: "the trace has no line for it",
             SERVER: "the server did not record it"}  # fmt: skip


def agreement(verdict: Verdict) -> Result:
    return next(entry.result for entry in verdict.rules if entry.rule.id == "WRITES-AGREE")


def messages(verdict: Verdict) -> list[str]:
    return [finding.message for finding in agreement(verdict).findings]


def one(story: Story, kind: Kind, tag: str = "msix off") -> Event:
    """The account of one witness of the write of that tag."""
    (found,) = (e for e in story.tagged(tag) if e.kind is kind)
    return found


def test_a_clean_story_agrees_and_counts_each_write_once(judge: Judge) -> None:
    story = Story()
    result = agreement(judge(story))
    assert (result.outcome, result.findings, result.reasons) == (Outcome.PASS, (), ())
    assert result.examined == sum(event.kind is PLUGIN for event in story.events)


def test_a_chain_of_updates_agrees(judge: Judge) -> None:
    assert agreement(judge(chain(3))).outcome is Outcome.PASS


def test_without_a_plugin_two_agree_and_the_result_says_what_that_does_not_prove(judge: Judge) -> None:
    story = Story(plugin=False)
    verdict = judge(story)
    result = agreement(verdict)
    assert result.outcome is Outcome.PASS
    assert result.reasons == (
        "without the TCG plugin bridges have one witness, QEMU's trace (the accelerator kvm has no plugins)",
    )
    assert verdict.outcome == "PASS"


def test_a_recording_that_does_not_speak_of_a_plugin_is_judged_by_two(judge: Judge) -> None:
    story = Story(plugin=False)
    del story.header["attribution"]
    assert agreement(judge(story)).outcome is Outcome.PASS


# ------------------------------------------------------------------- one is missing


@pytest.mark.parametrize("kind", [PLUGIN, TRACE, SERVER])
def test_an_account_that_lacks_an_endpoints_write_is_named(judge: Judge, kind: Kind) -> None:
    story = Story()
    story.events.remove(one(story, kind))
    verdict = judge(story)
    (message,) = messages(verdict)
    others = [
        name for other, name in ((PLUGIN, "plugin"), (TRACE, "trace"), (SERVER, "server")) if other != kind
    ]
    assert message.startswith("03:00.0 write of MSIX_CONTROL (@")
    assert f"<- 0x3, 2 bytes: {WITNESSES[kind]}; the {others[0]} and the {others[1]} have it" in message
    assert agreement(verdict).outcome is Outcome.UNKNOWN
    assert verdict.outcome is not Outcome.PASS


@pytest.mark.parametrize("kind", [PLUGIN, TRACE])
def test_an_account_that_lacks_a_bridges_write_is_named(judge: Judge, kind: Kind) -> None:
    story = Story()
    story.write(215, UP1, offset(UP1, "LNKCTL"), 0, tag="link", by="pcie_aspm_init_link_state")
    story.events.remove(one(story, kind, "link"))
    verdict = judge(story)
    (finding,) = agreement(verdict).findings
    assert finding.message.startswith("01:00.0 write of LNKCTL (@0xa0) <- 0x0")
    assert WITNESSES[kind] in finding.message
    assert finding.register == "LNKCTL"
    assert finding.phase == "enumeration"
    assert (finding.width, finding.function) == (
        (None, None) if kind is PLUGIN else (2, "pcie_aspm_init_link_state")
    )


def test_a_missing_write_is_named_with_the_function_that_made_it(judge: Judge) -> None:
    story = Story()
    story.write(172, EP0, MSIX_CONTROL, 0x8003, tag="again", by="pci_msix_clear_and_set_ctrl")
    story.events.remove(one(story, SERVER, "again"))
    finding = next(f for f in agreement(judge(story)).findings if "0x8003" in f.message)
    assert finding.message.endswith("; by pci_msix_clear_and_set_ctrl")
    assert (finding.t_ns, finding.phase, finding.bdf) == (at(172) - 90_000, "shutdown", 0x300)
    assert finding.stack[0] == "pci_conf1_write"


@pytest.mark.parametrize("kinds", [(PLUGIN, TRACE), (PLUGIN, SERVER), (TRACE, SERVER)])
def test_a_write_that_one_alone_has_is_named(judge: Judge, kinds: tuple[Kind, Kind]) -> None:
    story = Story()
    for kind in kinds:
        story.events.remove(one(story, kind))
    (message,) = messages(judge(story))
    assert all(WITNESSES[kind] in message for kind in kinds)


def test_a_write_that_nobody_but_the_server_has_is_none_of_qemus_own(judge: Judge) -> None:
    story = Story()
    story.server(233, EP0, 0x30, 0, 4, after=0)
    (message,) = messages(judge(story))
    assert "ROM" in message
    assert "the plugin did not see it and the trace has no line for it; the server has it" in message


def test_writes_of_qemu_itself_need_no_other_witness(judge: Judge) -> None:
    story = Story()
    story.add(140, Kind.IRQ_SETUP, function=EP1, region=2)
    story.server(140.1, EP1, 0x04, 0, 2, after=None)
    story.add(140.2, Kind.RESET, function=EP1, value=1)
    story.server(140.3, EP1, 0x10, 0, 4, after=None)
    story.reconnect()
    assert messages(judge(story)) == []


def test_a_guests_write_near_a_reset_is_not_taken_for_qemus(judge: Judge) -> None:
    for is_lost in (False, True):
        story = Story()
        story.write(139.9, EP1, 0x04, 0x100, tag="guest's")
        story.server(140.1, EP1, 0x04, 0, 2, after=None)
        story.add(140.2, Kind.RESET, function=EP1, value=1)
        if is_lost:
            story.events.remove(one(story, SERVER, "guest's"))
        story.reconnect()
        assert bool(messages(judge(story))) is is_lost


# ---------------------------------------------------------------- one has it otherwise


@pytest.mark.parametrize("kind", [PLUGIN, TRACE, SERVER])
@pytest.mark.parametrize(("name", "value"), [("value", 0x13), ("address", MSIX_CONTROL + 2)])
def test_an_account_of_another_value_or_place_is_named(
    judge: Judge, kind: Kind, name: str, value: int
) -> None:
    story = Story()
    one(story, kind).fields[name] = value
    verdict = judge(story)
    assert len(messages(verdict)) == 2  # what it lacks, and what it alone has
    assert any(WITNESSES[kind] in message for message in messages(verdict))
    assert verdict.outcome is not Outcome.PASS


@pytest.mark.parametrize("kind", [PLUGIN, TRACE])
def test_an_account_of_another_bus_number_is_named(judge: Judge, kind: Kind) -> None:
    story = Story()
    one(story, kind).fields["region"] = 0x0500
    verdict = judge(story)
    assert any("05:00.0" in message for message in messages(verdict)), messages(verdict)
    assert agreement(verdict).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("size", [1, 4])
def test_an_account_of_another_width_is_named(judge: Judge, size: int) -> None:
    story = Story()
    one(story, PLUGIN).fields["error"] = size
    one(story, PLUGIN).fields["address"] -= one(story, PLUGIN).fields["address"] % size
    for kind in (TRACE, SERVER):
        one(story, kind).fields["address"] = one(story, PLUGIN).fields["address"]
    said = f"the plugin saw {size} byte"
    assert any(said in message and "the server 2" in message for message in messages(judge(story)))


def test_a_width_that_the_accessor_on_the_stack_does_not_write_is_named(judge: Judge) -> None:
    story = Story()
    story.write(215, UP1, 0x04, 0x107, tag="wide")
    one(story, PLUGIN, "wide").fields["error"] = 4
    (message,) = messages(judge(story))
    assert "01:00.0 write of COMMAND to STATUS (@0x4) <- 0x107, 4 bytes" in message
    assert "the plugin saw 4 bytes, pci_bus_write_config_word writes 2" in message


@pytest.mark.parametrize("kind", [PLUGIN, TRACE, SERVER])
def test_an_account_that_has_a_write_twice_is_named(judge: Judge, kind: Kind) -> None:
    story = Story()
    again = one(story, kind)
    copy = Event(again.t_ns + 1000, again.kind, dict(again.fields), tag="copy", writer=again.writer)
    copy.fields["extra" if kind is SERVER else "value"] = again.fields["aux" if kind is SERVER else "value"]
    story.events.append(copy)
    (message,) = messages(judge(story))
    assert "(ambiguous: one of several equal writes)" in message
    assert f"the {({PLUGIN: 'plugin', TRACE: 'trace', SERVER: 'server'})[kind]} has it" in message


def test_equal_writes_in_a_row_that_everybody_has_are_no_matter(judge: Judge) -> None:
    story = Story()
    for n in range(4):
        story.write(215 + n, UP1, 0x04, 0x107)
        story.write(215 + n, EP0, MSIX_CONTROL, 0x0003)
    story.reconnect()
    result = agreement(judge(story))
    assert (result.outcome, result.findings) == (Outcome.PASS, ())


def swap(story: Story, kind: Kind, function: int) -> None:
    """Two neighbouring writes of a function change places in one account, and nothing else of them."""
    first, second = (e for e in story.tagged("pair") if e.kind is kind)
    names = ("address", "value", "error", "size", "aux", "extra")
    one, other = ({n: e.fields[n] for n in names if n in e.fields} for e in (first, second))
    first.fields |= other
    second.fields |= one


@pytest.mark.parametrize(
    ("function", "kind"),
    [(UP1, PLUGIN), (UP1, TRACE), (EP0, PLUGIN), (EP0, TRACE), (EP0, SERVER)],
)
def test_two_that_changed_places_in_one_account_are_named_once(
    judge: Judge, function: int, kind: Kind
) -> None:
    story = Story()
    story.write(215, function, 0x3C, 5, 1, tag="pair")
    story.write(216, function, 0x3C, 6, 1, tag="pair")
    story.reconnect()
    assert messages(judge(story)) == []
    swap(story, kind, function)
    if kind is SERVER:
        story.reconnect()
    (message,) = messages(judge(story))
    name = {PLUGIN: "plugin", TRACE: "trace", SERVER: "server"}[kind]
    others = {"plugin", "trace", "server"} if function == EP0 else {"plugin", "trace"}
    # Of two accounts nobody can say which one is in order.
    assert "in another place of the order" in message
    assert f"the {name} has" in message or len(others) == 2


def test_records_that_changed_places_with_their_stamps_are_a_clock_that_went_back(judge: Judge) -> None:
    for kind in (PLUGIN, TRACE, SERVER):
        story = Story()
        story.write(215, UP1, 0x04, 0x107, tag="a")
        story.write(216, EP0, 0x3C, 6, 1, tag="b")
        story.write(217, EP1, 0x3C, 6, 1, tag="c")
        story.reconnect()
        moved = one(story, kind, "b")
        if kind is TRACE:  # written in the order of their stamps: another stamp is another place
            moved.t_ns = at(212)
            assert messages(judge(story)) != []
            continue
        moved.slot_ns = at(218)
        assert any("the clock went backwards" in message for message in messages(judge(story)))


def test_a_stamp_far_from_the_other_accounts_is_named(judge: Judge) -> None:
    story = Story()
    story.write(215, UP1, 0x3C, 5, 1, tag="late")
    one(story, PLUGIN, "late").t_ns -= 3 * MS
    assert messages(judge(story)) == []
    story.remove(lambda e: e.kind is PLUGIN and at(100) < e.t_ns < at(213) and e.tag != "late")
    story.remove(lambda e: e.kind in (TRACE, SERVER) and at(100) < e.t_ns < at(213))
    one(story, PLUGIN, "late").t_ns = at(150)
    assert any("apart" in message for message in messages(judge(story)))


@pytest.mark.parametrize(("address", "ms", "words"), [(0x3C, -0.2, "before"), (0x148, 0.2, "after")])
def test_a_server_that_recorded_a_write_on_the_wrong_side_of_its_instruction_is_named(
    judge: Judge, address: int, ms: float, words: str
) -> None:
    story = Story()
    story.write(215, EP0, address, 0, 1, tag="moved")
    story.reconnect()
    assert messages(judge(story)) == []
    one(story, SERVER, "moved").t_ns += round(ms * MS)
    (message,) = messages(judge(story))
    assert f"the server recorded it {words} it was made" in message


def test_a_servers_record_that_comes_after_the_blackout_it_belongs_to_is_named(judge: Judge) -> None:
    story = Story()
    story.write(122, EP0, 0x3C, 5, 1, tag="late")
    one(story, SERVER, "late").t_ns = at(FROZEN + 15)
    story.reconnect()
    assert any("after the trace" in message for message in messages(judge(story)))


# ------------------------------------------------------------------ the plugin's own word


def no_last_word(story: Story) -> None:
    story.remove_tag("plugin end")


def two_last_words(story: Story) -> None:
    story.add(299.9, Kind.PLUGIN_END, value=sum(e.kind is PLUGIN for e in story.events))


def another_count(story: Story) -> None:
    story.tagged("plugin end")[0].fields["value"] = 7


def found_no_room(story: Story) -> None:
    story.tagged("plugin end")[0].fields["extra"] = 3


def saw_nothing(story: Story) -> None:
    story.remove(lambda e: e.kind is PLUGIN)


def is_not_declared(story: Story) -> None:
    story.header["attribution"] = {"plugin": False, "reason": "no"}


def is_not_spoken_of(story: Story) -> None:
    del story.header["attribution"]


def other_count_of_authors(story: Story) -> None:
    story.trailer["attribution"] = {"writes": 12, "problems": []}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_last_word, "never said its last word"),
        (two_last_words, "said its last word 2 times"),
        (another_count, "wrote 7 records"),
        (found_no_room, "found no room for 3 writes"),
        (saw_nothing, "saw no config write"),
        (is_not_declared, "declares no TCG plugin, and there are records of one"),
        (is_not_spoken_of, "declares no TCG plugin, and there are records of one"),
        (other_count_of_authors, "12 of the plugin's records were attributed"),
    ],
)
def test_a_plugin_that_does_not_prove_its_account_whole_leaves_all_unknown(
    judge: Judge, spoil: Callable[[Story], None], words: str
) -> None:
    story = Story()
    spoil(story)
    verdict = judge(story)
    assert any(words in message for message in messages(verdict)), messages(verdict)
    assert verdict.outcome is Outcome.UNKNOWN


# ------------------------------------------------------------------------ foreign functions


def foreign(story: Story, *, plugin: bool, trace: bool, address: int = 0x44, **fields: int) -> None:
    """A write to 00:1f.0, which is not the experiment's."""
    place: dict[str, Any] = {"region": 0xF8, "address": address, "value": 3}
    if trace:
        story.add(215.01, TRACE, **place)
    if plugin:
        story.plugin(215, RP1, address, 3, 1)
        story.events[-1].fields |= place | fields


@pytest.mark.parametrize(("plugin", "trace"), [(True, False), (False, True)])
def test_a_foreign_functions_write_needs_both_witnesses_too(judge: Judge, plugin: bool, trace: bool) -> None:
    story = Story()
    foreign(story, plugin=True, trace=True)
    assert messages(judge(story)) == []
    story = Story()
    foreign(story, plugin=plugin, trace=trace)
    (message,) = messages(judge(story))
    assert message.startswith("00:1f.0 write of @0x44 <- 0x3")


@pytest.mark.parametrize(
    ("address", "is_present", "is_excused"),
    [(0x44, False, True), (0x44, True, False), (0x144, True, True)],
)
def test_a_write_through_the_window_that_qemu_does_not_trace_is_not_missed(
    judge: Judge, address: int, is_present: bool, is_excused: bool
) -> None:
    story = Story()
    foreign(story, plugin=True, trace=False, address=address, aux=1 << 16)
    if is_present:
        story.add(50, Kind.TRACE_READ, region=0xF8, address=0, value=0x29188086)
    assert (messages(judge(story)) == []) is is_excused


def test_a_servers_record_of_a_function_that_it_does_not_play_is_named(judge: Judge) -> None:
    for function in (DN1, 99):
        story = Story()
        fields: dict[str, Any] = {"region": 7, "address": 4, "size": 2, "value": 7, "aux": 7}
        story.add(215, SERVER, function=function, **fields)
        assert any("does not play" in message for message in messages(judge(story)))


def test_no_more_findings_are_listed_than_anybody_reads(judge: Judge) -> None:
    story = Story()
    for n in range(60):
        story.trace(211 + n / 10, UP1, 0x3C, n)
    found = messages(judge(story))
    assert len(found) == 33
    assert found[-1] == "and 28 more disagreements"


def test_the_times_of_findings_are_those_of_the_witness_that_knows_most(judge: Judge) -> None:
    story = Story()
    story.events.remove(one(story, TRACE))
    (finding,) = agreement(judge(story)).findings
    assert finding.t_ns == BEGIN_NS + 220 * MS - 90_000
