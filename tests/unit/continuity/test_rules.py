# SPDX-License-Identifier: MIT
"""Each rule's planted fault makes it FAIL, and what is acceptable does not."""

from collections.abc import Callable
from typing import Any

import pytest

from pydev.continuity import Outcome, Result, Verdict
from pydev.ports import Gate
from pydev.recording.format import Kind
from pydev.testkit.story import DN1, EP0, EP1, MSIX_CONTROL, PMCSR, RP1, STOP, SWEEP, UP1, UPDATED, Story, at

Judge = Callable[..., Verdict]


def result(verdict: Verdict, rule: str) -> Result:
    return next(entry.result for entry in verdict.rules if entry.rule.id == rule)


def outcome(verdict: Verdict, rule: str) -> Outcome:
    return result(verdict, rule).outcome


def test_a_clean_update_passes_every_rule(judge: Judge) -> None:
    verdict = judge(Story())
    required = {entry.rule.id: str(entry.result.outcome) for entry in verdict.rules if entry.required}
    assert required == dict.fromkeys(required, "PASS")
    optional = {str(entry.result.outcome) for entry in verdict.rules if not entry.required}
    assert optional <= {"PASS", "VACUOUS"}
    assert (verdict.outcome, verdict.as_expected, verdict.guest, verdict.updates) == (
        "PASS",
        True,
        "updated",
        1,
    )


def test_clearing_bus_master_of_a_preserved_endpoint_fails_and_names_the_write(judge: Judge) -> None:
    story = Story()
    story.write(172, EP0, 0x04, 0x102, tag="fault")
    story.block(172, 240, Gate.BUS_MASTER_OFF)
    story.write(240, EP0, 0x04, 0x106)
    story.reconnect()
    verdict = judge(story)
    finding = result(verdict, "BME-ENDPOINT").findings[0]
    assert (finding.register, finding.field, finding.width) == ("COMMAND", "bus_master", 2)
    assert (finding.before, finding.after, finding.bdf) == (0x106, 0x102, 0x0300)
    assert (finding.t_ns, finding.phase) == (at(172), "shutdown")
    assert finding.message == "COMMAND.bus_master 1 -> 0 at 03:00.0 in shutdown"
    assert verdict.failing_rules == ["BME-ENDPOINT", "DMA-CONTINUITY"]
    assert result(verdict, "DMA-CONTINUITY").caused_by == "BME-ENDPOINT"


def test_a_write_that_leaves_bus_master_set_is_no_finding(judge: Judge) -> None:
    story = Story()
    story.write(172, EP0, 0x04, 0x506)
    story.reconnect()
    assert outcome(judge(story), "BME-ENDPOINT") == "PASS"


def test_an_endpoint_that_is_not_preserved_may_lose_bus_master(judge: Judge) -> None:
    story = Story()
    story.write(172, EP1, 0x04, 0x103 & ~4)
    story.reconnect()
    assert outcome(judge(story), "BME-ENDPOINT") == "PASS"


@pytest.mark.parametrize("bridge", [DN1, UP1, RP1])
def test_any_bridge_of_the_path_that_loses_bus_master_fails(judge: Judge, bridge: int) -> None:
    story = Story()
    story.write(173, bridge, 0x04, 0x103)
    verdict = judge(story)
    finding = result(verdict, "BME-BRIDGE").findings[0]
    assert (finding.before, finding.after, finding.width) == (0x107, 0x103, 2)
    assert finding.function == "pci_clear_master"
    assert finding.stack[-3:] == ("__do_sys_reboot", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
    assert verdict.failing_rules == ["BME-BRIDGE", "UPSTREAM-FORWARDING"]
    assert result(verdict, "UPSTREAM-FORWARDING").caused_by == "BME-BRIDGE"


def test_without_the_plugin_a_bridges_write_has_neither_width_nor_author(judge: Judge) -> None:
    story = Story(plugin=False)
    story.write(173, UP1, 0x04, 0x103)
    verdict = judge(story)
    finding = result(verdict, "BME-BRIDGE").findings[0]
    assert (finding.before, finding.after, finding.width) == (0x107, 0x103, None)
    assert (finding.function, finding.stack) == (None, ())
    assert verdict.failing_rules == ["BME-BRIDGE", "UPSTREAM-FORWARDING"]
    assert result(verdict, "UPSTREAM-FORWARDING").caused_by == "BME-BRIDGE"


def test_an_endpoints_finding_names_the_author_that_the_plugin_saw(judge: Judge) -> None:
    story = Story()
    story.write(173, EP0, 0x04, 0x102, by="pci_clear_master")
    story.block(173.1, 250, Gate.BUS_MASTER_OFF)
    verdict = judge(story)
    for rule in ("BME-ENDPOINT", "DMA-CONTINUITY"):
        assert result(verdict, rule).findings[0].function == "pci_clear_master", rule


def test_a_bridge_that_loses_bus_master_in_the_incoming_kernel_fails(judge: Judge) -> None:
    story = Story()
    story.write(235, RP1, 0x04, 0x103)
    story.write(236, RP1, 0x04, 0x107)
    finding = result(judge(story), "BME-BRIDGE").findings[0]
    assert finding.phase == "probe"


def test_zeroing_bus_numbers_for_a_moment_fails(judge: Judge) -> None:
    story = Story()
    story.trace(SWEEP + 3.1, UP1, 0x18, 0x00030201, write=False)
    story.write(SWEEP + 3.2, UP1, 0x18, 0, 4)
    story.write(SWEEP + 3.3, UP1, 0x18, 0x00030201, 4)
    verdict = judge(story)
    names = {finding.register for finding in result(verdict, "BUS-NUMBERS").findings}
    assert names == {"PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS"}
    assert outcome(verdict, "BUS-NUMBERS") == "FAIL"


def test_the_same_bus_numbers_written_again_are_no_finding(judge: Judge) -> None:
    story = Story()
    story.write(SWEEP + 3.2, UP1, 0x18, 0x00030201, 4)
    assert outcome(judge(story), "BUS-NUMBERS") == "PASS"


def test_a_zero_at_18h_of_unknown_width_is_unknown_and_not_passed(judge: Judge) -> None:
    story = Story(plugin=False)
    story.remove(lambda e: e.tag == f"read buses {RP1}")
    # The root port's primary bus is 0 in any case: only the width says whether the others were touched.
    story.write(SWEEP + 3.2, RP1, 0x18, 0, 4)
    story.write(SWEEP + 3.3, RP1, 0x18, 0x00030100, 4)
    verdict = judge(story)
    assert outcome(verdict, "BUS-NUMBERS") == "UNKNOWN"
    assert verdict.outcome == "UNKNOWN"


def test_a_later_read_settles_the_width_of_an_earlier_write(judge: Judge) -> None:
    story = Story(plugin=False)
    story.remove(lambda e: e.tag == f"read buses {RP1}")
    story.write(SWEEP + 3.2, RP1, 0x18, 0, 4)
    story.trace(SWEEP + 3.3, RP1, 0x18, 0x00030100, write=False)
    assert outcome(judge(story), "BUS-NUMBERS") == "PASS"


def test_another_requester_id_while_streaming_fails_and_follows_the_bus_number(judge: Judge) -> None:
    story = Story()
    story.write(SWEEP + 15, DN1, 0x19, 9, 1)
    story.remove(lambda e: e.is_trace and e.fields["function"] == EP0 and e.t_ns > at(SWEEP + 15))
    story.remove(lambda e: e.kind == Kind.REGION_WRITE and e.tag == "msix off")
    verdict = judge(story)
    assert outcome(verdict, "REQUESTER-ID") == "FAIL"
    assert result(verdict, "REQUESTER-ID").caused_by == "BUS-NUMBERS"
    assert "09:00.0" in result(verdict, "REQUESTER-ID").findings[0].message


def test_a_bar_left_elsewhere_fails(judge: Judge) -> None:
    story = Story()
    for event in story.tagged(f"bar back {EP0}"):
        event.fields["value"] = 0xFD000000
        if event.kind == Kind.REGION_WRITE:
            event.fields["aux"] = 0xFD000000
    finding = result(judge(story), "BAR-FINAL").findings[0]
    assert (finding.register, finding.before, finding.after) == ("BAR0", 0xFE000000, 0xFD000000)


def test_d3hot_fails_and_explains_refused_dma(judge: Judge) -> None:
    story = Story()
    story.write(232, EP0, PMCSR, 3)
    story.block(232, 245, Gate.POWER_STATE)
    story.write(245, EP0, PMCSR, 0)
    story.reconnect()
    verdict = judge(story)
    assert verdict.failing_rules == ["POWER-STATE", "DMA-CONTINUITY"]
    assert result(verdict, "DMA-CONTINUITY").caused_by == "POWER-STATE"


def test_msix_left_enabled_by_the_incoming_kernel_fails(judge: Judge) -> None:
    story = Story()
    story.remove_tag("msix off")
    verdict = judge(story)
    assert verdict.failing_rules == ["MSIX-TAKEOVER"]


def test_msix_never_enabled_is_vacuous_and_does_not_count(judge: Judge) -> None:
    story = Story()
    story.remove_tag("msix on")
    story.remove_tag("msix off")
    verdict = judge(story)
    assert outcome(verdict, "MSIX-TAKEOVER") == "VACUOUS"
    assert verdict.outcome == "PASS"


def test_msix_disabled_by_the_outgoing_kernel_is_vacuous(judge: Judge) -> None:
    story = Story()
    story.write(172, EP0, MSIX_CONTROL, 0x0003)
    story.reconnect()
    assert outcome(judge(story), "MSIX-TAKEOVER") == "VACUOUS"


def test_one_refused_transaction_fails_and_has_exact_ends(judge: Judge) -> None:
    story = Story()
    story.block(180, 181, Gate.BUS_MASTER_OFF)
    verdict = judge(story)
    assert outcome(verdict, "DMA-CONTINUITY") == "FAIL"
    assert result(verdict, "DMA-CONTINUITY").caused_by is None  # no write explains it
    assert verdict.measurements is not None
    assert verdict.measurements.dma_blocked == 1
    gap = verdict.measurements.gaps[0]
    assert (gap.begin_ns, gap.end_ns, gap.blocked) == (at(179.01), at(181.01), 1)
    assert verdict.measurements.dma_gap_max_ns == at(2) - at(0)


def test_the_block_reason_alone_does_not_blame_a_rule(judge: Judge) -> None:
    story = Story()
    story.write(240, EP0, 0x04, 0x102)
    story.write(240.2, EP0, 0x04, 0x106)
    story.reconnect()
    # Refused long before that write: something else closed the gate.
    story.block(180, 181, Gate.BUS_MASTER_OFF)
    story.remove(lambda e: e.kind == Kind.GATE and e.t_ns == at(180))
    verdict = judge(story)
    assert outcome(verdict, "BME-ENDPOINT") == "FAIL"
    assert result(verdict, "DMA-CONTINUITY").caused_by is None


@pytest.mark.parametrize("delta", [+1, -1])
def test_an_absent_or_repeated_sequence_number_fails(judge: Judge, delta: int) -> None:
    story = Story()
    late = [event for event in story.writes() if event.t_ns > at(200)]
    if delta > 0:
        story.events.remove(late[0])
    else:
        late[0].fields["value"] = late[0].fields["value"] - 1
    assert outcome(judge(story), "DMA-CONTINUITY") == "FAIL"


def test_a_stream_stopped_by_the_guest_fails(judge: Judge) -> None:
    story = Story()
    for event in story.tagged("stop"):
        event.t_ns = at(220)
    story.remove(lambda e: e.kind == Kind.DMA_WRITE and e.t_ns > at(220))
    assert outcome(judge(story), "DMA-CONTINUITY") == "FAIL"


def test_a_stop_that_the_host_orders_after_the_update_is_no_gap(judge: Judge) -> None:
    story = Story()
    assert story.tagged("stop")[0].t_ns < at(290)
    assert outcome(judge(story), "DMA-CONTINUITY") == "PASS"


def test_a_stop_ordered_before_the_update_does_not_excuse_anything(judge: Judge) -> None:
    story = Story()
    for event in story.tagged("stop"):
        event.t_ns = at(220)
    for event in story.tagged("order stop"):
        event.t_ns = at(219)
    story.remove(lambda e: e.kind == Kind.DMA_WRITE and e.t_ns > at(220))
    assert outcome(judge(story), "DMA-CONTINUITY") == "FAIL"


def test_a_write_outside_the_preserved_pages_fails_and_is_counted(judge: Judge) -> None:
    story = Story()
    story.writes()[60].fields["address"] = 0x9000 << 12
    verdict = judge(story)
    assert outcome(verdict, "DMA-INTEGRITY") == "FAIL"
    assert verdict.measurements is not None
    assert verdict.measurements.dma_misdirected == 1


def test_a_write_that_runs_over_the_end_of_a_preserved_page_is_outside_it(judge: Judge) -> None:
    story = Story()
    story.writes()[60].fields["address"] = (0x4000 << 12) + 4096 - 8
    verdict = judge(story)
    assert verdict.measurements is not None
    assert verdict.measurements.dma_misdirected == 1


def test_dma_of_an_endpoint_that_is_not_preserved_into_the_incoming_kernel_fails(judge: Judge) -> None:
    story = Story()
    story.add(220, Kind.DMA_WRITE, function=EP1, address=0x123000, size=64, value=1, aux=7)
    verdict = judge(story)
    assert outcome(verdict, "DMA-INTEGRITY") == "FAIL"
    assert verdict.measurements is not None
    assert verdict.measurements.dma_misdirected == 1


def test_pages_retrieved_elsewhere_fail(judge: Judge) -> None:
    story = Story()
    report = next(e for e in story.tagged("retrieve") if e.members)
    assert report.members is not None
    report.members["ranges"] = [[0x4000, 1], [0x7002, 1]]
    assert outcome(judge(story), "DMA-INTEGRITY") == "FAIL"


def spoil_sequence(memory: Any) -> None:
    memory[5, 7] = 4711


def spoil_payload(memory: Any) -> None:
    memory[5, 3] ^= 1  # what only the page's checksum shows


@pytest.mark.parametrize("spoil", [spoil_sequence, spoil_payload])
def test_memory_that_is_not_what_was_written_fails(judge: Judge, spoil: Callable[[Any], None]) -> None:
    story = Story()
    story.spoil_memory = spoil
    verdict = judge(story)
    assert verdict.failing_rules == ["DMA-INTEGRITY"]


def test_a_ring_that_wraps_over_a_gap_is_judged_by_its_last_writes(judge: Judge) -> None:
    story = Story()
    story.block(190, 230, Gate.BUS_MASTER_OFF)
    verdict = judge(story)
    assert outcome(verdict, "DMA-INTEGRITY") == "PASS"
    assert outcome(verdict, "DMA-CONTINUITY") == "FAIL"


def test_a_rule_that_crashes_is_unknown_and_says_how(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("by a mutant")

    monkeypatch.setattr("pydev.continuity.rules.bars.watch", crash)
    verdict = judge(Story())
    assert outcome(verdict, "BAR-FINAL") == "UNKNOWN"
    assert "by a mutant" in result(verdict, "BAR-FINAL").findings[0].message
    assert verdict.outcome == "UNKNOWN"


def test_a_reset_of_the_bus_above_clears_the_bridges_below(judge: Judge) -> None:
    story = Story()
    story.write(UPDATED + 1, RP1, 0x3E, 0x42)
    verdict = judge(story)
    finding = result(verdict, "BME-BRIDGE").findings[0]
    assert "by bus reset" in finding.message
    assert outcome(verdict, "BUS-NUMBERS") == "FAIL"


def test_the_stop_is_ordered_in_this_story(judge: Judge) -> None:
    assert judge(Story()).measurements is not None
    assert STOP > UPDATED
