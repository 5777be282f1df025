# SPDX-License-Identifier: MIT
"""Registers that an update may write and may not change: ACS, ARI Forwarding, Device and Link Control.

Each is compared with what it held when frozen. Where a moment of another value does harm, every write counts;
else only the value at the end does. A value that was never seen is not examined: VACUOUS.

ACS Control and ARI Forwarding count as examined only where they held something else than 0: a kernel that
adopts a 0 and one that drops everything look the same on the wire. So both are optional in `series`, and an
experiment that is about them sets them first. A change from 0 fails all the same. Device and Link Control hold
encodings of which 0 is one, so they are always examined.

Writers, linux 7.3: `pci_enable_acs`, `pci_configure_ari` (drivers/pci/pci.c: hazards 46, 31),
`pci_configure_mps`, `pci_configure_extended_tags`, `pci_configure_relaxed_ordering`, `pci_configure_ltr`
(probe.c: 33 to 37), `pcie_aspm_init_link_state` (pcie/aspm.c: 38, 39), `pcie_failed_link_retrain`
(quirks.c: 40).
"""

from dataclasses import dataclass
from typing import Final

from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.evidence import Evidence, WatchedField, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout


@dataclass(frozen=True, slots=True)
class Kept:
    """A field, or a whole register, that has to be kept."""

    register: str
    field: str | None = None
    at_every_moment: bool = False
    """A moment of another value does harm."""
    zero_shows_nothing: bool = False


_ACS: Final = (Kept("ACS_CONTROL", at_every_moment=True, zero_shows_nothing=True),)
_ARI: Final = (Kept("DEVCTL2", "ari_forwarding", at_every_moment=True, zero_shows_nothing=True),)
_DEVICE: Final = (
    Kept("DEVCTL", "max_payload_size", at_every_moment=True),
    Kept("DEVCTL", "max_read_request_size"),
    Kept("DEVCTL", "extended_tag"),
    Kept("DEVCTL", "relaxed_ordering"),
    Kept("DEVCTL2", "ltr"),
)
_LINK: Final = (
    Kept("LNKCTL", "link_disable", at_every_moment=True),
    Kept("LNKCTL", "aspm_control"),
    Kept("LNKCTL", "read_completion_boundary"),
    Kept("LNKCTL", "common_clock"),
    Kept("LNKCTL", "extended_synch"),
    Kept("LNKCTL", "clock_power_management"),
    Kept("LNKCTL", "autonomous_width_disable"),
    Kept("LNKCTL2", "target_speed"),
)
"""Not Retrain Link, which holds nothing, nor the notification enables (hazards 7 and 58: harmless)."""


def _judge(
    evidence: Evidence, functions: tuple[FunctionEntry, ...], kept: tuple[Kept, ...], what: str
) -> Result:
    judgement = Judgement()
    notes: list[str] = []
    for blackout in evidence.blackouts:
        for function in functions:
            was_examined = False
            for one in kept:
                watched = watch(evidence, function, blackout, one.register, one.field)
                if watched is not None:
                    was_examined |= _judge_field(evidence, judgement, blackout, function, one, watched, notes)
            judgement.examined += was_examined
            if was_examined and not blackout.is_over:
                name = evidence.name(function, blackout.begin.t_ns)
                judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    if not judgement.examined:
        for note in notes:
            judgement.vacuous(note)
    nothing = f"nothing on a preserved path has {what}" if functions else "nothing is preserved"
    cause = shared(evidence, judgement.causes)
    return judgement.result(
        caused_by=cause, nothing=nothing if evidence.blackouts else "the guest was never frozen"
    )


def _judge_field(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    one: Kept,
    watched: WatchedField,
    notes: list[str],
) -> bool:
    """Judges one field; returns whether there was something to examine."""
    name = evidence.name(function, blackout.begin.t_ns)
    label = one.register if one.field is None else f"{one.register}.{one.field}"
    held = known(watched.initial)
    if held is None:
        if any(change.cause != "read" for change, _ in watched.changes):
            judgement.doubt(
                Finding(f"{label} of {name} was written, and what it held when frozen is not known")
            )
        notes.append(f"{label} of {name} was never seen")
        return False
    left = [
        (change, is_at_edge)
        for change, is_at_edge in watched.changes
        if held in watched.values(change)[0] and watched.values(change)[1] != {held}
    ]
    if one.at_every_moment:
        for change, is_at_edge in left:
            is_certain = held not in watched.values(change)[1] and bool(watched.values(change)[1])
            _report(evidence, judgement, function, one, watched, change, is_certain and not is_at_edge)
    elif left and watched.final != {held} and blackout.is_over and blackout.panic is None:
        change, is_at_edge = left[-1]
        is_certain = bool(watched.final) and held not in watched.final
        _report(evidence, judgement, function, one, watched, change, is_certain and not is_at_edge)
    if held == 0 and one.zero_shows_nothing and not left:
        notes.append(f"{label} of {name} was 0 throughout: nothing could have been lost")
        return False
    return True


def _report(
    evidence: Evidence,
    judgement: Judgement,
    function: FunctionEntry,
    one: Kept,
    watched: WatchedField,
    change: Change,
    is_certain: bool,
) -> None:
    is_certain = is_certain and change.cause != "read"
    note = "" if is_certain else " (not certain)"
    finding = transition(evidence, function, change, one.register, watched.entry, note)
    if is_certain:
        judgement.fail(finding, reset_cause(evidence, function, change))
    else:
        judgement.doubt(finding)


def _path(evidence: Evidence) -> tuple[FunctionEntry, ...]:
    return (*evidence.preserved, *evidence.bridges)


ACS_CONTROL: Final = Rule(
    id="ACS-CONTROL",
    title="ACS Control of preserved endpoints and of the bridges above keeps its value throughout",
    hazards=(46,),
    severity="R",
    why="ACS decides which peer-to-peer requests pass and thereby the IOMMU groups: changed under a device in "
    "use, it opens or closes a path between two owners.",
    acceptable="Nothing below the bridge is preserved; or the same value is written again.",
    source="PCIe 6.0 7.7.11.3; linux drivers/pci/pci.c pci_enable_acs, pci_restore_state",
    planted_fault="ACS Control of the root port above a preserved endpoint written 0 where it held 0x1d",
    judge=lambda evidence: _judge(evidence, _path(evidence), _ACS, "ACS"),
)
ARI_FORWARDING: Final = Rule(
    id="ARI-FORWARDING",
    title="Bridges above a preserved endpoint keep ARI Forwarding throughout",
    hazards=(31,),
    severity="R",
    why="With ARI Forwarding off, functions 8 and up of the device below can no longer be reached.",
    acceptable="Nothing below the bridge is preserved; or the same value is written again.",
    source="PCIe 6.0 6.13, 7.5.3.16; linux drivers/pci/pci.c pci_configure_ari",
    planted_fault="DEVCTL2 of the port above a preserved endpoint written with ARI Forwarding clear",
    judge=lambda evidence: _judge(evidence, evidence.bridges, _ARI, "ARI Forwarding"),
)
DEVICE_CONTROL: Final = Rule(
    id="DEVICE-CONTROL",
    title="Payload and request sizes, tags, ordering and LTR end as they began on a preserved path",
    hazards=(33, 34, 35, 36, 37),
    severity="D",
    why="Ends of a link that disagree on Max_Payload_Size answer each other with malformed TLPs, and a change "
    "of tags with requests outstanding is undefined.",
    acceptable="The same value written again; a moment of another value, but for Max_Payload_Size.",
    source="PCIe 6.0 2.2.2, 7.5.3.4, 7.5.3.16; linux drivers/pci/probe.c pci_configure_mps, pcie_write_mps, "
    "pci_configure_extended_tags, pci_configure_relaxed_ordering, pci_configure_ltr",
    planted_fault="DEVCTL of a preserved endpoint left with another Max_Payload_Size",
    judge=lambda evidence: _judge(evidence, _path(evidence), _DEVICE, "a PCI Express capability"),
)
LINK_CONTROL: Final = Rule(
    id="LINK-CONTROL",
    title="Link Control and the target speed end as they began on a preserved path",
    hazards=(38, 39, 40),
    severity="T",
    why="Read Completion Boundary, ASPM and the common clock have to agree with the other end of a link in use.",
    acceptable="The same value written again; a retrain, which holds transactions back and loses none; "
    "bandwidth notification. Link Disable does harm at any moment.",
    source="PCIe 6.0 7.5.3.7, 7.5.3.19; linux drivers/pci/probe.c, pcie/aspm.c, quirks.c "
    "pcie_failed_link_retrain",
    planted_fault="LNKCTL of a preserved endpoint left with another Read Completion Boundary",
    judge=lambda evidence: _judge(evidence, _path(evidence), _LINK, "a PCI Express capability"),
)
