# SPDX-License-Identifier: MIT
"""Registers that an update may write and may not change: ACS, ARI Forwarding, Device and Link Control.

ACS Control and ARI Forwarding count as examined only where they held something else than 0: a kernel that
adopts a 0 and one that drops everything look the same on the wire. So both are optional in `series`, and an
experiment that is about them sets them first. A change from 0 fails all the same. Device and Link Control hold
encodings of which 0 is one, so they are always examined.
"""

from typing import Final

from pydev.continuity.check import Case, judge_checks, path
from pydev.continuity.evidence import Evidence
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, field_values, known
from pydev.recording.functions import FunctionEntry, upstream_path

_SMALLEST_PAYLOAD_BYTES: Final = 128  # PCIe 6.0 7.5.3.4: 0 is 128 bytes, each one more doubles it


def _ends_differ(case: Case, change: Change) -> str:
    """Which functions of the same path take another payload than this one from now on."""
    entry = case.function.registers["DEVCTL"].fields["max_payload_size"]
    own = known(field_values(change.after, entry))
    if own is None:
        return ""
    others = []
    for function in _same_paths(case.evidence, case.function):
        history = case.evidence.timeline.history(function.index, "DEVCTL")
        field = None if history is None else history.register.fields.get("max_payload_size")
        if history is None or field is None:
            continue
        held = known(field_values(history.at(change.t_ns), field))
        if held is not None and held != own:
            name = case.evidence.name(function, change.t_ns)
            others.append(f"{_SMALLEST_PAYLOAD_BYTES << held} at {name}")
    words = f", {_SMALLEST_PAYLOAD_BYTES << own} bytes"
    return words + (f": the ends differ, {', '.join(others)}" if others else "")


def _same_paths(evidence: Evidence, function: FunctionEntry) -> list[FunctionEntry]:
    """Every other function on a preserved endpoint's way up that leads through this one."""
    everyone = evidence.timeline.functions
    preserved = [f for f in everyone if f.is_endpoint and f.preserve]
    ways = [(endpoint, *upstream_path(everyone, endpoint.index)) for endpoint in preserved]
    others = {other.index for way in ways if function in way for other in way} - {function.index}
    return [everyone[index] for index in sorted(others)]


_ACS: Final = (Kept("ACS_CONTROL", at_every_moment=True, zero_shows_nothing=True),)
_ARI: Final = (Kept("DEVCTL2", "ari_forwarding", at_every_moment=True, zero_shows_nothing=True),)
_DEVICE: Final = (
    Kept("DEVCTL", "max_payload_size", at_every_moment=True, remark=_ends_differ),
    Kept("DEVCTL", "max_read_request_size"),
    Kept("DEVCTL", "extended_tag"),
    Kept("DEVCTL", "phantom_functions"),
    Kept("DEVCTL", "relaxed_ordering"),
    Kept("DEVCTL", "no_snoop"),
    Kept("DEVCTL", "aux_power"),
    Kept("DEVCTL2", "completion_timeout_value"),
    Kept("DEVCTL2", "completion_timeout_disable"),
    Kept("DEVCTL2", "atomic_op_requester"),
    Kept("DEVCTL2", "atomic_op_egress_blocking"),
    Kept("DEVCTL2", "ido_request"),
    Kept("DEVCTL2", "ido_completion"),
    Kept("DEVCTL2", "ltr"),
    Kept("DEVCTL2", "ten_bit_tag_requester"),
    Kept("DEVCTL2", "obff"),
    Kept("DEVCTL2", "end_end_tlp_prefix_blocking"),
)
_LINK: Final = (
    Kept("LNKCTL", "link_disable", at_every_moment=True),
    Kept("LNKCTL", "aspm_control"),
    Kept("LNKCTL", "read_completion_boundary"),
    Kept("LNKCTL", "common_clock"),
    Kept("LNKCTL", "extended_synch"),
    Kept("LNKCTL", "clock_power_management"),
    Kept("LNKCTL", "autonomous_width_disable"),
    Kept("LNKCTL", "flit_mode_disable"),
    Kept("LNKCTL2", "target_speed"),
    Kept("LNKCTL2", "enter_compliance"),
    Kept("LNKCTL2", "autonomous_speed_disable"),
    Kept("LNKCTL2", "selectable_deemphasis"),
    Kept("LNKCTL2", "transmit_margin"),
)
"""Not Retrain Link, which holds nothing, nor the notification enables (LINK-NOTIFICATION)."""


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
    judge=lambda evidence: judge_checks(evidence, path(evidence), _ACS, "ACS"),
    registers=("ACS_CONTROL",),
    writers=(
        "pci_init_capabilities -> pci_acs_init -> pci_enable_acs (drivers/pci/pci.c)",
        "pci_restore_state -> pci_enable_acs (drivers/pci/pci.c)",
    ),
    examines="preserved endpoints and bridges above them whose ACS Control was not 0 when frozen",
    vacuous_when="ACS Control is 0 throughout: an experiment sets it first, with pci=config_acs=",
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
    judge=lambda evidence: judge_checks(evidence, evidence.bridges, _ARI, "ARI Forwarding"),
    registers=("DEVCTL2.ari_forwarding",),
    writers=("pci_init_capabilities -> pci_configure_ari (drivers/pci/pci.c)",),
    examines="bridges above preserved endpoints whose ARI Forwarding was on when frozen",
    vacuous_when="it is off throughout: an experiment sets it first",
)
DEVICE_CONTROL: Final = Rule(
    id="DEVICE-CONTROL",
    title="Payload and request sizes, tags, ordering and LTR end as they began on a preserved path",
    hazards=(33, 34, 35, 36, 37),
    severity="D",
    why="Ends of a link that disagree on Max_Payload_Size answer each other with malformed TLPs; a change of tags "
    "with requests outstanding is undefined; ordering, snooping and completion timeouts are what the device's driver "
    "was written for.",
    acceptable="The same value written again; a moment of another value, but for Max_Payload_Size.",
    source="PCIe 6.0 2.2.2, 2.2.6.2, 7.5.3.4, 7.5.3.16; linux drivers/pci/probe.c pci_configure_mps, pcie_write_mps, "
    "pcie_write_mrrs, pci_configure_extended_tags, pci_configure_relaxed_ordering; pcie/aspm.c pci_configure_ltr",
    planted_fault="DEVCTL of a preserved endpoint left with another Max_Payload_Size",
    judge=lambda evidence: judge_checks(evidence, path(evidence), _DEVICE, "a PCI Express capability"),
    registers=tuple(one.label for one in _DEVICE),
    writers=(
        "pci_configure_device -> pci_configure_mps (drivers/pci/probe.c)",
        "pcie_bus_configure_settings -> pcie_write_mps, pcie_write_mrrs (drivers/pci/probe.c), with pci=pcie_bus_*",
        "pci_configure_device -> pci_configure_extended_tags, pci_configure_relaxed_ordering (drivers/pci/probe.c)",
        "pci_configure_device -> pci_configure_ltr (drivers/pci/pcie/aspm.c)",
    ),
    examines="preserved endpoints and bridges above them",
    vacuous_when="no Device Control of the path was seen, before or after",
)
LINK_CONTROL: Final = Rule(
    id="LINK-CONTROL",
    title="Link Control and the target speed end as they began on a preserved path",
    hazards=(38, 39, 40),
    severity="T",
    why="Read Completion Boundary, ASPM and the common clock have to agree with the other end of a link in use.",
    acceptable="The same value written again; a retrain, which holds transactions back and loses none; "
    "bandwidth notification. Link Disable does harm at any moment.",
    source="PCIe 6.0 7.5.3.7, 7.5.3.19; linux drivers/pci/probe.c pci_configure_rcb; pcie/aspm.c "
    "pcie_aspm_configure_common_clock, pcie_config_aspm_link; quirks.c pcie_failed_link_retrain",
    planted_fault="LNKCTL of a preserved endpoint left with another Read Completion Boundary",
    judge=lambda evidence: judge_checks(evidence, path(evidence), _LINK, "a PCI Express capability"),
    registers=tuple(one.label for one in _LINK),
    writers=(
        "pci_configure_device -> pci_configure_rcb (drivers/pci/probe.c)",
        "pcie_aspm_init_link_state -> pcie_aspm_configure_common_clock (drivers/pci/pcie/aspm.c)",
        "pcie_config_aspm_path -> pcie_config_aspm_link (drivers/pci/pcie/aspm.c)",
        "pcie_failed_link_retrain -> pcie_set_target_speed (drivers/pci/quirks.c, pcie/bwctrl.c)",
    ),
    examines="preserved endpoints and bridges above them",
    vacuous_when="no Link Control of the path was seen, before or after",
)
