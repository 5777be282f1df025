# SPDX-License-Identifier: MIT
"""The conservative promise: nobody writes to a preserved function at all."""

from typing import Final

from pydev.continuity.check import Case, judge_checks, path
from pydev.continuity.evidence import judges
from pydev.continuity.outcome import Finding
from pydev.continuity.rule import Rule
from pydev.continuity.written import ConfigWrite, blackout_writes, finding_of
from pydev.recording.format import CONFIG_REGION, Kind
from pydev.recording.functions import RegisterEntry


class _Quiet:
    """No write, of whatever value."""

    def judge(self, case: Case) -> bool:
        judged = [judges(case.evidence, case.function, name) for name in case.function.registers]
        if not any(judged):
            case.notes.append(f"the policy has no register of {case.name} judged")
            return False
        for write, is_at_edge in blackout_writes(case.evidence, case.function, case.blackout):
            registers = [r for r in case.function.registers.values() if write.touches(r)]
            if not registers:
                self._judge_nameless(case, write, is_at_edge=is_at_edge)
            for register in registers:
                self._judge_register(case, write, register, is_at_edge=is_at_edge)
        if not _was_witnessed(case):
            case.judgement.doubt(
                Finding(f"no access to {case.name} was recorded at all: silence proves nothing")
            )
            return False
        return True

    def _judge_register(
        self, case: Case, write: ConfigWrite, register: RegisterEntry, *, is_at_edge: bool
    ) -> None:
        if not judges(case.evidence, case.function, register.name):
            return  # the policy does not have it judged
        finding = finding_of(case.evidence, case.function, write, register, None)
        if is_at_edge:
            case.judgement.doubt(finding)
        else:
            case.judgement.fail(finding)

    @staticmethod
    def _judge_nameless(case: Case, write: ConfigWrite, *, is_at_edge: bool) -> None:
        timeline = case.evidence.timeline
        finding = Finding(
            f"{write.value:#x} written to {case.name} at {write.offset:#x}, where no register is declared",
            t_ns=write.t_ns,
            phase=timeline.phase_at(write.t_ns),
            bdf=timeline.bdf_at(case.function.index, write.t_ns),
            width=write.width,
            function=None if write.writer is None else write.writer.function,
            stack=() if write.writer is None else write.writer.frames,
        )
        if is_at_edge:
            case.judgement.doubt(finding)
        else:
            case.judgement.fail(finding)


def _was_witnessed(case: Case) -> bool:
    """Whether anything of the function is in the record, at any time: else its witnesses were blind."""
    timeline, index = case.evidence.timeline, case.function.index
    if any(len(timeline.of_kind(kind, index)) for kind in (Kind.TRACE_READ, Kind.TRACE_WRITE)):
        return True
    served = timeline.of_kind(Kind.REGION_READ, index)
    return bool((timeline.column("region", served) == CONFIG_REGION).any())


CONFIG_QUIET: Final = Rule(
    id="CONFIG-QUIET",
    title="Nobody writes to the configuration space of a preserved function, or of a bridge above, from frozen to "
    "finished",
    hazards=(),
    severity="T",
    why="A device whose registers nobody touches cannot be broken by a register. More than a kernel that scans its "
    "buses can promise today; every finding is a write that somebody should have a reason for.",
    acceptable="Never, by this rule: it excludes nothing. The other rules say which writes do harm, and when not.",
    source="README, policies; linux drivers/pci/probe.c pci_setup_device, which writes to every function at boot",
    planted_fault="any config write to a preserved endpoint while the incoming kernel scans its buses",
    judge=lambda evidence: judge_checks(evidence, path(evidence), (_Quiet(),), "configuration space"),
    writers=(
        "pci_scan_single_device -> pci_setup_device -> pci_read_bases (drivers/pci/probe.c)",
        "pci_device_add -> pci_init_capabilities (drivers/pci/probe.c)",
        "device_shutdown -> pcie_portdrv_shutdown (drivers/pci/pcie/portdrv.c)",
    ),
    examines="preserved endpoints and bridges above them, of which some access is recorded at some time",
    unknown_when="no access to a function is in the record at all",
    judges_any_register=True,
)
