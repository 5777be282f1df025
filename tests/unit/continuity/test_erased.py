# SPDX-License-Identifier: MIT
"""Status bits that were set when frozen: what erases them, and what does not."""

from collections.abc import Callable

import pytest

from pydev.continuity import Outcome, Result
from pydev.pci.type1 import SecStatus
from pydev.recording.format import Kind
from pydev.testkit.story import DN1, EP0, FINISHED, FROZEN, RP1, SWEEP, UP1, Story, at, offset
from pydev.testkit.story_features import features_story

Results = Callable[[Story], dict[str, Result]]
RECEIVED_MASTER_ABORT = SecStatus.compose(received_master_abort=1)
PARITY = SecStatus.compose(detected_parity_error=1)


def erase(function: int, register: str, value: int, width: int = 2, after: int = 0) -> Callable[[], Story]:
    def told() -> Story:
        story = features_story()
        story.write(SWEEP + 5, function, offset(function, register), value, width, after=after)
        story.reconnect()
        return story

    return told


@pytest.mark.parametrize(
    ("tell", "rule", "field"),
    [
        (erase(DN1, "SEC_STATUS", 0xFFFF), "ERROR-EVIDENCE", "received_master_abort"),
        (erase(EP0, "DEVSTA", 0x8), "ERROR-EVIDENCE", "unsupported_request"),
        (erase(EP0, "DEVCTL", 0x8_2810, 4, 0x2810), "ERROR-EVIDENCE", "unsupported_request"),
        (erase(DN1, "LNKSTA", 0x4000), "LINK-NOTIFICATION", "bandwidth_management"),
        (erase(RP1, "RTSTA", 0x10000, 4), "PME", "pme_status"),
    ],
    ids=[
        "secondary status",
        "device status",
        "by a dword over control and status",
        "link status",
        "root status",
    ],
)
def test_a_one_written_to_a_set_bit_erases_what_happened(
    results: Results, tell: Callable[[], Story], rule: str, field: str
) -> None:
    judged = results(tell())
    failing = {name for name, result in judged.items() if result.outcome is Outcome.FAIL}
    assert failing == {rule}
    (finding,) = judged[rule].findings
    assert (finding.field, finding.function) == (field, "pci_setup_device")
    assert "erased by a written 1" in finding.message


@pytest.mark.parametrize(
    "tell",
    [
        erase(DN1, "SEC_STATUS", PARITY, after=RECEIVED_MASTER_ABORT),
        erase(DN1, "SEC_STATUS", 0, after=RECEIVED_MASTER_ABORT),
        erase(UP1, "SEC_STATUS", 0xFFFF),
        erase(EP0, "DEVSTA", 0x7, after=0x8),
    ],
    ids=["another bit", "zeros", "a bridge without an error", "the endpoint's other bits"],
)
def test_what_erases_nothing_passes(results: Results, tell: Callable[[], Story]) -> None:
    assert results(tell())["ERROR-EVIDENCE"].outcome is Outcome.PASS


def test_errors_that_nobody_noted_leave_nothing_to_erase(results: Results) -> None:
    story = Story()
    story.write(SWEEP + 5, DN1, offset(DN1, "SEC_STATUS"), 0xFFFF, 2)
    judged = results(story)["ERROR-EVIDENCE"]
    assert judged.outcome is Outcome.VACUOUS
    assert any("no bit of SEC_STATUS of 02:00.0 was set when frozen" in reason for reason in judged.reasons)


# Three ways to slip through: erased by the kernel that is left; by a bus reset; seen gone and nobody wrote it.


def test_the_outgoing_kernel_erases_as_well_as_the_incoming(results: Results) -> None:
    story = features_story()
    story.write(FROZEN + 15, RP1, offset(RP1, "RTSTA"), 0x10000, 4, by="pcie_pme_disable_interrupt")
    judged = results(story)["PME"]
    assert judged.outcome is Outcome.FAIL
    assert judged.findings[0].phase == "shutdown"


def test_a_reset_of_the_bus_erases_what_the_ports_below_have_noted(results: Results) -> None:
    story = features_story()
    story.write(SWEEP + 5, RP1, 0x3E, 0x40, 2)
    story.write(SWEEP + 6, RP1, 0x3E, 0, 2)
    judged = results(story)
    assert judged["RESET"].outcome is Outcome.FAIL
    assert judged["ERROR-EVIDENCE"].outcome in (Outcome.FAIL, Outcome.UNKNOWN)


def test_a_bit_that_is_gone_and_that_nobody_wrote_is_not_known(results: Results) -> None:
    story = features_story()
    story.trace(FINISHED - 5, DN1, offset(DN1, "SEC_STATUS") + 1, 0, write=False)
    assert results(story)["ERROR-EVIDENCE"].outcome is not Outcome.PASS


def test_a_write_to_bits_that_were_never_seen_is_not_known(results: Results) -> None:
    story = features_story()
    story.remove_tag("dump")
    story.write(SWEEP + 5, DN1, offset(DN1, "SEC_STATUS"), 0xFFFF, 2)
    assert results(story)["ERROR-EVIDENCE"].outcome is Outcome.UNKNOWN


def test_without_the_plugin_a_written_one_is_found_as_well(results: Results) -> None:
    story = features_story(plugin=False)
    story.write(SWEEP + 5, DN1, offset(DN1, "SEC_STATUS"), 0xFFFF, 2)
    assert results(story)["ERROR-EVIDENCE"].outcome in (Outcome.FAIL, Outcome.UNKNOWN)


def test_bits_erased_after_the_finish_are_the_incoming_kernels_own(results: Results) -> None:
    story = features_story()
    story.write(FINISHED + 4, DN1, offset(DN1, "SEC_STATUS"), 0xFFFF, 2)
    story.remove(lambda e: e.tag == "dump" and e.t_ns > at(FINISHED) and e.kind is Kind.TRACE_READ)
    assert results(story)["ERROR-EVIDENCE"].outcome is Outcome.PASS
