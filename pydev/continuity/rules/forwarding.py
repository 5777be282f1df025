# SPDX-License-Identifier: MIT
"""What hardware would have done to the transactions of preserved endpoints on their way up, and QEMU does not.

QEMU hands an endpoint's DMA and messages to memory whatever the ports above it are told to do. Here each
transaction that reached memory is held against what the record says of every bridge on its way at that moment:
Bus Master Enable, power state, a secondary bus held in reset, a disabled link, a slot without power, and
windows, since what a window covers is sent back down and not up.

Writers, linux 7.3: `pci_clear_master` from `pci_device_shutdown` (drivers/pci/pci-driver.c: hazard 2) and from
`pcie_port_device_register` (drivers/pci/pcie/portdrv.c: 53); the port driver's autosuspend (60);
`pci_reset_secondary_bus` (drivers/pci/pci.c: 64); `pci_setup_bridge_mmio` (drivers/pci/setup-bus.c: 48).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pydev.continuity.addresses import MEMORY_WINDOWS, Window, WindowKind, WindowStretch, window_stretches
from pydev.continuity.causes import SLOW_CLIENT_NS, resets, shared
from pydev.continuity.evidence import Evidence, absent, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.continuity.sent import Lost, Sent, sent
from pydev.continuity.stretches import Stretch, joined, stretches
from pydev.recording.config import Change
from pydev.recording.format import Flag, Kind
from pydev.recording.functions import FunctionEntry, upstream_path
from pydev.recording.phases import Blackout

_MOST_FINDINGS: Final = 16
_EFFECT_NS: Final = 10_000
"""From the stamp of a write to its effect: what passed in between is not certain to have been lost."""
_DOWNSTREAM_FACING: Final = frozenset({"root_port", "downstream_port"})


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A state of a bridge in which it passes nothing up from below."""

    register: str
    field: str
    stops: Callable[[int], bool]
    rule: str
    """Which rule judges the write that brings it about."""
    words: str
    at_link_below: bool = False
    """Only a port with a link below has it."""
    needs: tuple[str, str] | None = None
    """The capability without which the field does nothing."""


OBSTACLES: Final = (
    Obstacle("COMMAND", "bus_master", lambda value: value == 0, "BME-BRIDGE", "COMMAND.bus_master off"),
    Obstacle("PMCSR", "power_state", lambda value: value != 0, "POWER-STATE", "PMCSR.power_state not D0"),
    Obstacle(
        "BRIDGE_CONTROL", "secondary_bus_reset", lambda value: value == 1, "RESET",
        "its secondary bus held in reset",
    ),
    Obstacle(
        "LNKCTL", "link_disable", lambda value: value == 1, "LINK-CONTROL", "its link disabled",
        at_link_below=True,
    ),
    Obstacle(
        "SLTCTL", "power_controller", lambda value: value == 1, "SLOT-POWER", "the power of its slot off",
        at_link_below=True, needs=("SLTCAP", "power_controller"),
    ),
)  # fmt: skip
_ALWAYS_KNOWN: Final = ("COMMAND", "BRIDGE_CONTROL")
"""Registers whose value every record has to decide; the others are off at power-on (PCIe 6.0 7.5.2.2, 7.5.3.7,
7.5.3.10), and stop nothing until they are written."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One preserved endpoint's way through one bridge, in one blackout."""

    evidence: Evidence
    judgement: Judgement
    blackout: Blackout
    endpoint: FunctionEntry
    sent: Sent
    bridge: FunctionEntry

    @property
    def margin_ns(self) -> int:
        """How far the time of a write to the bridge may be wrong."""
        return max(self.evidence.timeline.bridge_uncertainty_ns, _EFFECT_NS)

    def name(self, t_ns: int) -> str:
        """The bridge's BDF just before a moment."""
        return self.evidence.name(self.bridge, t_ns - 1)


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    everyone = evidence.timeline.functions
    for blackout in evidence.blackouts:
        for function in everyone:
            if function.is_endpoint and function.preserve:
                above = upstream_path(everyone, function.index)
                _judge_endpoint(evidence, judgement, blackout, function, above)
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    return judgement.result(caused_by=shared(evidence, judgement.causes), nothing=nothing)


def _judge_endpoint(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    above: tuple[FunctionEntry, ...],
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    if not above:
        judgement.vacuous(f"no bridge is above {name}")
        return
    passed = sent(evidence, function, blackout)
    if not passed.count:
        judgement.vacuous(f"no transaction of {name} reached memory between frozen and finished")
        return
    if not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    for bridge in above:
        if bridge in evidence.bridges:  # as the policy has it
            judgement.examined += passed.count
            way = _Way(evidence, judgement, blackout, function, passed, bridge)
            for obstacle in OBSTACLES:
                _judge_obstacle(way, obstacle)
            for kind in MEMORY_WINDOWS:
                _judge_window(way, kind)


def _judge_obstacle(way: _Way, obstacle: Obstacle) -> None:
    if not _can_be(way, obstacle):
        return
    watched = watch(way.evidence, way.bridge, way.blackout, obstacle.register, obstacle.field)
    if watched is None:
        if obstacle.register in _ALWAYS_KNOWN:
            absent(way.evidence, way.judgement, way.bridge, obstacle.register, obstacle.field)
        return
    parts = [part for part in stretches(watched.history, watched.entry) if not _is_power_on(obstacle, part)]
    certain, possible = (
        [_from_reset(way, obstacle, part) for part in some] for some in joined(parts, obstacle.stops)
    )
    found = [(part, lost) for part in certain if (lost := _lost(way, part, way.margin_ns)).count]
    for part, lost in found[:_MOST_FINDINGS]:
        finding = _finding(way, obstacle, part, lost)
        way.judgement.fail(finding, _cause(way, obstacle, part))
    if len(found) > _MOST_FINDINGS:
        more = sum(lost.count for _, lost in found[_MOST_FINDINGS:])
        words = f"and {more} more of {way.sent.name} in {len(found) - _MOST_FINDINGS} further spans"
        way.judgement.fail(Finding(words, count=more))
    said = [part.begin_ns for part, _ in found]
    for part in possible:
        if not any(part.begin_ns <= begin_ns < part.end_ns for begin_ns in said):
            _doubt(way, _lost(way, part, -way.margin_ns), obstacle.register, obstacle.field)


def _can_be(way: _Way, obstacle: Obstacle) -> bool:
    """Whether this bridge has what the obstacle is made of."""
    if obstacle.at_link_below and way.bridge.role not in _DOWNSTREAM_FACING:
        return False
    if obstacle.needs is None:
        return True
    register, name = obstacle.needs
    history = way.evidence.timeline.history(way.bridge.index, register)
    entry = None if history is None else history.register.fields.get(name)
    if history is None or entry is None:
        return True
    values = history.at(way.blackout.end_ns)
    return not values or any(entry.extract(value) for value in values)


def _is_power_on(obstacle: Obstacle, part: Stretch) -> bool:
    """Whether nobody has written since power-on what is off then."""
    is_untouched = part.opened_by is None or part.opened_by.cause in ("bus reset", "machine reset")
    return obstacle.register not in _ALWAYS_KNOWN and is_untouched and len(part.values) != 1


def _from_reset(way: _Way, obstacle: Obstacle, part: Stretch) -> Stretch:
    """A bus reset stops the endpoint itself; until its server was told so, what it sent is the client's delay."""
    change = part.opened_by
    if change is None or (obstacle.rule != "RESET" and change.cause != "bus reset"):
        return part
    told = resets(
        way.evidence, way.endpoint, change.t_ns - 1, min(change.t_ns + SLOW_CLIENT_NS, part.end_ns - 1)
    )
    return replace(part, begin_ns=told[0][0]) if told else part


def _finding(way: _Way, obstacle: Obstacle, part: Stretch, lost: Lost) -> Finding:
    blackout, timeline = way.blackout, way.evidence.timeline
    begin_ns, end_ns = max(part.begin_ns, blackout.begin.t_ns), min(part.end_ns, blackout.end_ns)
    words = f"{_would(way, lost, begin_ns, end_ns)}: {obstacle.words}"
    entry = way.bridge.registers[obstacle.register].fields[obstacle.field]
    change = _change_in(blackout, part.opened_by)
    if change is None:
        return Finding(
            f"{words} when the guest was frozen",
            t_ns=lost.first_ns,
            phase=timeline.phase_at(lost.first_ns or begin_ns),
            bdf=timeline.bdf_at(way.bridge.index, begin_ns),
            register=obstacle.register,
            field=obstacle.field,
            count=lost.count,
        )
    return _by(transition(way.evidence, way.bridge, change, obstacle.register, entry), words, lost)


def _lost(way: _Way, part: Stretch | WindowStretch, margin_ns: int) -> Lost:
    return way.sent.during(part.begin_ns, part.end_ns, margin_ns)


def _judge_window(way: _Way, kind: WindowKind) -> None:
    """What a window covers is not for above: the bridge sends it down again. Memory is never below."""
    unknown: WindowStretch | None = None
    for part in window_stretches(way.evidence, way.bridge, kind):
        is_over = part.end_ns + way.margin_ns <= way.blackout.begin.t_ns
        if is_over or part.begin_ns - way.margin_ns > way.blackout.end_ns or part.is_decoded == {0}:
            continue
        if part.widest is None:
            unknown = unknown or (part if _lost(way, part, 0).transactions else None)
        elif _covers_memory(way, part.widest):
            _judge_cover(way, kind, part, part.widest)
    if unknown is not None:
        words = (
            f"may have been sent back down at {way.name(unknown.begin_ns)}, whose {kind.name} is not known"
        )
        way.judgement.doubt(Finding(f"{_lost(way, unknown, 0)} of {way.sent.name} {words}"))


def _covers_memory(way: _Way, window: Window) -> bool:
    """Whether memory that the endpoint could reach lies in a window (a peer's BAR, which has no file, may)."""
    timeline = way.evidence.timeline
    slots = timeline.of_kind(Kind.DMA_MAP, way.endpoint.index)
    slots = slots[(timeline.column("flags", slots) & np.uint64(int(Flag.HAS_FD))) != 0]
    first = timeline.column("address", slots)
    last = first + timeline.column("value", slots) - np.uint64(1)
    return window.is_open and bool(((first <= window.last) & (last >= window.first)).any())


def _judge_cover(way: _Way, kind: WindowKind, part: WindowStretch, widest: Window) -> None:
    ends = (widest.first, widest.last, part.begin_ns, part.end_ns)
    lost = way.sent.into(*ends, way.margin_ns)
    if part.certain is not None and part.is_decoded == {1} and lost.count:
        finding = _captured(way, kind, part, lost)
        is_consequence = finding.register is not None and way.evidence.failed("BRIDGE-WINDOWS", way.bridge)
        way.judgement.fail(finding, "BRIDGE-WINDOWS" if is_consequence else None)
    else:
        _doubt(way, way.sent.into(*ends, -way.margin_ns), kind.base[0].register, kind.base[0].field)


def _captured(way: _Way, kind: WindowKind, part: WindowStretch, lost: Lost) -> Finding:
    begin_ns, end_ns = max(part.begin_ns, way.blackout.begin.t_ns), min(part.end_ns, way.blackout.end_ns)
    words = f"{_would(way, lost, begin_ns, end_ns)}: its {kind.name} {part.certain} covers them"
    change = None if part.opened_by is None else _change_in(way.blackout, part.opened_by[2])
    if change is None or part.opened_by is None:
        bdf = way.evidence.timeline.bdf_at(way.bridge.index, begin_ns)
        phase = way.evidence.timeline.phase_at(lost.first_ns or begin_ns)
        return Finding(words, t_ns=lost.first_ns, phase=phase, bdf=bdf, count=lost.count)
    register, name, _ = part.opened_by
    entry = way.bridge.registers[register].fields[name]
    return _by(transition(way.evidence, way.bridge, change, register, entry), words, lost)


def _would(way: _Way, lost: Lost, begin_ns: int, end_ns: int) -> str:
    begin, end = (way.evidence.timeline.since_start_ns(t) / 1e6 for t in (begin_ns, end_ns))
    where = f"would have been lost at {way.name(begin_ns)}"
    return f"{lost} of {way.sent.name} {where} from {begin:.3f} to {end:.3f} ms of the recording"


def _by(finding: Finding, words: str, lost: Lost) -> Finding:
    by = f", by {finding.function}" if finding.function else ""
    return replace(finding, message=words + by, count=lost.count)


def _doubt(way: _Way, lost: Lost, register: str, field: str) -> None:
    if lost.first_ns is None:
        return
    timeline = way.evidence.timeline
    words = (
        f"{lost} of {way.sent.name} may have been lost at {way.name(lost.first_ns)}: the record leaves open "
        f"what {register}.{field} was just then"
    )
    way.judgement.doubt(
        Finding(
            words, t_ns=lost.first_ns, phase=timeline.phase_at(lost.first_ns), register=register, field=field
        )
    )


def _change_in(blackout: Blackout, change: Change | None) -> Change | None:
    """The change, if it is of this blackout."""
    return change if change is not None and change.t_ns > blackout.begin.t_ns else None


def _cause(way: _Way, obstacle: Obstacle, part: Stretch) -> str | None:
    change = _change_in(way.blackout, part.opened_by)
    if change is None:
        return None
    if change.cause == "bus reset" and way.evidence.failed("RESET"):
        return "RESET"
    return obstacle.rule if way.evidence.failed(obstacle.rule, way.bridge) else None


UPSTREAM_FORWARDING: Final = Rule(
    id="UPSTREAM-FORWARDING",
    title="Every bridge on the way forwarded what preserved endpoints sent and memory received",
    hazards=(2, 48, 53, 60, 64),
    severity="D",
    why="A bridge with Bus Master Enable clear answers memory requests from below as Unsupported Requests, MSI "
    "writes among them; one outside D0, with its secondary bus in reset, its link disabled or its slot without power "
    "has no way up at all; and what lies in one of its windows it sends back down. QEMU delivers the transaction all "
    "the same, so that traffic never shows it: each one that reached memory is held against the state of every bridge "
    "on its way.",
    acceptable="The endpoint sent nothing meanwhile: then the write itself is for BME-BRIDGE, POWER-STATE, RESET, "
    "LINK-CONTROL, BRIDGE-WINDOWS or the slot's rule to judge.",
    source="PCIe 6.0 7.5.1.1.3 (Bus Master Enable of a type 1 header), 5.3.1.4 (D3), 6.6.1 and 7.5.1.3.13 (Secondary "
    "Bus Reset), 7.5.3.7 (Link Disable), 7.5.3.10 (Power Controller Control), 7.5.1.3.8 and 7.5.1.3.9 (windows)",
    planted_fault="COMMAND.bus_master of a port cleared while the preserved endpoint below it streams",
    judge=_judge,
    registers=(
        *(f"{obstacle.register}.{obstacle.field}" for obstacle in OBSTACLES),
        *(f"{part.register}.{part.field}" for kind in MEMORY_WINDOWS for part in kind.parts),
    ),
    writers=(
        "pci_device_shutdown -> pci_clear_master (drivers/pci/pci-driver.c, pci.c)",
        "pcie_port_device_register -> pci_clear_master (drivers/pci/pcie/portdrv.c)",
        "pcie_portdrv_remove -> pci_disable_device (drivers/pci/pcie/portdrv.c, pci.c)",
        "pcie_port_runtime_suspend, then pci_set_low_power_state (drivers/pci/pcie/portdrv.c, pci.c)",
        "pci_reset_secondary_bus (drivers/pci/pci.c)",
        "pciehp_power_off_slot, __pciehp_link_set (drivers/pci/hotplug/pciehp_hpc.c)",
        "pci_setup_bridge_mmio, pci_setup_bridge_mmio_pref (drivers/pci/setup-bus.c)",
    ),
    examines="each transaction and interrupt message of a preserved endpoint that reached memory, against every bridge "
    "on its way; one counts once for each bridge",
    unknown_when="what a bridge held is left open just when a transaction passed it: near a write that only the trace "
    "has seen, or before a read that no write explains",
    vacuous_when="an endpoint sent nothing that reached memory, or no bridge is above it",
)
