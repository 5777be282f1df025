# SPDX-License-Identifier: MIT
"""What the kernel series promises: each planted fault fails its own rule and exactly its consequences."""

from collections.abc import Callable
from typing import Any

import pytest

from pydev.continuity import Outcome, Result, Verdict
from pydev.ports import Gate, ResetKind
from pydev.recording.format import Flag, Kind
from pydev.testkit.story import (
    DN1,
    EP0,
    EP1,
    EP_ACS,
    EP_DEVCTL,
    EP_LNKCTL,
    FINISHED,
    FROZEN,
    MSIX_CONTROL,
    PMCSR,
    RP1,
    SWEEP,
    UP1,
    UPDATED,
    Story,
    at,
    offset,
)
from pydev.testkit.story_chain import chain

Judge = Callable[..., Verdict]


def result(verdict: Verdict, rule: str) -> Result:
    return next(entry.result for entry in verdict.rules if entry.rule.id == rule)


def outcome(verdict: Verdict, rule: str) -> Outcome:
    return result(verdict, rule).outcome


def causes(verdict: Verdict) -> dict[str, str | None]:
    """Every rule that fails, with its cause."""
    return {rule: result(verdict, rule).caused_by for rule in verdict.failing_rules}


# ------------------------------------------------------------------------ reset


def stop_stream(story: Story, ms: float) -> None:
    for event in story.tagged("stop"):
        event.t_ns = at(ms)
    story.remove(lambda e: e.kind == Kind.DMA_WRITE and e.t_ns > at(ms))


def clear(story: Story, ms: float, kind: ResetKind) -> None:
    """What a reset does to ep0, in the order and with the stamps of the server's records."""
    story.add(ms + 0.1, Kind.GATE, function=EP0, extra=0, aux=int(Gate.IN_RESET))
    stop_stream(story, ms + 0.15)
    closed = int(Gate.BUS_MASTER_OFF)
    story.add(ms + 0.4, Kind.GATE, function=EP0, extra=int(Gate.IN_RESET), aux=closed)
    story.add(ms + 0.4, Kind.RESET, function=EP0, value=int(kind))
    story.update(ms + 0.41, EP0, 0x04, 0x00100000)
    story.update(ms + 0.41, EP0, 0x10, 0)


def restore(story: Story, ms: float) -> None:
    story.write(ms, EP0, 0x10, 0xFE000000, 4)
    story.add(ms + 0.2, Kind.GATE, function=EP0, extra=int(Gate.BUS_MASTER_OFF), aux=0)
    story.write(ms + 0.2, EP0, 0x04, 0x106)
    story.reconnect()


def flr() -> Story:
    story = Story()
    story.write(225, EP0, EP_DEVCTL, 0xA810, after=0x2810)
    clear(story, 225, ResetKind.FUNCTION_LEVEL)
    restore(story, 228)
    return story


def flr_and_nobody_restores() -> Story:
    story = Story()
    story.write(225, EP0, EP_DEVCTL, 0xA810, after=0x2810)
    clear(story, 225, ResetKind.FUNCTION_LEVEL)
    story.reconnect()
    return story


def bus_reset() -> Story:
    story = Story()
    story.write(225, DN1, 0x3E, 0x42)
    story.server(225.3, EP0, 0x04, 0x100, 2, after=None)  # the client's own, of its reset sequence
    clear(story, 225.5, ResetKind.DEVICE)
    story.write(227, DN1, 0x3E, 0x02)
    restore(story, 228)
    return story


def bus_reset_of_the_whole_switch() -> Story:
    story = Story()
    story.write(UPDATED + 1, RP1, 0x3E, 0x42)
    return story


def d3hot_and_back() -> Story:
    story = Story()
    story.write(231, EP0, PMCSR, 3)
    story.block(231, 235.1, Gate.POWER_STATE)
    story.write(235, EP0, PMCSR, 0)
    clear(story, 235, ResetKind.POWER_STATE)
    restore(story, 238)
    return story


# ---------------------------------------------------------------- value-neutral


def acs_dropped() -> Story:
    story = Story()
    story.write(SWEEP + 5, RP1, offset(RP1, "ACS_CONTROL"), 0)
    return story


def acs_dropped_for_a_moment() -> Story:
    story = Story()
    story.write(SWEEP + 5, RP1, offset(RP1, "ACS_CONTROL"), 0)
    story.write(SWEEP + 5.01, RP1, offset(RP1, "ACS_CONTROL"), 0x1D)
    return story


def acs_of_the_endpoint_dropped() -> Story:
    story = Story()
    story.write(SWEEP + 5, EP0, EP_ACS, 0)
    return story


def acs_switched_on() -> Story:
    story = Story()
    story.remove_tag("acs on")
    story.write(30, RP1, offset(RP1, "ACS_CONTROL"), 0)
    story.write(SWEEP + 5, RP1, offset(RP1, "ACS_CONTROL"), 0x1D)
    return story


def ari_dropped() -> Story:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "DEVCTL2"), 0)
    return story


def payload_size_changed() -> Story:
    story = Story()
    story.write(SWEEP + 5, EP0, EP_DEVCTL, 0x2830)
    return story


def payload_size_of_a_bridge_for_a_moment() -> Story:
    story = Story()
    story.write(SWEEP + 5, UP1, offset(UP1, "DEVCTL"), 0x20)
    story.write(SWEEP + 5.2, UP1, offset(UP1, "DEVCTL"), 0)
    return story


def tags_changed() -> Story:
    story = Story()
    story.write(SWEEP + 5, RP1, offset(RP1, "DEVCTL"), 0x100)
    return story


def link_changed() -> Story:
    story = Story()
    story.write(SWEEP + 5, EP0, EP_LNKCTL, 0x08)
    return story


def link_of_a_bridge_changed() -> Story:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "LNKCTL"), 0x40)
    return story


def link_disabled_for_a_moment() -> Story:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "LNKCTL"), 0x10)
    story.write(SWEEP + 5.1, DN1, offset(DN1, "LNKCTL"), 0)
    return story


def bridge_in_d3hot() -> Story:
    story = Story()
    story.write(UPDATED + 5, DN1, offset(DN1, "PMCSR"), 3)
    return story


# -------------------------------------------------------------------- the rest


def endpoint_dips() -> Story:
    """Bus mastering off and on again within three microseconds, and no transaction was due."""
    story = Story()
    story.write(SWEEP + 10.0500, EP0, 0x04, 0x100)
    story.write(SWEEP + 10.0530, EP0, 0x04, 0x104)
    story.add(SWEEP + 10.05, Kind.GATE, function=EP0, extra=0, aux=int(Gate.BUS_MASTER_OFF))
    story.add(SWEEP + 10.053, Kind.GATE, function=EP0, extra=int(Gate.BUS_MASTER_OFF), aux=0)
    story.reconnect()
    return story


def bridge_dips() -> Story:
    story = Story()
    story.write(SWEEP + 10.0500, UP1, 0x04, 0x101)
    story.write(SWEEP + 10.0530, UP1, 0x04, 0x107)
    return story


def bus_rescan_moves_numbers() -> Story:
    """Hazard 65: a rescan before the finish is judged by the rules of what it writes."""
    story = Story()
    story.trace(UPDATED + 10, UP1, 0x18, 0x00030201, write=False)
    story.write(UPDATED + 10.1, UP1, 0x18, 0, 4)
    story.write(UPDATED + 10.2, UP1, 0x18, 0x00030201, 4)
    return story


def control_left_alone() -> Story:
    story = Story()
    story.remove(lambda e: e.tag == "shutdown" and e.fields.get("function") == EP1)
    story.reconnect()
    return story


def no_catch_up() -> Story:
    story = Story()
    story.remove_tag("doorbell")
    story.remove_tag("catch-up")
    return story


def two_catch_ups() -> Story:
    story = Story()
    story.add(FINISHED + 1, Kind.INTERRUPT, function=EP0, region=2, address=1, value=2)
    return story


def catch_up_lost() -> Story:
    story = Story()
    story.tagged("catch-up")[0].fields |= {"flags": int(Flag.BLOCKED), "error": int(Gate.INTERRUPTS_OFF)}
    return story


def catch_up_pending() -> Story:
    story = Story()
    story.tagged("catch-up")[0].fields |= {"flags": int(Flag.PENDING), "error": int(Gate.FUNCTION_MASKED)}
    return story


def catch_up_too_early() -> Story:
    story = Story()
    story.tagged("catch-up")[0].t_ns = at(UPDATED + 20)
    return story


def vectors_of_the_outgoing_kernel() -> Story:
    story = Story()
    story.tagged("vectors anew")[0].t_ns = at(121)
    return story


def vectors_without_a_file() -> Story:
    story = Story()
    story.tagged("vectors anew")[0].fields["extra"] = 0
    return story


def members(story: Story, tag: str) -> dict[str, Any]:
    found = story.tagged(tag)[-1].members
    assert found is not None
    return found


def page_not_preserved() -> Story:
    story = Story()
    report = members(story, "retrieve")
    for name in ("report", "ranges", "driver"):
        del report[name]
    report |= {"ok": False, "errno": 14, "error": "page is not preserved", "page": 1}
    story.remove_tag("check")
    del members(story, "finish")["report"]
    members(story, "finish").update(ok=False, errno=16)
    story.remove(lambda e: e.tag in ("doorbell", "catch-up", "msix anew", "vectors anew"))
    return story


def never_retrieved() -> Story:
    story = page_not_preserved()
    story.remove_tag("retrieve")
    return story


def finished_early() -> Story:
    story = Story()
    members(story, "retrieve")["incoming"] = False
    return story


def finish_before_retrieve() -> Story:
    story = Story()
    story.agent(UPDATED + 2, report="finish", ok=True, bdf="0000:03:00.0")
    return story


def status_says_finished() -> Story:
    story = Story()
    story.host(UPDATED + 10, "status", bdf="0000:03:00.0")
    story.agent(UPDATED + 11, ok=True, bdf="0000:03:00.0", driver=True, incoming=False)
    return story


def retrieve_refused_and_finished() -> Story:
    """As a driver does that could not take its buffer back: it lets go of the device, and raises nothing."""
    story = page_not_preserved()
    story.remove_tag("finish")
    story.agent(FINISHED, re=0, ok=True, report="finish", session="s", driver=True)
    return story


def panics_over_a_lost_page() -> Story:
    story = Story()
    story.remove(lambda e: e.members is not None and e.t_ns > at(FROZEN + 1))
    story.console(
        235, "[    0.900000] Kernel panic - not syncing: PCI: liveupdate: preserved devices are lost"
    )
    return story


def refused_to_preserve() -> Story:
    story = Story()
    report = members(story, "preserve")
    for name in ("report", "ranges"):
        del report[name]
    report |= {"ok": False, "errno": 12}
    story.remove_tag("retrieve")
    story.remove_tag("check")
    return story


GONE = {"PRESERVED-SET": None, "GUEST-UPDATED": "PRESERVED-SET"}
"""Nothing was taken back: what is missing of the update follows."""

FAULTS: dict[Callable[[], Story], dict[str, str | None]] = {
    flr: {"RESET": None, "BME-ENDPOINT": "RESET", "DMA-CONTINUITY": "RESET"},
    flr_and_nobody_restores: {
        "RESET": None,
        "BME-ENDPOINT": "RESET",
        "BAR-FINAL": "RESET",
        "DMA-CONTINUITY": "RESET",
    },
    bus_reset: {"RESET": None, "BME-ENDPOINT": "RESET", "DMA-CONTINUITY": "RESET"},
    bus_reset_of_the_whole_switch: {
        "RESET": None,
        "BME-BRIDGE": "RESET",
        "BUS-NUMBERS": "RESET",
        "REQUESTER-ID": "BUS-NUMBERS",
        "ARI-FORWARDING": "RESET",
        "UPSTREAM-FORWARDING": "RESET",
    },
    d3hot_and_back: {
        "POWER-STATE": None,
        "RESET": "POWER-STATE",
        "BME-ENDPOINT": "RESET",
        "DMA-CONTINUITY": "POWER-STATE",
    },
    acs_dropped: {"ACS-CONTROL": None},
    acs_dropped_for_a_moment: {"ACS-CONTROL": None},
    acs_of_the_endpoint_dropped: {"ACS-CONTROL": None},
    acs_switched_on: {"ACS-CONTROL": None},
    ari_dropped: {"ARI-FORWARDING": None},
    payload_size_changed: {"DEVICE-CONTROL": None},
    payload_size_of_a_bridge_for_a_moment: {"DEVICE-CONTROL": None},
    tags_changed: {"DEVICE-CONTROL": None},
    link_changed: {"LINK-CONTROL": None},
    link_of_a_bridge_changed: {"LINK-CONTROL": None},
    link_disabled_for_a_moment: {"LINK-CONTROL": None},
    bridge_in_d3hot: {"POWER-STATE": None, "UPSTREAM-FORWARDING": "POWER-STATE"},
    endpoint_dips: {"BME-ENDPOINT": None},
    bridge_dips: {"BME-BRIDGE": None},
    bus_rescan_moves_numbers: {"BUS-NUMBERS": None, "RESCAN": None},
    control_left_alone: {"CONTROL-CLEARED": None},
    no_catch_up: {"CATCH-UP": None},
    two_catch_ups: {"CATCH-UP": None},
    catch_up_lost: {"CATCH-UP": None},
    catch_up_pending: {"CATCH-UP": None},
    catch_up_too_early: {"CATCH-UP": None},
    vectors_of_the_outgoing_kernel: {"MSIX-SEQUENCE": None, "CATCH-UP": "MSIX-SEQUENCE"},
    vectors_without_a_file: {"MSIX-SEQUENCE": None, "CATCH-UP": "MSIX-SEQUENCE"},
    page_not_preserved: GONE,
    never_retrieved: GONE,
    panics_over_a_lost_page: GONE,
    finished_early: {"PRESERVED-SET": None},
    finish_before_retrieve: {"PRESERVED-SET": None},
    status_says_finished: {"PRESERVED-SET": None},
    retrieve_refused_and_finished: GONE,
    refused_to_preserve: GONE,
}


@pytest.mark.parametrize("tell", FAULTS, ids=lambda tell: tell.__name__)
def test_a_planted_fault_fails_its_rule_and_its_consequences_only(
    judge: Judge, tell: Callable[[], Story]
) -> None:
    verdict = judge(tell())
    told = [(e.rule.id, str(e.result.outcome), e.result.findings) for e in verdict.rules]
    assert causes(verdict) == FAULTS[tell], told
    assert verdict.outcome == "FAIL"


def test_the_refused_page_is_named(judge: Judge) -> None:
    finding = result(judge(page_not_preserved()), "PRESERVED-SET").findings[0]
    assert finding.message == (
        "the guest could not retrieve 03:00.0: page 1, errno 14, page is not preserved"
    )


def test_a_reset_names_the_function_and_its_kind(judge: Judge) -> None:
    messages = [finding.message for finding in result(judge(flr()), "RESET").findings]
    assert messages == ["03:00.0 did a Function Level Reset"]


# ------------------------------------------------------- acceptable, or not decided


def same_values_again() -> Story:
    story = Story()
    story.write(SWEEP + 5, RP1, offset(RP1, "ACS_CONTROL"), 0x1D)
    story.write(SWEEP + 6, DN1, offset(DN1, "DEVCTL2"), 0x20)
    story.write(SWEEP + 7, EP0, EP_LNKCTL, 0)
    return story


def retrain() -> Story:
    story = Story()
    story.write(SWEEP + 5, RP1, offset(RP1, "LNKCTL"), 0x20)
    return story


def tags_for_a_moment() -> Story:
    story = Story()
    story.write(SWEEP + 5, RP1, offset(RP1, "DEVCTL"), 0x100)
    story.write(SWEEP + 5.1, RP1, offset(RP1, "DEVCTL"), 0)
    return story


def bits_that_did_not_take() -> Story:
    """Link Disable written to a port whose bit is read-only, as the read just after it shows."""
    story = Story()
    story.write(SWEEP + 5, UP1, offset(UP1, "LNKCTL"), 0x10)
    story.trace(SWEEP + 5.1, UP1, offset(UP1, "LNKCTL"), 0, write=False)
    story.write(SWEEP + 5.2, UP1, offset(UP1, "LNKCTL"), 0)
    return story


def reset_before_the_freeze() -> Story:
    story = Story()
    story.add(50, Kind.RESET, function=EP0, value=int(ResetKind.FUNCTION_LEVEL))
    return story


def reset_of_a_control() -> Story:
    story = Story()
    story.add(220, Kind.RESET, function=EP1, value=int(ResetKind.FUNCTION_LEVEL))
    return story


@pytest.mark.parametrize(
    "tell",
    [same_values_again, retrain, tags_for_a_moment, bits_that_did_not_take, reset_before_the_freeze,
     reset_of_a_control],
)  # fmt: skip
def test_what_is_acceptable_passes(judge: Judge, tell: Callable[[], Story]) -> None:
    verdict = judge(tell())
    assert verdict.outcome == "PASS", [(e.rule.id, e.result) for e in verdict.rules]


def no_dumps() -> Story:
    story = Story()
    story.remove_tag("dump")
    return story


def dump_shows_what_nobody_wrote() -> Story:
    story = Story()
    story.remove(lambda e: e.tag == "dump" and e.t_ns > at(FROZEN + 10))
    story.trace(FINISHED - 2, RP1, offset(RP1, "ACS_CONTROL"), 0x0C, write=False)
    return story


def told_to_reset_and_nothing_happened() -> Story:
    story = Story()
    story.write(225, EP0, EP_DEVCTL, 0xA810, after=0x2810)
    return story


def nobody_was_asked_to_finish() -> Story:
    story = Story()
    story.remove_tag("finish")
    story.remove(lambda e: e.members is not None and e.members.get("cmd") == "finish")
    return story


def acs_set_after_the_freeze_by_nobody_knows_whom() -> Story:
    story = Story()
    story.remove_tag("acs on")
    story.remove_tag("dump")
    story.write(SWEEP + 5, RP1, offset(RP1, "ACS_CONTROL"), 0x1D)
    return story


@pytest.mark.parametrize(
    ("tell", "rule", "expected"),
    [
        (no_dumps, "LINK-CONTROL", "VACUOUS"),
        (dump_shows_what_nobody_wrote, "ACS-CONTROL", "UNKNOWN"),
        (told_to_reset_and_nothing_happened, "RESET", "UNKNOWN"),
        (nobody_was_asked_to_finish, "PRESERVED-SET", "UNKNOWN"),
        (acs_set_after_the_freeze_by_nobody_knows_whom, "ACS-CONTROL", "UNKNOWN"),
        (lambda: Story(preserve=False), "RESET", "VACUOUS"),
    ],
)
def test_what_was_not_seen_does_not_pass(
    judge: Judge, tell: Callable[[], Story], rule: str, expected: str
) -> None:
    verdict = judge(tell())
    if tell is no_dumps:  # endpoints have their own record: bridges alone would be vacuous
        assert result(verdict, rule).examined == 1
        return
    assert outcome(verdict, rule) == expected, result(verdict, rule)


def test_without_a_driver_no_catch_up_is_due(judge: Judge) -> None:
    story = no_catch_up()
    for event in story.events:
        if event.members is not None:
            event.members.pop("driver", None)
    verdict = judge(story)
    assert outcome(verdict, "CATCH-UP") == "VACUOUS"
    assert verdict.outcome == "PASS"


def test_msix_left_enabled_explains_a_catch_up_without_new_vectors(judge: Judge) -> None:
    story = Story()
    for tag in ("msix off", "msix anew", "vectors anew"):
        story.remove_tag(tag)
    story.reconnect()
    assert causes(judge(story)) == {"MSIX-TAKEOVER": None, "CATCH-UP": "MSIX-TAKEOVER"}


def test_acs_and_ari_that_were_off_throughout_are_vacuous_and_do_not_count(judge: Judge) -> None:
    story = Story()
    for tag in ("acs on", "ari on", "acs of ep0 on"):
        story.remove_tag(tag)
    verdict = judge(story)
    assert [outcome(verdict, rule) for rule in ("ACS-CONTROL", "ARI-FORWARDING")] == ["VACUOUS"] * 2
    assert verdict.outcome == "PASS"


def test_a_bridge_let_go_after_the_first_of_two_finishes_fails(judge: Judge) -> None:
    """Devices are finished one by one: the blackout ends with the last."""
    story = Story()
    story.agent(UPDATED + 25, report="finish", ok=True, session="other", buffers=[["0000:04:00.0", 27]])
    assert judge(story).outcome == "PASS"
    story.write(UPDATED + 28, UP1, 0x04, 0x103)
    assert causes(judge(story)) == {"BME-BRIDGE": None, "UPSTREAM-FORWARDING": "BME-BRIDGE"}


# ----------------------------------------------------------------------- chains


def test_five_updates_in_a_row_are_each_judged(judge: Judge) -> None:
    verdict = judge(chain(5))
    assert verdict.outcome == "PASS", [(e.rule.id, e.result) for e in verdict.rules]
    assert (verdict.updates, verdict.guest) == (5, "updated")
    assert result(verdict, "PRESERVED-SET").examined == 5
    assert result(verdict, "CATCH-UP").examined == 5


@pytest.mark.parametrize("update", range(5))
def test_one_bad_update_of_five_fails(judge: Judge, update: int) -> None:
    story = chain(5)
    wanted = sorted(story.tagged("catch-up"), key=lambda e: e.t_ns)[update]
    story.events.remove(wanted)
    assert causes(judge(story)) == {"CATCH-UP": None}


def test_a_chain_that_skips_a_number_fails(judge: Judge) -> None:
    story = chain(5)
    event = sorted(story.tagged("retrieved"), key=lambda e: e.t_ns)[2]
    event.line = "luo: Retrieved live update data, liveupdate number: 1"
    assert causes(judge(story)) == {"GUEST-UPDATED": None}


def test_msix_on_again_for_each_update(judge: Judge) -> None:
    story = chain(2)
    controls = [e for e in story.events if e.fields.get("address") == MSIX_CONTROL]
    assert sum(e.kind == Kind.REGION_WRITE for e in controls) == 8
    assert outcome(judge(story), "MSIX-TAKEOVER") == "PASS"
