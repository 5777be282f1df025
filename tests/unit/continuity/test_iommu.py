# SPDX-License-Identifier: MIT
"""What an IOMMU does to a preserved device: by its registers, and by where the device's addresses lead."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pydev.continuity import Outcome, Result, Verdict
from pydev.recording.format import Flag, IommuRegister, Kind
from pydev.testkit.faults import turn_translation_off, unmap_ring
from pydev.testkit.story import EP0, FRAMES, RAM_BYTES, SWEEP, Story, at
from pydev.testkit.story_iommu import AT_WORK, count, iommu_story, tell

Judge = Callable[..., Verdict]
IOMMU_RULES = ("IOMMU-TRANSLATION", "IOMMU-INTERRUPTS", "IOMMU-INVALIDATION")


def result(verdict: Verdict, rule: str) -> Result:
    return next(entry.result for entry in verdict.rules if entry.rule.id == rule)


@pytest.fixture
def judge_all(judge: Judge, tmp_path: Any) -> Judge:
    rules = (*IOMMU_RULES, "IOVA-MAPPING", "DMA-CONTINUITY")
    policy = tmp_path / "iommu-rules.toml"
    policy.write_text(f'[[judge]]\nrule = {json.dumps(rules)}\nlevel = "optional"\n')
    return lambda story: judge(story, policy=policy)


def test_a_machine_without_an_iommu_leaves_its_rules_without_anything_to_examine(judge_all: Judge) -> None:
    verdict = judge_all(Story())
    for rule in IOMMU_RULES:
        assert result(verdict, rule).outcome is Outcome.VACUOUS
        assert result(verdict, rule).reasons == ("the machine has no IOMMU",)


def test_a_ring_that_leads_elsewhere_for_a_moment_fails_and_says_for_how_long(judge_all: Judge) -> None:
    story = Story()
    unmap_ring(story)
    found = result(judge_all(story), "IOVA-MAPPING")
    assert found.outcome is Outcome.FAIL
    assert found.findings[0].message == (
        "2 of 2 pages of 03:00.0 led elsewhere for 1.000 ms: iova 0x4000000 from memory at 0x4000000 to nowhere"
    )
    assert found.findings[0].t_ns == at(SWEEP + 25)


def test_a_page_mapped_to_other_memory_fails(judge_all: Judge) -> None:
    story = Story()
    iova = FRAMES[1] << 12
    story.add(SWEEP + 25, Kind.DMA_UNMAP, function=EP0, address=iova, value=4096)
    story.add(
        SWEEP + 25.1,
        Kind.DMA_MAP,
        function=EP0,
        address=iova,
        value=4096,
        extra=0x1000,
        aux=3,
        flags=int(Flag.HAS_FD),
    )
    found = result(judge_all(story), "IOVA-MAPPING")
    assert found.outcome is Outcome.FAIL
    assert found.findings[-1].message.startswith("1 of 2 pages of 03:00.0 led elsewhere")


def test_a_page_that_may_only_be_read_leads_nowhere(judge_all: Judge) -> None:
    story = Story()
    story.add(SWEEP + 25, Kind.DMA_UNMAP, function=EP0, address=0, value=RAM_BYTES)
    story.add(
        SWEEP + 26, Kind.DMA_MAP, function=EP0, address=0, value=RAM_BYTES, aux=1, flags=int(Flag.HAS_FD)
    )
    assert "to nowhere" in result(judge_all(story), "IOVA-MAPPING").findings[0].message


def test_an_unmap_of_everything_is_an_unmap_of_the_ring(judge_all: Judge) -> None:
    story = Story()
    story.add(SWEEP + 25, Kind.DMA_UNMAP, function=EP0, address=0, value=0, aux=2)
    assert result(judge_all(story), "IOVA-MAPPING").outcome is Outcome.FAIL


def test_mappings_of_other_memory_come_and_go(judge_all: Judge) -> None:
    story = Story()
    story.add(
        SWEEP + 25,
        Kind.DMA_MAP,
        function=EP0,
        address=RAM_BYTES,
        value=4096,
        aux=3,
        flags=int(Flag.HAS_FD),
        extra=1 << 30,
    )
    story.add(SWEEP + 26, Kind.DMA_UNMAP, function=EP0, address=RAM_BYTES, value=4096)
    assert result(judge_all(story), "IOVA-MAPPING").outcome is Outcome.PASS


def test_a_map_that_the_server_refused_changes_nothing(judge_all: Judge) -> None:
    story = Story()
    story.add(SWEEP + 25, Kind.DMA_UNMAP, function=EP0, address=0, value=RAM_BYTES, error=2)
    assert result(judge_all(story), "IOVA-MAPPING").outcome is Outcome.PASS


def test_without_a_recorded_mapping_nobody_knows_where_the_ring_led(judge_all: Judge) -> None:
    story = Story()
    story.remove(lambda event: event.kind == Kind.DMA_MAP)
    assert result(judge_all(story), "IOVA-MAPPING").outcome is Outcome.UNKNOWN


def test_in_passthrough_translation_may_be_turned_off(judge_all: Judge) -> None:
    story = iommu_story()
    tell(story, 176, IommuRegister.GCMD, AT_WORK & ~(1 << 31), AT_WORK)
    tell(story, 230, IommuRegister.RTADDR, 0xD0B000)
    count(story)
    found = result(judge_all(story), "IOMMU-TRANSLATION")
    assert (found.outcome, found.examined) == (Outcome.PASS, 1)


def test_translation_off_under_a_ring_that_is_not_the_identity_fails_by_name(judge_all: Judge) -> None:
    story = iommu_story()
    turn_translation_off(story)
    finding = result(judge_all(story), "IOMMU-TRANSLATION").findings[0]
    assert (finding.register, finding.field) == ("GCMD", "translation_enable")
    assert (finding.before, finding.after) == (AT_WORK, AT_WORK & ~(1 << 31))
    assert finding.phase == "shutdown"


def test_another_root_table_under_a_ring_that_is_not_the_identity_fails(judge_all: Judge) -> None:
    story = iommu_story()
    for event in story.tagged("ram"):
        event.fields["extra"] = 1 << 20
    tell(story, 230, IommuRegister.RTADDR, 0xD0B000)
    count(story)
    finding = result(judge_all(story), "IOMMU-TRANSLATION").findings[0]
    assert (finding.register, finding.before, finding.after) == ("RTADDR", 0x8BB000, 0xD0B000)


def test_a_mapping_lost_with_translation_is_its_consequence_and_so_is_the_gap(judge_all: Judge) -> None:
    story = iommu_story()
    for event in story.tagged("ram"):
        event.fields["extra"] = 1 << 20
    tell(story, SWEEP + 24, IommuRegister.GCMD, AT_WORK & ~(1 << 31), AT_WORK)
    count(story)
    unmap_ring(story)
    for event in story.writes():
        if at(SWEEP + 25) <= event.t_ns < at(SWEEP + 26):
            event.fields["flags"] = int(Flag.STREAM | Flag.FAULT)
    verdict = judge_all(story)
    assert result(verdict, "IOMMU-TRANSLATION").caused_by is None
    assert result(verdict, "IOVA-MAPPING").caused_by == "IOMMU-TRANSLATION"
    assert result(verdict, "DMA-CONTINUITY").caused_by == "IOVA-MAPPING"


def test_remapping_may_be_turned_off_once_msi_x_is_disabled(judge_all: Judge) -> None:
    story = iommu_story()
    tell(story, SWEEP + 21, IommuRegister.GCMD, AT_WORK & ~(1 << 25), AT_WORK)
    count(story)
    assert result(judge_all(story), "IOMMU-INTERRUPTS").outcome is Outcome.PASS


def test_another_table_of_interrupts_while_msi_x_is_enabled_fails(judge_all: Judge) -> None:
    story = iommu_story()
    tell(story, SWEEP + 1, IommuRegister.IRTA, 0x300000)
    count(story)
    found = result(judge_all(story), "IOMMU-INTERRUPTS")
    assert found.outcome is Outcome.FAIL
    assert found.findings[0].message == (
        "IRTA 0x200000 -> 0x300000 in enumeration: 03:00.0 could send interrupts that are remapped"
    )


def test_the_same_table_taken_over_again_is_no_change(judge_all: Judge) -> None:
    story = iommu_story()
    tell(story, SWEEP + 1, IommuRegister.IRTA, 0x200000)
    count(story)
    assert result(judge_all(story), "IOMMU-INTERRUPTS").outcome is Outcome.PASS


def test_interrupts_that_were_never_remapped_are_not_examined(judge_all: Judge) -> None:
    story = iommu_story()
    story.remove(lambda event: event.kind == Kind.IOMMU and event.fields["value"] & 1 << 25 != 0)
    count(story)
    assert result(judge_all(story), "IOMMU-INTERRUPTS").outcome is not Outcome.PASS


def test_without_ats_the_queue_may_be_turned_off(judge_all: Judge) -> None:
    story = iommu_story()
    story.remove_tag("ats on")
    tell(story, SWEEP + 1, IommuRegister.GCMD, AT_WORK & ~(1 << 26), AT_WORK)
    count(story)
    assert result(judge_all(story), "IOMMU-INVALIDATION").outcome is Outcome.VACUOUS


@pytest.mark.parametrize("rule", IOMMU_RULES)
def test_a_write_of_the_unit_that_is_missing_from_the_record_is_unknown(judge_all: Judge, rule: str) -> None:
    story = iommu_story()
    story.remove(lambda event: event.kind == Kind.IOMMU and event.fields["value"] == 0x8600_0000)
    assert result(judge_all(story), rule).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("rule", IOMMU_RULES)
def test_a_command_that_does_not_follow_from_the_one_before_is_unknown(judge_all: Judge, rule: str) -> None:
    story = iommu_story()
    story.remove(lambda event: event.kind == Kind.IOMMU and event.fields["value"] == 0x0600_0000)
    count(story)
    assert result(judge_all(story), rule).outcome is Outcome.UNKNOWN


def test_a_kernel_that_leaves_the_unit_alone_passes_every_rule(judge_all: Judge) -> None:
    verdict = judge_all(iommu_story())
    assert {str(result(verdict, rule).outcome) for rule in IOMMU_RULES} == {"PASS"}
