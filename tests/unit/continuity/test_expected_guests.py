# SPDX-License-Identifier: MIT
"""Experiments that want no update: a refusal, a cancellation and a panic have to be proven, and then they pass."""

from collections.abc import Callable

import pytest

from pydev.continuity import Expectation, Verdict
from pydev.ports import Gate
from pydev.recording.format import Kind, Mark
from pydev.testkit.story import EXIT, FROZEN, STREAM_BEGIN, Story, at

Judge = Callable[..., Verdict]


def stays(story: Story, since_ms: float) -> None:
    """Nothing of an incoming kernel: the outgoing one and its stream go on until the stop."""
    story.remove(lambda e: at(since_ms) < e.t_ns < at(279) and e.kind not in (Kind.DMA_WRITE, Kind.REFERENCE))
    story.remove(
        lambda e: e.t_ns > at(279) and (e.members is not None or e.tag in ("doorbell", "catch-up", "dump"))
    )
    story.host(280, "stop", bdf="0000:03:00.0")
    story.agent(282, re=0, ok=True, sequence=157)
    story.host(283, "ping")
    story.agent(284, re=0, ok=True, boot_id="a")
    story.reconnect()


def refused_freeze() -> Story:
    story = Story()
    stays(story, FROZEN + 0.7)
    story.agent(165, "refused", event="reboot_failed", errno=16)
    story.header["experiment"]["expect_guest"] = "refused"
    return story


def refused_preserve() -> Story:
    story = Story(stream=False)
    report = story.tagged("preserve")[0].members
    assert report is not None
    for name in ("report", "ranges"):
        del report[name]
    report |= {"ok": False, "errno": 12}
    stays(story, 116)
    story.header["experiment"]["expect_guest"] = "refused"
    return story


def cancelled() -> Story:
    story = Story()
    stays(story, 149)
    story.host(150, "unpreserve", token=26)
    story.agent(151, "unpreserve", re=0, ok=True, report="unpreserve", bdf="0000:03:00.0", token=26)
    story.header["experiment"]["expect_guest"] = "cancelled"
    return story


def panics() -> Story:
    story = Story()
    story.remove(lambda e: e.members is not None and e.t_ns > at(FROZEN + 1))
    story.remove(lambda e: e.tag in ("msix anew", "vectors anew", "doorbell", "catch-up"))
    story.remove(lambda e: e.tag == "dump" and e.t_ns > at(FROZEN + 10))
    story.console(
        212, "[    0.900000] Kernel panic - not syncing: PCI: liveupdate: version 7 is not known", "panic"
    )
    story.mark(260, Mark.MACHINE_RESET)
    story.header["experiment"]["expect_guest"] = "panic"
    story.reconnect()
    return story


def later_update_after_a_cancellation() -> Story:
    story = Story()
    story.agent(112.5, report="preserve", ok=True, bdf="0000:03:00.0", token=26, ranges=[[1, 2]])
    story.agent(113, report="unpreserve", ok=True, bdf="0000:03:00.0", token=26)
    return story


@pytest.mark.parametrize(
    ("tell", "expectation"),
    [
        (refused_freeze, Expectation(guest="refused", errno="EBUSY")),
        (refused_preserve, Expectation(guest="refused", errno="ENOMEM")),
        (cancelled, Expectation(guest="cancelled")),
        (
            panics,
            Expectation(guest="panic", console=(r"Kernel panic - not syncing: PCI: liveupdate: version",)),
        ),
        (later_update_after_a_cancellation, Expectation()),
    ],
)
def test_what_was_wanted_passes(judge: Judge, tell: Callable[[], Story], expectation: Expectation) -> None:
    verdict = judge(tell(), expectation)
    told = [(e.rule.id, str(e.result.outcome), e.result.findings) for e in verdict.rules]
    assert (verdict.outcome, verdict.guest) == ("PASS", expectation.guest), told
    assert verdict.as_expected


@pytest.mark.parametrize("tell", [refused_freeze, refused_preserve, cancelled, panics])
def test_the_same_without_being_wanted_does_not(judge: Judge, tell: Callable[[], Story]) -> None:
    story = tell()
    del story.header["experiment"]["expect_guest"]
    verdict = judge(story)
    assert "GUEST-UPDATED" in verdict.failing_rules
    assert not verdict.as_expected


@pytest.mark.parametrize("guest", ["refused", "cancelled", "panic"])
def test_an_update_where_something_else_was_wanted_fails(judge: Judge, guest: str) -> None:
    story = Story()
    story.header["experiment"]["expect_guest"] = guest
    verdict = judge(story, Expectation(guest=guest))
    assert verdict.failing_rules == ["GUEST-UPDATED"]
    assert not verdict.as_expected


def test_a_refusal_during_which_dma_stopped_fails(judge: Judge) -> None:
    story = refused_freeze()
    story.block(162, 164, Gate.BUS_MASTER_OFF)
    assert "DMA-CONTINUITY" in judge(story).failing_rules


def test_a_cancelled_update_during_which_dma_stopped_fails(judge: Judge) -> None:
    story = cancelled()
    story.block(152, 164, Gate.BUS_MASTER_OFF)
    assert judge(story).failing_rules == ["GUEST-UPDATED"]


def silent_afterwards(story: Story) -> None:
    story.remove(lambda e: e.members is not None and e.t_ns > at(279))


def another_boot(story: Story) -> None:
    story.agent(290, ok=True, boot_id="z")


def reset_afterwards(story: Story) -> None:
    story.mark(270, Mark.MACHINE_RESET)


def panic_afterwards(story: Story) -> None:
    story.console(270, "[    9.0] Kernel panic - not syncing: later")


def started_again(story: Story) -> None:
    story.agent(290, event="hello", release="7.4.0", incoming=False, liveupdate=True, boot_id="a")


@pytest.mark.parametrize("tell", [refused_freeze, refused_preserve, cancelled])
@pytest.mark.parametrize(
    "spoil", [silent_afterwards, another_boot, reset_afterwards, panic_afterwards, started_again]
)
def test_a_guest_that_did_not_go_on_has_not_refused(
    judge: Judge, tell: Callable[[], Story], spoil: Callable[[Story], None]
) -> None:
    story = tell()
    spoil(story)
    verdict = judge(story)
    assert "GUEST-UPDATED" in verdict.failing_rules, [(e.rule.id, e.result) for e in verdict.rules]


def test_rules_still_count_up_to_a_panic(judge: Judge) -> None:
    story = panics()
    story.write(205, 4, 0x04, 0x103)
    assert judge(story).failing_rules == ["BME-ENDPOINT"] or "BME-BRIDGE" in judge(story).failing_rules


def test_the_story_streams_in_the_attempt() -> None:
    assert STREAM_BEGIN < 149 < EXIT
