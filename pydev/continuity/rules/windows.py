# SPDX-License-Identifier: MIT
"""The way down to preserved endpoints: bridges' decode, their windows, and their own BARs.

A window matters where it holds an address of a preserved endpoint when the guest is frozen: then every moment
of another value counts. Windows that hold none only have to end as they began, and what Linux tries out on a
register that reads 0 and puts back (hazard 23) is no departure to anybody.

Writers, linux 7.3: `pci_read_bases` (drivers/pci/probe.c: hazard 21, memory decode off and the port's own BARs
sized), `pci_read_bridge_windows` (22, 23), `pci_setup_bridge_io`, `_mmio` and `_mmio_pref`
(drivers/pci/setup-bus.c: 48).
"""

from typing import Final

from pydev.continuity.addresses import (
    IO,
    MEMORY,
    PREFETCHABLE,
    BarInUse,
    WindowKind,
    bars_in_use,
    window,
)
from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.departures import departures, report_departures
from pydev.continuity.evidence import Evidence, WatchedField, absent, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, field_values, known
from pydev.recording.functions import FunctionEntry, upstream_path
from pydev.recording.phases import Blackout

_OWN_BARS: Final = ("BAR0", "BAR1")


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for bridge in evidence.bridges:
            _judge_bridge(evidence, judgement, blackout, bridge)
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _judge_bridge(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, bridge: FunctionEntry
) -> None:
    name = evidence.name(bridge, blackout.begin.t_ns)
    below = _below(evidence, blackout, bridge)
    if below is None:
        judgement.doubt(Finding(f"the addresses of what is preserved below {name} are not known when frozen"))
        return
    if not below:
        judgement.vacuous(f"nothing preserved below {name} had an address when frozen")
        return
    judgement.examined += 1
    if not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    memory = [bar for bar in below if not bar.is_io]
    for kinds, bars in (((MEMORY, PREFETCHABLE), memory), ((IO,), [bar for bar in below if bar.is_io])):
        if bars:
            _judge_decode(evidence, judgement, blackout, bridge, kinds[0].decode)
            _check_way(evidence, judgement, blackout, bridge, kinds, bars)
        for kind in kinds:
            _judge_window(evidence, judgement, blackout, bridge, kind, bars)
    for register in _OWN_BARS:
        _judge_own_bar(evidence, judgement, blackout, bridge, register)


def _below(evidence: Evidence, blackout: Blackout, bridge: FunctionEntry) -> list[BarInUse] | None:
    """The addresses of preserved endpoints below a bridge; None where one of them is not known."""
    everyone = evidence.timeline.functions
    found: list[BarInUse] = []
    for function in everyone:
        if function.is_endpoint and function.preserve and bridge in upstream_path(everyone, function.index):
            bars = bars_in_use(evidence, function, blackout.begin.t_ns)
            if bars is None:
                return None
            found += bars
    return found


def _judge_decode(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, bridge: FunctionEntry, field: str
) -> None:
    decode = watch(evidence, bridge, blackout, "COMMAND", field)
    name = evidence.name(bridge, blackout.begin.t_ns)
    if decode is None:
        absent(evidence, judgement, bridge, "COMMAND", field)
    elif known(decode.initial) == 0:
        judgement.vacuous(f"COMMAND.{field} of {name} was off when frozen: nothing below could be reached")
    elif known(decode.initial) is None:
        judgement.doubt(Finding(f"COMMAND.{field} of {name} is not known when frozen"))
    else:
        note = ": every window below is shut"
        report_departures(evidence, judgement, blackout, bridge, decode, note=note, without_resets=True)


def _check_way(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    bridge: FunctionEntry,
    kinds: tuple[WindowKind, ...],
    bars: list[BarInUse],
) -> None:
    """An address that no window passed down when frozen cannot be seen to be kept."""
    windows = [window(evidence, bridge, kind, blackout.begin.t_ns) for kind in kinds]
    for bar in bars:
        if not any(one is None or one.holds(bar.address) for one in windows):
            name = evidence.name(bridge, blackout.begin.t_ns)
            words = f"no window of {name} held {bar.registers[0]} at {bar.address:#x} below it when frozen"
            judgement.doubt(Finding(words))


def _judge_window(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    bridge: FunctionEntry,
    kind: WindowKind,
    bars: list[BarInUse],
) -> None:
    name = evidence.name(bridge, blackout.begin.t_ns)
    held = window(evidence, bridge, kind, blackout.begin.t_ns)
    parts = [watch(evidence, bridge, blackout, part.register, part.field) for part in kind.parts]
    watched = [part for part in parts if part is not None]
    if held is None and bars:
        if any(part.changes for part in watched):
            words = f"the {kind.name} of {name} was written, and what it was when frozen is not known"
            judgement.doubt(Finding(words))
        return
    inside = [bar.registers[0] for bar in bars if held is not None and held.holds(bar.address)]
    for part in watched:
        if inside:
            note = f" ({kind.name} {held}, with {', '.join(inside)} of what is preserved below)"
            report_departures(evidence, judgement, blackout, bridge, part, note=note, without_resets=True)
        else:
            _judge_end(evidence, judgement, blackout, bridge, part, kind.name)


def _judge_end(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    bridge: FunctionEntry,
    watched: WatchedField,
    what: str,
) -> None:
    """What may be tried out, but has to be put back."""
    held = known(watched.initial)
    left = [] if held is None else [d for d in departures(watched, held) if d.back_ns is None]
    if not left or not blackout.is_over or blackout.panic is not None:
        return
    change = left[-1].change
    register = watched.history.register.name
    note = f", by finished ({what})" + ("" if left[-1].is_certain else " (not certain)")
    finding = transition(evidence, bridge, change, register, watched.entry, note)
    if left[-1].is_certain:
        _fail(evidence, judgement, bridge, change, finding)
    else:
        judgement.doubt(finding)


def _fail(
    evidence: Evidence, judgement: Judgement, bridge: FunctionEntry, change: Change, finding: Finding
) -> None:
    """What a reset took is left to RESET."""
    if reset_cause(evidence, bridge, change) is None:
        judgement.fail(finding)


def _judge_own_bar(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, bridge: FunctionEntry, register: str
) -> None:
    """A port's own BAR: all ones claim the top of memory where memory decode is on meanwhile."""
    watched = watch(evidence, bridge, blackout, register)
    if watched is None or known(watched.initial) in (None, 0):
        return
    for change, _ in watched.changes:
        if known(watched.initial) not in change.after and _decodes(evidence, bridge, change) != {0}:
            note = ", with memory decode on"
            is_certain = _decodes(evidence, bridge, change) == {1} and change.cause != "read" and change.after
            finding = transition(
                evidence, bridge, change, register, None, note if is_certain else " (not certain)"
            )
            if is_certain:
                _fail(evidence, judgement, bridge, change, finding)
            else:
                judgement.doubt(finding)
    _judge_end(evidence, judgement, blackout, bridge, watched, "the port's own registers")


def _decodes(evidence: Evidence, bridge: FunctionEntry, change: Change) -> frozenset[int]:
    history = evidence.timeline.history(bridge.index, "COMMAND")
    entry = None if history is None else history.register.fields.get("memory_space")
    return frozenset() if history is None or entry is None else field_values(history.at(change.t_ns), entry)


BRIDGE_WINDOWS: Final = Rule(
    id="BRIDGE-WINDOWS",
    title="Bridges pass down to preserved endpoints at every moment from frozen to finished",
    hazards=(21, 22, 23, 48),
    severity="P",
    why="A bridge with Memory Space Enable clear, or whose window does not hold an address, answers requests for it "
    "as Unsupported Requests: while that lasts, neither the CPU nor a peer reaches what is below. A window that ends "
    "elsewhere never passes it down again, and one that has come to cover memory sends the endpoint's DMA back "
    "(UPSTREAM-FORWARDING counts that).",
    acceptable="The same values are written again; nothing preserved below has an address in the window (then only "
    "what it ends as counts); IO_BASE and PREF_MEMORY_BASE that read 0 are tried out and put back; a port's own BAR is "
    "sized while its memory decode is off. What a reset takes away is for RESET to say.",
    source="PCIe 6.0 7.5.1.1.3, 7.5.1.3.1, 7.5.1.3.6, 7.5.1.3.8 to 7.5.1.3.11; linux drivers/pci/probe.c "
    "pci_read_bases, pci_read_bridge_windows; setup-bus.c pci_setup_bridge_io, pci_setup_bridge_mmio, "
    "pci_setup_bridge_mmio_pref",
    planted_fault="COMMAND.memory_space of the port above a preserved endpoint off for a moment",
    judge=_judge,
    registers=(
        "COMMAND.memory_space",
        "COMMAND.io_space",
        *(f"{part.register}.{part.field}" for kind in (MEMORY, PREFETCHABLE, IO) for part in kind.parts),
        *_OWN_BARS,
    ),
    writers=(
        "pci_setup_device -> pci_read_bases (drivers/pci/probe.c)",
        "pci_setup_device -> pci_read_bridge_windows (drivers/pci/probe.c)",
        "pci_setup_bridge -> pci_setup_bridge_io, _mmio, _mmio_pref (drivers/pci/setup-bus.c)",
    ),
    examines="each bridge above a preserved endpoint that has an address: its decode, its windows and its own BARs",
    unknown_when="a window was written, and what it was when frozen is not known; or no window holds the address",
    vacuous_when="nothing preserved below a bridge has an address, or the bridge decoded nothing when frozen",
)
