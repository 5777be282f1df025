# SPDX-License-Identifier: MIT
"""The registers of an IOMMU that decide about translation, as QEMU's trace has them: Intel VT-d's (11.4).

What comes of them for a device, `rules/mapping.py` judges, by what the server was told. Writers, linux 7.3:
`intel_iommu_shutdown`, `init_dmars`, `iommu_set_root_entry` (drivers/iommu/intel/iommu.c: hazards 10, 13),
`intel_setup_irq_remapping`, `iommu_disable_irq_remapping` (irq_remapping.c: 14), `dmar_disable_qi` (dmar.c: 16).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydev.continuity.evidence import Evidence, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.continuity.rules.mapping import is_identity
from pydev.recording.config import field_values, known
from pydev.recording.format import IommuRegister, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Timeline

TRANSLATION: Final = 31
QUEUED_INVALIDATION: Final = 26
INTERRUPT_REMAPPING: Final = 25
_HELD: Final = (TRANSLATION, QUEUED_INVALIDATION, INTERRUPT_REMAPPING)
_NAMES: Final = {
    TRANSLATION: "translation_enable",
    QUEUED_INVALIDATION: "queued_invalidation_enable",
    INTERRUPT_REMAPPING: "interrupt_remapping_enable",
}
_NO_IOMMU: Final = "the machine has no IOMMU"
_NEVER_FROZEN: Final = "the guest was never frozen"


@dataclass(frozen=True, slots=True)
class _Command:
    """One write of GCMD: what the unit held before, and what of it holds after."""

    t_ns: int
    before: int
    after: int

    def clears(self, bit: int) -> bool:
        """Whether it turns something off."""
        return bool(self.before >> bit & 1 and not self.after >> bit & 1)


def _writes(timeline: Timeline, register: IommuRegister) -> list[tuple[int, int, int]]:
    slots = timeline.of_kind(Kind.IOMMU)
    slots = slots[timeline.column("address", slots) == register]
    columns = (timeline.column(name, slots).tolist() for name in ("t_ns", "value", "extra"))
    return list(zip(*columns, strict=True))


def _commands(timeline: Timeline) -> list[_Command]:
    return [_Command(t, status, value) for t, value, status in _writes(timeline, IommuRegister.GCMD)]


def _whole(timeline: Timeline, judgement: Judgement) -> None:
    """Doubts, where a write of the unit's registers is missing: its only witness is the trace."""
    counted = (timeline.trailer.get("trace") or {}).get("iommu_writes")
    seen = len(timeline.of_kind(Kind.IOMMU))
    if counted != seen:
        judgement.doubt(Finding(f"the trace had {counted} writes to the IOMMU, the recording has {seen}"))
    mask = sum(1 << bit for bit in _HELD)
    held = 0
    for command in _commands(timeline):
        if command.before & mask != held:
            judgement.doubt(
                Finding(
                    f"a write of GCMD is missing: the unit was at {command.before & mask:#x} where the record "
                    f"derives {held:#x}",
                    t_ns=command.t_ns,
                )
            )
        held = command.after & mask


def _finding(timeline: Timeline, command: _Command, bit: int, note: str) -> Finding:
    phase = timeline.phase_at(command.t_ns)
    return Finding(
        f"GCMD.{_NAMES[bit]} 1 -> 0 in {phase}: {note}",
        t_ns=command.t_ns,
        phase=phase,
        register="GCMD",
        field=_NAMES[bit],
        width=4,
        before=command.before,
        after=command.after,
    )


def _moved(
    timeline: Timeline, register: IommuRegister, blackout: Blackout, note: str
) -> Iterator[tuple[int, Finding]]:
    """The moments in a blackout at which the unit took over another address of a table."""
    held: int | None = None
    for t_ns, address, _ in _writes(timeline, register):
        if held not in (None, address) and blackout.begin.t_ns < t_ns <= blackout.end_ns:
            phase = timeline.phase_at(t_ns)
            text = f"{register.name} {held:#x} -> {address:#x} in {phase}: {note}"
            yield (
                t_ns,
                Finding(
                    text,
                    t_ns=t_ns,
                    phase=phase,
                    register=register.name,
                    width=8,
                    before=held,
                    after=address,
                ),
            )
        held = address


def _has_iommu(evidence: Evidence) -> bool:
    timeline = evidence.timeline
    experiment = timeline.header.get("experiment")
    declared = isinstance(experiment, dict) and experiment.get("iommu") is not None
    return declared or bool(len(timeline.of_kind(Kind.IOMMU)))


def _is_at_work(timeline: Timeline, bit: int, t_ns: int) -> bool:
    """What the unit's last command before a moment left a bit at."""
    before = [command for command in _commands(timeline) if command.t_ns <= t_ns]
    return bool(before and before[-1].after >> bit & 1)


def _translation(evidence: Evidence) -> Result:
    judgement = Judgement()
    timeline = evidence.timeline
    if not _has_iommu(evidence):
        return judgement.result(nothing=_NO_IOMMU)
    _whole(timeline, judgement)
    for blackout in evidence.blackouts:
        if not _is_at_work(timeline, TRANSLATION, blackout.begin.t_ns):
            judgement.vacuous("the IOMMU translated nothing when frozen")
            continue
        if not evidence.preserved:
            judgement.vacuous("nothing is preserved")
            continue
        judgement.examined += 1
        if is_identity(evidence, blackout):
            continue
        note = "the addresses of preserved endpoints meant other memory, or none"
        for command in _commands(timeline):
            if blackout.begin.t_ns < command.t_ns <= blackout.end_ns and command.clears(TRANSLATION):
                judgement.fail(_finding(timeline, command, TRANSLATION, note))
        for _, finding in _moved(timeline, IommuRegister.RTADDR, blackout, "other tables for everything"):
            judgement.fail(finding)
        if not blackout.is_over:
            judgement.doubt(Finding("no finish report: the IOMMU was not seen through the whole blackout"))
    return judgement.result(nothing=_NEVER_FROZEN)


IOMMU_TRANSLATION: Final = Rule(
    id="IOMMU-TRANSLATION",
    title="The IOMMU goes on translating with the same tables while devices are preserved",
    hazards=(10, 13),
    severity="D",
    why="With translation off, an I/O virtual address is used as a physical one: a device that goes on writes "
    "into memory that is not its own. A new root table means new domains for all.",
    acceptable="Passthrough: every page of a preserved ring leads to the memory of its own address all the time "
    "(IOVA-MAPPING passes and the mapping is the identity); or preservation of the IOMMU's tables.",
    source="Intel VT-d 11.4.4, 11.4.5; linux drivers/iommu/intel/iommu.c intel_iommu_shutdown, init_dmars, "
    "iommu_set_root_entry",
    planted_fault="GCMD written with Translation Enable clear during shutdown, of a ring that is not the identity",
    judge=_translation,
    is_per_function=False,
    registers=("GCMD.translation_enable", "RTADDR"),
    writers=(
        "intel_iommu_shutdown (drivers/iommu/intel/iommu.c)",
        "init_dmars (drivers/iommu/intel/iommu.c)",
        "iommu_set_root_entry (drivers/iommu/intel/iommu.c)",
    ),
)


def _interrupts(evidence: Evidence) -> Result:
    judgement = Judgement()
    timeline = evidence.timeline
    if not _has_iommu(evidence):
        return judgement.result(nothing=_NO_IOMMU)
    _whole(timeline, judgement)
    for blackout in evidence.blackouts:
        if not _is_at_work(timeline, INTERRUPT_REMAPPING, blackout.begin.t_ns):
            judgement.vacuous("interrupts were not remapped when frozen")
            continue
        judgement.examined += 1
        found = [
            (command.t_ns, _finding(timeline, command, INTERRUPT_REMAPPING, ""))
            for command in _commands(timeline)
            if blackout.begin.t_ns < command.t_ns <= blackout.end_ns and command.clears(INTERRUPT_REMAPPING)
        ]
        found += _moved(timeline, IommuRegister.IRTA, blackout, "")
        for t_ns, finding in found:
            _judge_remapping(evidence, judgement, blackout, t_ns, finding)
    return judgement.result(nothing=_NEVER_FROZEN)


def _judge_remapping(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, t_ns: int, finding: Finding
) -> None:
    able: list[str] = []
    open_ones: list[str] = []
    for function in evidence.preserved:
        for register in ("MSIX_CONTROL", "MSI_CONTROL"):
            watched = watch(evidence, function, blackout, register, "enable")
            if watched is None:
                continue
            enabled = known(field_values(watched.history.at(t_ns), watched.entry))
            if enabled != 0:
                (open_ones if enabled is None else able).append(evidence.name(function, t_ns))
    who = ", ".join(able or open_ones)
    text = f"{finding.message.rstrip(': ')}: {who} could send interrupts that are remapped"
    one = Finding(
        text,
        t_ns=t_ns,
        phase=finding.phase,
        register=finding.register,
        field=finding.field,
        width=finding.width,
        before=finding.before,
        after=finding.after,
    )
    if able:
        judgement.fail(one)
    elif open_ones:
        judgement.doubt(one)


IOMMU_INTERRUPTS: Final = Rule(
    id="IOMMU-INTERRUPTS",
    title="Interrupt remapping stays as it is while a preserved endpoint can send interrupts",
    hazards=(14,),
    severity="I",
    why="A message that was set up to be remapped is blocked, or read as another vector, while remapping is off "
    "or has another table.",
    acceptable="MSI and MSI-X of every preserved endpoint are disabled at that moment.",
    source="Intel VT-d 5.1, 11.4.4; linux drivers/iommu/intel/irq_remapping.c intel_setup_irq_remapping, "
    "iommu_disable_irq_remapping",
    planted_fault="GCMD written with Interrupt Remapping Enable clear while MSI-X is enabled",
    judge=_interrupts,
    is_per_function=False,
    registers=("GCMD.interrupt_remapping_enable", "IRTA"),
    writers=(
        "iommu_disable_irq_remapping (drivers/iommu/intel/irq_remapping.c)",
        "intel_setup_irq_remapping (drivers/iommu/intel/irq_remapping.c)",
    ),
)


def _invalidation(evidence: Evidence) -> Result:
    judgement = Judgement()
    timeline = evidence.timeline
    if not _has_iommu(evidence):
        return judgement.result(nothing=_NO_IOMMU)
    _whole(timeline, judgement)
    for blackout in evidence.blackouts:
        if not _is_at_work(timeline, QUEUED_INVALIDATION, blackout.begin.t_ns):
            judgement.vacuous("invalidations were not queued when frozen")
            continue
        caching = [f for f in evidence.preserved if _caches(evidence, f, blackout)]
        if not caching:
            judgement.vacuous("no preserved endpoint has its own translation cache enabled (ATS)")
            continue
        judgement.examined += 1
        who = ", ".join(evidence.name(f, blackout.begin.t_ns) for f in caching)
        for command in _commands(timeline):
            if blackout.begin.t_ns < command.t_ns <= blackout.end_ns and command.clears(QUEUED_INVALIDATION):
                judgement.fail(
                    _finding(timeline, command, QUEUED_INVALIDATION, f"invalidations for {who} are lost")
                )
    return judgement.result(nothing=_NEVER_FROZEN)


def _caches(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> bool:
    watched = watch(evidence, function, blackout, "ATS_CTRL", "enable")
    return watched is not None and known(watched.initial) != 0


IOMMU_INVALIDATION: Final = Rule(
    id="IOMMU-INVALIDATION",
    title="Queued invalidation stays on while a preserved endpoint caches translations",
    hazards=(16,),
    severity="T",
    why="An endpoint with ATS keeps translations of its own; what is unmapped while the queue is off stays in its "
    "cache, and the device goes on writing there.",
    acceptable="No preserved endpoint has ATS enabled.",
    source="Intel VT-d 6.5.2, 11.4.4; PCIe 6.0 10.3; linux drivers/iommu/intel/dmar.c dmar_disable_qi",
    planted_fault="GCMD written with Queued Invalidation Enable clear while ATS is enabled",
    judge=_invalidation,
    is_per_function=False,
    registers=("GCMD.queued_invalidation_enable",),
    writers=("dmar_disable_qi (drivers/iommu/intel/dmar.c)",),
)
