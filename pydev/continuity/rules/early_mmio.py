# SPDX-License-Identifier: MIT
"""Writes to the BARs of preserved endpoints by a kernel whose driver for them is not there yet.

Final fixups run after enumeration and before drivers are probed, by vendor, device or class. What they do to
configuration space is for the rules of those registers; what they do to a device's own registers is seen here,
as no register of a BAR has a meaning that a rule could know.

Writers, linux 7.3: `pci_apply_final_quirks` (drivers/pci/quirks.c: hazard 50) through `quirk_usb_early_handoff`
(drivers/usb/host/pci-quirks.c), which halts a controller, `disable_igfx_irq` (quirks.c) and others.
"""

from typing import Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.format import Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout

_BAR_COUNT: Final = (
    6  # linux include/uapi/linux/vfio.h VFIO_PCI_BAR0_REGION_INDEX to VFIO_PCI_BAR5_REGION_INDEX
)
_MOST_FINDINGS: Final = 16


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    timeline = evidence.timeline
    name = evidence.name(function, blackout.begin.t_ns)
    jump, probe = blackout.phases.get("jump"), blackout.phases.get("probe")
    if jump is None or probe is None:
        judgement.vacuous(
            f"no driver was seen to be probed: whose a write to the BARs of {name} is nobody can say"
        )
        return
    judgement.examined += 1
    slots = timeline.of_kind(Kind.REGION_WRITE, function.index)
    times = timeline.t_ns[slots]
    is_bar = timeline.column("region", slots) < _BAR_COUNT
    slots = slots[is_bar & (times > jump.t_ns) & (times < probe.t_ns)]
    names = ("t_ns", "region", "address", "size", "value")
    for t_ns, region, offset, size, value in zip(
        *(timeline.column(column, slots[:_MOST_FINDINGS]).tolist() for column in names), strict=True
    ):
        words = f"{size} bytes {value:#x} written to {name} BAR{region} at {offset:#x} before any driver was probed"
        finding = Finding(
            words,
            t_ns=t_ns,
            phase=timeline.phase_at(t_ns),
            bdf=timeline.bdf_at(function.index, t_ns),
            width=size,
        )
        is_certain = jump.t_ns + jump.uncertainty_ns < t_ns < probe.t_ns - probe.uncertainty_ns
        (judgement.fail if is_certain else judgement.doubt)(finding)
    if len(slots) > _MOST_FINDINGS:
        more = len(slots) - _MOST_FINDINGS
        judgement.fail(Finding(f"and {more} writes to the BARs of {name} more", count=more))


EARLY_MMIO: Final = Rule(
    id="EARLY-MMIO",
    title="Nobody writes to a preserved endpoint's BARs before the incoming kernel probes drivers",
    hazards=(50,),
    severity="D",
    why="A fixup that matches by class takes the device from firmware, as if it had just been powered on: "
    "quirk_usb_early_handoff halts a USB controller and resets it, with its DMA at work and its driver not yet there.",
    acceptable="No fixup matches the device's class, as with every model here; the fixup knows the device as "
    "preserved and leaves it alone. What a fixup does to COMMAND, to power or by a reset is for BME-ENDPOINT, "
    "BAR-SIZING, POWER-STATE and RESET. Reads, and writes of its own driver from its probe on, are not judged.",
    source="linux drivers/pci/quirks.c pci_apply_final_quirks (fs_initcall_sync, before drivers' device_initcall); "
    "drivers/usb/host/pci-quirks.c quirk_usb_early_handoff; PCIe 6.0 7.5.1.1.6 (Class Code)",
    planted_fault="a write to BAR 0 of a preserved endpoint between enumeration and probe",
    judge=_judge,
    writers=(
        "pci_apply_final_quirks -> quirk_usb_early_handoff (drivers/pci/quirks.c, drivers/usb/host/pci-quirks.c)",
        "pci_fixup_device (drivers/pci/quirks.c)",
    ),
    examines="each preserved endpoint from the jump to the first probe, where every write to its BARs is recorded",
    unknown_when="a write came about the jump or about the first probe, whose moments are not known well enough",
    vacuous_when="no driver was seen to be probed",
)
