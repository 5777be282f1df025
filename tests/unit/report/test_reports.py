# SPDX-License-Identifier: MIT
import json
from pathlib import Path

import pytest

from pydev.continuity import Verdict, load_policy, load_timeline, verify
from pydev.ports import Gate
from pydev.recording.timeline import Timeline
from pydev.report import render_text, verdict_json
from pydev.testkit.story import BEGIN_NS, UP1, Story, at


def judged(story: Story, tmp_path: Path) -> tuple[Timeline, Verdict]:
    timeline = load_timeline(story.save(tmp_path / "r.lus"))
    return timeline, verify(timeline, load_policy("series"), start_to_verdict_s=1.5)


def broken() -> Story:
    story = Story()
    story.write(173, UP1, 0x04, 0x103)
    story.block(190, 230, Gate.IN_RESET)
    return story


def test_the_json_is_the_designs_schema_to_the_letter(tmp_path: Path) -> None:
    document = json.loads(json.dumps(verdict_json(judged(broken(), tmp_path)[1])))
    assert list(document) == [
        "luscope", "outcome", "expected", "as_expected", "guest", "rules", "measurements", "recording",
        "kernels", "updates",
    ]  # fmt: skip
    assert document["luscope"] == 1
    assert document["expected"] == {"outcome": "PASS", "failing_rules": [], "guest": "updated"}
    rule = next(entry for entry in document["rules"] if entry["id"] == "BME-BRIDGE")
    assert list(rule) == ["id", "hazards", "outcome", "required", "caused_by", "examined", "findings"]
    assert rule["findings"][0] == {
        "t_ns": at(173) - 90_000 - BEGIN_NS,
        "phase": "shutdown",
        "bdf": "01:00.0",
        "register": "COMMAND",
        "field": "bus_master",
        "width": 2,
        "before": 0x107,
        "after": 0x103,
        "function": "pci_clear_master",
        "stack": [
            "pci_conf1_write",
            "pci_write",
            "pci_bus_write_config_word",
            "pci_write_config_word",
            "pci_clear_master",
            "pci_device_shutdown",
            "device_shutdown",
            "kernel_restart_prepare",
            "kernel_kexec",
            "__do_sys_reboot",
            "do_syscall_64",
            "entry_SYSCALL_64_after_hwframe",
        ],
        "message": "COMMAND.bus_master 1 -> 0 at 01:00.0 in shutdown",
    }
    assert list(document["measurements"]) == [
        "blackout_ns", "dma_gap_max_ns", "bench_lateness_max_ns", "dma_transactions", "dma_blocked",
        "dma_misdirected", "config_writes", "msi_raised", "msi_delivered", "msi_lost", "msi_after_finish",
        "start_to_verdict_s",
    ]  # fmt: skip
    assert document["measurements"]["dma_blocked"] == 40
    assert document["measurements"]["start_to_verdict_s"] == 1.5
    assert document["recording"]["complete"] is True
    assert document["kernels"] == {"outgoing": "7.4.0", "incoming": "7.4.0"}
    assert document["updates"] == 1


def test_judging_twice_gives_the_same_json(tmp_path: Path) -> None:
    first, second = (verdict_json(judged(broken(), tmp_path)[1]) for _ in range(2))
    assert first == second


def panicked() -> Story:
    story = Story()
    story.console(220, "[    0.900000] Kernel panic - not syncing: " + "a long story " * 10)
    story.trailer["incomplete"] = ["x" * 200]
    return story


@pytest.mark.parametrize(
    "story", [Story, broken, panicked, lambda: Story(preserve=False), lambda: Story(plugin=False)]
)
def test_no_line_of_the_report_is_wider_than_a_mail(tmp_path: Path, story: type[Story]) -> None:
    text = render_text(*judged(story(), tmp_path))
    assert max(map(len, text.splitlines())) <= 78
    assert text.endswith("\n")


def test_the_report_names_the_write_as_a_maintainer_would_quote_it(tmp_path: Path) -> None:
    text = " ".join(render_text(*judged(broken(), tmp_path)).split())
    assert "+12.910 ms shutdown 01:00.0 COMMAND.bus_master 1 -> 0, COMMAND 0x107 -> 0x103 (2 bytes)" in text
    assert "verdict: FAIL (NOT as expected); guest updated; policy series" in text
    assert "40 transactions refused" in text


def test_the_topology_is_drawn_with_the_bdfs_that_held(tmp_path: Path) -> None:
    lines = render_text(*judged(Story(), tmp_path)).splitlines()
    assert "        03:00.0 ep0 (stream, preserved)" in lines
    assert "  00:01.0 rp1 (root port)" in lines


def test_an_unknown_verdict_says_what_is_missing(tmp_path: Path) -> None:
    story = Story()
    story.remove(lambda e: e.is_trace and e.tag == "msix off")
    timeline, verdict = judged(story, tmp_path)
    text = " ".join(render_text(timeline, verdict).split())
    assert "03:00.0 write of MSIX_CONTROL (@0x4a) <- 0x3, 2 bytes: the trace has no line for it" in text
    agreement = next(r for r in verdict_json(verdict)["rules"] if r["id"] == "WRITES-AGREE")
    assert agreement["findings"][0]["register"] == "MSIX_CONTROL"
    assert verdict_json(verdict)["recording"]["complete"] is False


def test_the_report_quotes_the_call_path_below_the_finding(tmp_path: Path) -> None:
    lines = render_text(*judged(broken(), tmp_path)).splitlines()
    at_line = next(n for n, line in enumerate(lines) if "COMMAND.bus_master 1 -> 0" in line)
    below = " ".join(" ".join(lines[at_line : at_line + 4]).split())
    path = "by pci_clear_master <- pci_device_shutdown <- device_shutdown <- kernel_restart_prepare <- kernel_kexec"
    assert f"{path} <- __do_sys_reboot ..." in below
    assert "pci_conf1_write" not in below


def test_a_report_without_authors_says_why_in_its_head(tmp_path: Path) -> None:
    story = Story(plugin=False)
    story.write(173, UP1, 0x04, 0x103)
    text = render_text(*judged(story, tmp_path))
    assert "authors   none: the accelerator kvm has no plugins" in text.splitlines()
    assert " <- kernel_kexec" not in text
    assert "authors" not in render_text(*judged(Story(), tmp_path))
