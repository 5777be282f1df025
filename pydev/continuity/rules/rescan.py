# SPDX-License-Identifier: MIT
"""A bus that is scanned again, or a device that is taken out, by the incoming kernel before it has finished.

A scan asks every place of a bus for its vendor, absent ones too: reads of the first dword that nobody answered are
its mark. What it reads does no harm. A device that the kernel knows it leaves alone; one that it has forgotten it
sets up from the beginning.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.check import Case, path
from pydev.continuity.evidence import Evidence, judges
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.continuity.written import ConfigWrite, finding_of, writes_during
from pydev.recording.config import Change, known
from pydev.recording.format import Kind
from pydev.recording.functions import RegisterEntry
from pydev.recording.phases import Blackout

_ADDRESSES: Final = (
    *(f"BAR{index}" for index in range(6)), "PRIMARY_BUS", "SECONDARY_BUS", "SUBORDINATE_BUS", "IO_BASE",
    "IO_LIMIT", "MEMORY_BASE", "MEMORY_LIMIT", "PREF_MEMORY_BASE", "PREF_MEMORY_LIMIT", "PREF_BASE_UPPER32",
    "PREF_LIMIT_UPPER32", "IO_BASE_UPPER16", "IO_LIMIT_UPPER16",
)  # fmt: skip
_REMOVAL: Final = re.compile(
    r"^pci_(stop_and_)?(remove|stop)_(bus|root_bus|dev)(_device)?(_locked)?\b|^pci_stop_dev\b"
)
"""linux 7.3 drivers/pci/remove.c: what takes a device out."""


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        updated = blackout.start_of("updated")
        if updated is None:
            judgement.vacuous("no incoming kernel said hello: there was no time for a second scan")
            continue
        if not path(evidence):
            continue
        scanned = _scans(evidence, updated, blackout)
        written = [
            found
            for function in path(evidence)
            for found in _findings(Case(evidence, judgement, blackout, function), updated)
        ]
        for finding, is_certain, cause in written:
            if is_certain:
                judgement.fail(finding, cause)
            else:
                judgement.doubt(finding)
        if scanned or written:
            judgement.examined += max(scanned, 1)
            if not blackout.is_over:
                judgement.doubt(Finding("no finish report: what a second scan did was not seen to the end"))
        else:
            judgement.vacuous("no bus was scanned again, and nothing was taken out, before the finish")
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _scans(evidence: Evidence, updated_ns: int, blackout: Blackout) -> int:
    """How many places were asked for a vendor and had none, after the incoming kernel's hello."""
    timeline = evidence.timeline
    slots = timeline.of_kind(Kind.TRACE_READ)
    times = timeline.t_ns[slots]
    slots = slots[(times > updated_ns + timeline.trace_uncertainty_ns) & (times <= blackout.end_ns)]
    is_absent = timeline.column("error", slots) != 0
    return int((is_absent & (timeline.column("address", slots) == 0)).sum())


def _findings(case: Case, updated_ns: int) -> Iterator[tuple[Finding, bool, str | None]]:
    """What was written to a function's addresses, or by a removal; whether it is certain; what led to it."""
    blackout = case.blackout
    end = (blackout.end_ns, blackout.end_uncertainty_ns)
    for write, is_at_edge in writes_during(case.evidence, case.function, (updated_ns, 0), end):
        remover = _remover(write)
        for register in case.function.registers.values():
            if not write.touches(register) or not judges(case.evidence, case.function, register.name):
                continue
            finding = finding_of(case.evidence, case.function, write, register, None)
            if remover is not None:
                yield _with(finding, f", while {remover} takes it out"), not is_at_edge, None
            elif register.name in _ADDRESSES and (moved := _moved(case, write, register)) is not None:
                cause = reset_cause(case.evidence, case.function, moved)
                is_certain = known(moved.before) is not None and known(moved.after) is not None
                words = ", by a kernel that is up already" if cause is None else ""
                yield _with(finding, words), is_certain and not is_at_edge, cause


def _moved(case: Case, write: ConfigWrite, register: RegisterEntry) -> Change | None:
    """What a write made of a register, unless it holds the same as before for certain."""
    history = case.evidence.timeline.history(case.function.index, register.name)
    if history is None:
        return None
    for change in history.between(write.t_ns - 1, write.t_ns):
        if change.before != change.after or known(change.before) is None:
            return change
    return None


def _remover(write: ConfigWrite) -> str | None:
    frames = () if write.writer is None else write.writer.frames
    return next((frame for frame in frames if _REMOVAL.match(frame)), None)


def _with(finding: Finding, words: str) -> Finding:
    return replace(finding, message=finding.message + words)


RESCAN: Final = Rule(
    id="RESCAN",
    title="A bus that is scanned again before the finish leaves preserved devices alone, and none is taken out",
    hazards=(65,),
    severity="R",
    why="A scan that meets a device it does not know sizes its BARs, disables it while it does, and may number the "
    "bridges above it anew. After a removal every device is one that it does not know: the one that lives on is set "
    "up as if it had just been plugged in.",
    acceptable="The scan only reads, or writes the values that are there already. After the finish a device is the "
    "incoming kernel's own.",
    source="PCIe 6.0 7.5.1.2.1, 7.5.1.3; linux drivers/pci/probe.c pci_rescan_bus, pci_scan_slot; remove.c "
    "pci_stop_and_remove_bus_device; pci-sysfs.c rescan_store, remove_store",
    planted_fault="BAR0 of a preserved endpoint written with ones and back after the incoming agent's hello",
    judge=_judge,
    registers=_ADDRESSES,
    writers=(
        "rescan_store -> pci_rescan_bus -> pci_scan_child_bus -> pci_scan_slot (drivers/pci/probe.c)",
        "pci_rescan_bus -> pci_assign_unassigned_bus_resources (drivers/pci/setup-bus.c)",
        "remove_store -> pci_stop_and_remove_bus_device_locked (drivers/pci/remove.c)",
    ),
    examines="places that a scan asked and nobody answered, between the incoming agent's hello and the finish",
    vacuous_when="no bus was scanned again and nothing was taken out",
    judges_any_register=True,
)
