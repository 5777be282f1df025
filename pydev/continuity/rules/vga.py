# SPDX-License-Identifier: MIT
"""VGA forwarding of the bridges above preserved endpoints.

Writer, linux 7.3: `pci_set_vga_state` (drivers/pci/pci.c), called by the VGA arbiter (drivers/pci/vgaarb.c:
hazard 51), for every bridge from a VGA device up to the root. The device's own COMMAND, which the arbiter also
switches, is `sizing.py`'s where the device is preserved.
"""

from typing import Final

from pydev.continuity.causes import shared
from pydev.continuity.departures import report_departures
from pydev.continuity.evidence import Evidence, absent, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import known

_FIELDS: Final = ("vga_enable", "vga_16bit_decode", "isa_enable")


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for bridge in evidence.bridges:
            name = evidence.name(bridge, blackout.begin.t_ns)
            was_examined = False
            for field in _FIELDS:
                watched = watch(evidence, bridge, blackout, "BRIDGE_CONTROL", field)
                if watched is None:
                    absent(evidence, judgement, bridge, "BRIDGE_CONTROL", field)
                elif known(watched.initial) is None and not watched.changes:
                    judgement.vacuous(f"BRIDGE_CONTROL.{field} of {name} was never seen, and nobody wrote it")
                else:
                    was_examined |= report_departures(evidence, judgement, blackout, bridge, watched)
            judgement.examined += was_examined
            if was_examined and not blackout.is_over:
                judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


VGA_FORWARDING: Final = Rule(
    id="VGA-FORWARDING",
    title="Bridges above a preserved endpoint forward VGA addresses, or do not, as when frozen",
    hazards=(51,),
    severity="R",
    why="A bridge with VGA Enable set claims a0000h to bffffh and the VGA I/O ports for what is below it, whatever "
    "its windows say: switched on, it takes them from the display that had them, and requests from below to that "
    "memory no longer go up; switched off, a preserved display is gone. 16-bit Decode and ISA Enable decide which I/O "
    "ports go with it.",
    acceptable="The same values are written again; nothing below the bridge is preserved.",
    source="PCIe 6.0 7.5.1.3.13 (VGA Enable, VGA 16-bit Decode, ISA Enable); linux drivers/pci/pci.c "
    "pci_set_vga_state; drivers/pci/vgaarb.c __vga_tryget",
    planted_fault="BRIDGE_CONTROL.vga_enable of the port above a preserved endpoint set for a moment",
    judge=_judge,
    registers=tuple(f"BRIDGE_CONTROL.{field}" for field in _FIELDS),
    writers=(
        "__vga_tryget -> pci_set_vga_state (drivers/pci/vgaarb.c, pci.c)",
        "__pci_setup_bridge writes BRIDGE_CONTROL from its cached value (drivers/pci/setup-bus.c)",
        "pci_scan_bridge_extend writes it without Master-Abort Mode and back (drivers/pci/probe.c)",
    ),
    examines="BRIDGE_CONTROL of each bridge above a preserved endpoint, in each update",
    vacuous_when="nothing is preserved, or a field was never seen and never written",
)
