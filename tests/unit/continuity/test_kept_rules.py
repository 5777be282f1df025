# SPDX-License-Identifier: MIT
"""Rules of what may be written and may not change: what they find, what they let pass, what they do not know."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pydev.continuity import Outcome, Result
from pydev.recording.format import Kind
from pydev.testkit import faults
from pydev.testkit.feature_faults import FEATURE_FAULTS
from pydev.testkit.story import DN1, EP0, FINISHED, FROZEN, RP1, SWEEP, Story, at, offset
from pydev.testkit.story_chain import chain
from pydev.testkit.story_dumps import SLOT_ON
from pydev.testkit.story_features import (
    ATS_ON,
    BANDWIDTH_ON,
    BRIDGE_ON,
    CONTAINMENT_ON,
    L1SS_ON,
    PASID_ON,
    PME_ON,
    PRI_ON,
    ROOT_ON,
    STREAM_ON,
    VFS_ON,
    features_story,
)

Results = Callable[[Story], dict[str, Result]]


def failing(results: dict[str, Result]) -> dict[str, str | None]:
    """Every rule that fails, with its cause."""
    return {rule: r.caused_by for rule, r in results.items() if r.outcome is Outcome.FAIL}


@dataclass(frozen=True)
class Case:
    """A register of the features story: who has it, what it holds, what it must not hold, and how long."""

    rule: str
    function: int
    register: str
    width: int
    held: int
    bad: int
    at_every_moment: bool = False

    def __str__(self) -> str:
        return f"{self.rule}-{self.register}-{'ep0' if self.function == EP0 else 'port'}"


CASES = [
    Case("ERROR-REPORTING", EP0, "AER_UNCOR_SEVERITY", 4, 0x00462030, 0),
    Case("ERROR-REPORTING", EP0, "AER_COR_MASK", 4, 0xE000, 0xC000),
    Case("ERROR-REPORTING", DN1, "BRIDGE_CONTROL", 2, BRIDGE_ON, BRIDGE_ON & ~2),
    Case("ERROR-REPORTING", RP1, "AER_ROOT_COMMAND", 4, 5, 0),
    Case("ERROR-EVIDENCE", DN1, "BRIDGE_CONTROL", 2, BRIDGE_ON, BRIDGE_ON & ~0x20, at_every_moment=True),
    Case("SLOT-POWER", DN1, "SLTCTL", 2, SLOT_ON, SLOT_ON | 0x400, at_every_moment=True),
    Case("SLOT-POWER", RP1, "SLTCTL", 2, SLOT_ON, SLOT_ON | 0x400, at_every_moment=True),
    Case("SLOT-CONTROL", RP1, "SLTCTL", 2, SLOT_ON, SLOT_ON ^ 0x40),
    Case("ROOT-CONTROL", RP1, "RTCTL", 2, ROOT_ON, ROOT_ON & ~8),
    Case("PME", EP0, "PMCSR", 2, PME_ON, 0),
    Case("DPC", DN1, "DPC_CTL", 2, CONTAINMENT_ON, CONTAINMENT_ON ^ 3),
    Case("LINK-NOTIFICATION", DN1, "LNKCTL", 2, BANDWIDTH_ON, 0),
    Case("L1SS", EP0, "L1SS_CTL1", 4, L1SS_ON, L1SS_ON & ~4),
    Case("L1SS", DN1, "L1SS_CTL1", 4, L1SS_ON, L1SS_ON & ~4),
    Case("IDE", EP0, "IDE_SELECTIVE_CTL", 4, STREAM_ON, STREAM_ON ^ 0x01000000, at_every_moment=True),
    Case("IDE", EP0, "IDE_RID_BASE", 4, 0x801, 0x800, at_every_moment=True),
    Case("ATS", EP0, "ATS_CTRL", 2, ATS_ON, ATS_ON & 0x8000, at_every_moment=True),
    Case("PRI-PASID", EP0, "PRI_CTRL", 2, PRI_ON, 0, at_every_moment=True),
    Case("PRI-PASID", EP0, "PRI_ALLOCATION", 4, 16, 32, at_every_moment=True),
    Case("PRI-PASID", EP0, "PASID_CTRL", 2, PASID_ON, PASID_ON ^ 4, at_every_moment=True),
    Case("SRIOV", EP0, "SRIOV_CTRL", 2, VFS_ON, VFS_ON ^ 8, at_every_moment=True),
    Case("SRIOV", EP0, "SRIOV_NUM_VFS", 2, 1, 0, at_every_moment=True),
    Case("SRIOV", EP0, "SRIOV_VF_BAR0", 4, 0xFD000000, 0xFC000000, at_every_moment=True),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def spoil(story: Story, case: Case, ms: float, back_ms: float | None = None) -> Story:
    place = offset(case.function, case.register)
    story.write(ms, case.function, place, case.bad, case.width, tag="fault")
    if back_ms is not None:
        story.write(back_ms, case.function, place, case.held, case.width)
    story.reconnect()
    return story


@pytest.mark.parametrize("rule", FEATURE_FAULTS)
def test_a_planted_fault_fails_its_rule_and_its_consequences_only(results: Results, rule: str) -> None:
    if rule in faults.JUDGED_ALONE:
        return  # test_silence.py
    expected: dict[str, str | None] = {rule: None}
    expected |= {"UPSTREAM-FORWARDING": rule} if rule == "SLOT-POWER" else {}
    expected |= {"BAR-SIZING": None} if rule == "RESCAN" else {}
    assert failing(results(faults.planted_story(rule))) == expected


def test_with_every_feature_in_use_and_nothing_dropped_no_rule_has_anything_to_say(results: Results) -> None:
    judged = results(features_story())
    assert {
        rule for rule in FEATURE_FAULTS if rule in judged and judged[rule].outcome is not Outcome.PASS
    } == {"RESCAN"}
    assert failing(judged) == {}


@each_case
def test_a_value_left_behind_fails(results: Results, case: Case) -> None:
    judged = results(spoil(features_story(), case, SWEEP + 5))
    assert case.rule in failing(judged)
    finding = judged[case.rule].findings[0]
    assert (finding.register, finding.width) == (case.register, case.width)
    assert finding.function == "pci_setup_device"


@each_case
def test_the_same_without_the_plugin_fails_or_is_not_known(results: Results, case: Case) -> None:
    judged = results(spoil(features_story(plugin=False), case, SWEEP + 5))
    assert judged[case.rule].outcome in (Outcome.FAIL, Outcome.UNKNOWN), judged[case.rule]


@each_case
def test_a_moment_of_another_value_fails_where_a_moment_does_harm_and_not_elsewhere(
    results: Results, case: Case
) -> None:
    judged = results(spoil(features_story(), case, SWEEP + 5, SWEEP + 5.3))
    assert judged[case.rule].outcome is (Outcome.FAIL if case.at_every_moment else Outcome.PASS)


@each_case
def test_the_same_value_written_again_passes(results: Results, case: Case) -> None:
    story = features_story()
    story.write(SWEEP + 5, case.function, offset(case.function, case.register), case.held, case.width)
    story.reconnect()
    assert results(story)[case.rule].outcome is Outcome.PASS


@each_case
def test_what_the_outgoing_kernel_drops_and_nobody_restores_fails(results: Results, case: Case) -> None:
    assert case.rule in failing(results(spoil(features_story(), case, FROZEN + 12)))


@each_case
def test_a_value_restored_after_the_finish_comes_too_late(results: Results, case: Case) -> None:
    assert case.rule in failing(results(spoil(features_story(), case, SWEEP + 5, FINISHED + 4)))


@each_case
def test_without_a_finish_nothing_passes(results: Results, case: Case) -> None:
    story = spoil(features_story(), case, SWEEP + 5)
    story.remove_tag("finish")
    assert results(story)[case.rule].outcome is not Outcome.PASS


HOLDS_ZERO_AFTER_A_RESET = "BRIDGE_CONTROL"  # so that its value is known without anybody having read it


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.function != EP0 and c.register != HOLDS_ZERO_AFTER_A_RESET], ids=str
)
def test_a_port_that_was_written_and_never_seen_before_is_not_known(results: Results, case: Case) -> None:
    story = features_story()
    story.remove_tag("dump")
    story.remove(
        lambda e: (
            e.kind in (Kind.TRACE_WRITE, Kind.PLUGIN_WRITE)
            and e.fields["address"] == offset(case.function, case.register)
            and e.t_ns < at(FROZEN)
        )
    )
    assert results(spoil(story, case, SWEEP + 5))[case.rule].outcome is not Outcome.PASS


def test_features_that_are_off_are_vacuous_and_say_so(results: Results) -> None:
    judged = results(Story())
    for rule in (
        "ROOT-CONTROL",
        "PME",
        "DPC",
        "DOE",
        "IDE",
        "ATS",
        "PRI-PASID",
        "SRIOV",
        "LINK-NOTIFICATION",
    ):
        assert judged[rule].outcome is Outcome.VACUOUS, rule
        assert judged[rule].reasons


def test_nothing_preserved_is_vacuous(results: Results) -> None:
    judged = results(Story(preserve=False))
    assert {judged[rule].outcome for rule in FEATURE_FAULTS if rule in judged} == {Outcome.VACUOUS}


def test_an_idle_stream_may_get_the_reserved_id(results: Results) -> None:
    """As `pci_ide_init` gives it to every stream that is not enabled."""
    story = Story()
    story.write(SWEEP + 5, EP0, offset(EP0, "IDE_SELECTIVE_CTL"), 0xFF000000, 4)
    assert results(story)["IDE"].outcome is Outcome.VACUOUS


def test_the_unit_of_translations_may_be_set_while_they_are_off(results: Results) -> None:
    story = Story()
    story.write(SWEEP + 5, EP0, offset(EP0, "ATS_CTRL"), 0x0001, 2)
    assert results(story)["ATS"].outcome is Outcome.VACUOUS


@pytest.mark.parametrize(
    ("rule", "register", "value"),
    [("ATS", "ATS_CTRL", 0x8000), ("PRI-PASID", "PRI_CTRL", 1), ("SRIOV", "SRIOV_CTRL", 1),
     ("ROOT-CONTROL", "RTCTL", 7), ("PME", "PMCSR", 0x100)],
)  # fmt: skip
def test_what_was_off_and_is_switched_on_fails(
    results: Results, rule: str, register: str, value: int
) -> None:
    story = Story()
    function = RP1 if register == "RTCTL" else EP0
    story.write(SWEEP + 5, function, offset(function, register), value, 2)
    assert failing(results(story)) == {rule: None}


def test_a_whole_register_that_changed_names_the_fields_that_did(results: Results) -> None:
    story = Story()
    story.write(SWEEP + 5, EP0, offset(EP0, "AER_UNCOR_SEVERITY"), 0x00453030, 4)
    finding = results(story)["ERROR-REPORTING"].findings[0]
    assert finding.message.endswith("(poisoned_tlp, unexpected_completion, receiver_overflow)"), finding


# ------------------------------------------------------------- payload sizes


def test_ends_of_a_link_that_take_different_payloads_are_named(results: Results) -> None:
    story = Story()
    story.write(SWEEP + 5, EP0, offset(EP0, "DEVCTL"), 0x2830, 2)
    finding = results(story)["DEVICE-CONTROL"].findings[0]
    assert finding.message == (
        "DEVCTL.max_payload_size 0 -> 1 at 03:00.0 in enumeration, 256 bytes: the ends differ, "
        "128 at 00:01.0, 128 at 01:00.0, 128 at 02:00.0"
    )


def test_a_payload_changed_at_every_end_is_no_mismatch_at_the_last(results: Results) -> None:
    story = Story()
    for number, bridge in enumerate((RP1, 3, DN1)):
        story.write(SWEEP + 5 + number, bridge, offset(bridge, "DEVCTL"), 0x20, 2)
    story.write(SWEEP + 9, EP0, offset(EP0, "DEVCTL"), 0x2830, 2)
    findings = results(story)["DEVICE-CONTROL"].findings
    assert [("the ends differ" in f.message) for f in findings] == [True, True, True, False]


@pytest.mark.parametrize(
    ("register", "value"),
    [("DEVCTL", 0x2010), ("DEVCTL", 0x3810), ("DEVCTL", 0x2910), ("DEVCTL2", 0x10)],
    ids=["no snoop", "read request size", "extended tag", "completion timeout"],
)
def test_what_orders_and_tags_requests_may_not_change(results: Results, register: str, value: int) -> None:
    story = Story()
    story.write(SWEEP + 5, EP0, offset(EP0, register), value, 2)
    assert failing(results(story)) == {"DEVICE-CONTROL": None}


@pytest.mark.parametrize("bit", [8, 9, 12, 15], ids=["IDO", "IDO of completions", "10-bit tags", "prefixes"])
def test_a_ports_requests_may_not_change_either(results: Results, bit: int) -> None:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "DEVCTL2"), 0x20 | 1 << bit, 2)
    assert failing(results(story)) == {"DEVICE-CONTROL": None}


# --------------------------------------------------------------- containment


def test_a_port_that_contains_an_error_fails_although_nobody_wrote_anything(results: Results) -> None:
    story = features_story()
    story.port_sets(220, DN1, "DPC_STATUS", 0x9)
    judged = results(story)["DPC"]
    assert judged.outcome is Outcome.FAIL
    assert judged.findings[0].field == "triggered"


def test_a_software_trigger_reads_0_and_fails_all_the_same(results: Results) -> None:
    story = features_story()
    story.write(SWEEP + 5, DN1, offset(DN1, "DPC_CTL"), CONTAINMENT_ON | 0x40, 2)
    judged = results(story)["DPC"]
    assert judged.outcome is Outcome.FAIL
    assert "takes the link below down" in judged.findings[0].message


def test_containment_that_ended_before_the_freeze_is_none(results: Results) -> None:
    story = features_story()
    story.port_sets(50, DN1, "DPC_STATUS", 0x1)
    story.write(60, DN1, offset(DN1, "DPC_STATUS"), 0x1, 2)
    assert results(story)["DPC"].outcome is Outcome.PASS


def test_containment_off_between_the_kernels_harms_nobody(results: Results) -> None:
    story = features_story()
    story.write(172, DN1, offset(DN1, "DPC_CTL"), 0, 2, by="dpc_disable")
    story.write(240, DN1, offset(DN1, "DPC_CTL"), CONTAINMENT_ON, 2, by="dpc_enable")
    assert results(story)["DPC"].outcome is Outcome.PASS


# ------------------------------------------------------------------- updates


@pytest.mark.parametrize("update", range(3))
def test_one_update_of_three_that_drops_something_fails(results: Results, update: int) -> None:
    story = chain(3)
    length = (sorted(story.tagged("finish"), key=lambda e: e.t_ns)[1].t_ns - at(FINISHED)) / 1e6
    story.write(SWEEP + 5 + update * length, EP0, offset(EP0, "AER_UNCOR_MASK"), 0, 4)
    story.reconnect()
    judged = results(story)["ERROR-REPORTING"]
    assert judged.outcome is Outcome.FAIL
    assert len(judged.findings) == 1
