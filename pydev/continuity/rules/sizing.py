# SPDX-License-Identifier: MIT
"""Moments in which a preserved endpoint does not answer at its addresses: decode off, BARs sized or moved.

Where a BAR ends is `bars.py`'s. Here a moment counts: a peer that reads or writes during it gets no answer.

Writers, linux 7.3, drivers/pci/probe.c: `pci_read_bases` (hazard 18: memory and I/O decode off and back),
`__pci_size_bars` (19: all ones and back; 20: the ROM's, which nothing reads then: not judged).
"""

from typing import Final

from pydev.continuity.addresses import bars_in_use
from pydev.continuity.causes import shared
from pydev.continuity.departures import report_departures
from pydev.continuity.evidence import Evidence, WatchedField, absent, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import known
from pydev.recording.functions import FunctionEntry
from pydev.recording.phases import Blackout

_BARS: Final = tuple(f"BAR{index}" for index in range(6))


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    bars = bars_in_use(evidence, function, blackout.begin.t_ns)
    if bars is None:
        judgement.doubt(Finding(f"the addresses of {name} when frozen are not known"))
        return
    was_examined = False
    for is_io, field in ((False, "memory_space"), (True, "io_space")):
        registers = [register for bar in bars if bar.is_io is is_io for register in bar.registers]
        if registers:
            was_examined |= _judge_space(evidence, judgement, blackout, function, field, registers)
    judgement.examined += was_examined
    if not bars:
        judgement.vacuous(f"{name} had no address when frozen")
    if was_examined and not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))


def _judge_space(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    field: str,
    registers: list[str],
) -> bool:
    """One address space of a function; returns whether something there was judged."""
    decode = watch(evidence, function, blackout, "COMMAND", field)
    if decode is None:
        absent(evidence, judgement, function, "COMMAND", field)
    elif known(decode.initial) == 0:
        name = evidence.name(function, blackout.begin.t_ns)
        judgement.vacuous(f"COMMAND.{field} of {name} was off when frozen: it answered nobody")
        return False
    else:
        _report(evidence, judgement, blackout, function, decode)
    watched = [watch(evidence, function, blackout, register) for register in registers]
    for one in watched:
        if one is not None:
            _report(evidence, judgement, blackout, function, one)
    return decode is not None or any(one is not None for one in watched)


def _report(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    watched: WatchedField,
) -> None:
    report_departures(
        evidence, judgement, blackout, function, watched, cause="BAR-FINAL", without_resets=True
    )


BAR_SIZING: Final = Rule(
    id="BAR-SIZING",
    title="A preserved endpoint answers at its addresses at every moment from frozen to finished",
    hazards=(18, 19, 20),
    severity="P",
    why="While memory decode is off the function does not claim its addresses, and while a BAR holds all ones it "
    "claims others: a peer's request in that time is an Unsupported Request, and a read completes with all ones. The "
    "function's own DMA is not touched, as long as Bus Master Enable does not move with the decode bits (BME-ENDPOINT "
    "judges that).",
    acceptable="Nobody but the CPU uses the BARs, and the driver does not before it is probed: then sizing harms "
    "nothing if the address comes back (BAR-FINAL). The expansion ROM's register, sized as well, is harmless (hazard "
    "20) and not judged. What a reset takes away is for RESET to say.",
    source="PCIe 6.0 7.5.1.1.3 (Memory Space Enable), 7.5.1.2.1 (BARs); linux drivers/pci/probe.c pci_read_bases, "
    "__pci_size_bars, called by pci_setup_device for every function at every boot",
    planted_fault="COMMAND.memory_space of a preserved endpoint off while BAR0 is written with ones and back",
    judge=_judge,
    registers=("COMMAND.memory_space", "COMMAND.io_space", *_BARS),
    writers=(
        "pci_setup_device -> pci_read_bases (drivers/pci/probe.c)",
        "pci_read_bases -> __pci_size_stdbars -> __pci_size_bars (drivers/pci/probe.c)",
        "pci_update_resource -> pci_std_update_resource (drivers/pci/setup-res.c)",
        "pci_disable_enabled_device, pci_restore_config_space (drivers/pci/pci.c)",
    ),
    examines="memory and I/O decode, and each BAR with an address in it, of each preserved endpoint, in each update",
    vacuous_when="nothing preserved has an address, or none that was decoded when frozen",
)
