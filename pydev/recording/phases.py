# SPDX-License-Identifier: MIT
"""Where each phase begins, how that is known and how exactly.

Phases come from the wire, the serial console and the agent, so that a kernel never seen before is judged too.
A second update goes through `prepared` … `finished` again.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pydev.recording.messages import AgentMessage, Text

PHASES: Final = (
    "boot", "normal", "prepared", "frozen", "shutdown", "jump", "enumeration", "probe", "updated", "finished",
)  # fmt: skip

CONSOLE_LAG_NS: Final = 10_000_000
STAMP_NS: Final = 1_000
"""From an instruction to the plugin's stamp of it, at most."""

# linux drivers/pci/pcie/portdrv.c: the port driver's lines carry its name and the port's address.
_PORT_DRIVER: Final = re.compile(r"^(?:\[[^\]]*\]\s*)*pcieport [0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: ")

# linux kernel/panic.c panic
_PANIC: Final = re.compile(r"^(?:\[[^\]]*\]\s*)*Kernel panic - not syncing")


def is_panic(text: str) -> bool:
    """Whether a console line is a kernel's last: its panic."""
    return _PANIC.match(text) is not None


@dataclass(frozen=True, slots=True)
class Phase:
    """The beginning of a phase. The true moment is at most `uncertainty_ns` after or before `t_ns`."""

    name: str
    t_ns: int
    source: str
    uncertainty_ns: int
    update: int
    """Which update it belongs to, from 0."""


@dataclass(frozen=True, slots=True)
class Blackout:
    """From `frozen` to `finished` of one update; or to where the guest gave up, or to the record's end."""

    update: int
    begin: Phase
    end_ns: int
    end_uncertainty_ns: int
    is_finished: bool
    """The incoming kernel's finish report was seen."""
    refusal: AgentMessage | None
    """reboot(2) returned: the kernel refused, and the blackout ended there."""
    phases: dict[str, Phase]
    panic: Text | None = None
    """A kernel panicked before it finished, and the blackout ended there: no kernel is left to promise."""

    @property
    def is_over(self) -> bool:
        """Whether its end is known: finished, refused or panicked."""
        return self.is_finished or self.refusal is not None or self.panic is not None

    def start_of(self, name: str) -> int | None:
        """When a phase of this update began."""
        phase = self.phases.get(name)
        return None if phase is None else phase.t_ns


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the phases are found from; every array in time order."""

    messages: Sequence[AgentMessage]
    console: Sequence[Text]
    acknowledgements_ns: Sequence[int]
    """Mark.FROZEN_ACKNOWLEDGED."""
    accesses_ns: npt.NDArray[np.uint64]
    """Every config access, of any function."""
    writes_ns: npt.NDArray[np.uint64]
    """Config writes of the topology's functions."""
    writes_uncertainty_ns: int
    jumps_ns: Sequence[int]
    """When the TCG plugin saw an outgoing kernel's last function entered."""
    probes_ns: Sequence[int]
    """When it saw a config write that a driver's probe made."""
    vendor_sweep_ns: npt.NDArray[np.uint64]
    """Reads of a vendor ID of 00:00.0, or where no function answered."""
    trace_uncertainty_ns: int
    first_ns: int
    last_ns: int
    """Where the guest's own doings end."""


def find_phases(evidence: Evidence) -> tuple[tuple[Phase, ...], tuple[Blackout, ...], list[str]]:
    """Phases in time order, blackouts, and what is contradictory about them."""
    problems: list[str] = []
    phases: list[Phase] = []
    if len(evidence.accesses_ns):
        first = int(evidence.accesses_ns[0])
        phases.append(Phase("boot", first, "first config access", evidence.trace_uncertainty_ns, 0))
    guest = [m for m in evidence.messages if not m.to_guest and m.damage is None]
    hello = _first(guest, evidence.first_ns, event="hello")
    if hello is not None and evidence.acknowledgements_ns and hello.t_ns > evidence.acknowledgements_ns[0]:
        hello = None  # the incoming kernel's: the outgoing one's is missing
    if hello is not None:
        phases.append(Phase("normal", hello.t_ns, "agent's hello", 0, 0))
    blackouts: list[Blackout] = []
    begin_ns = hello.t_ns if hello is not None else evidence.first_ns
    for update, frozen in enumerate(_frozen_lines(guest, evidence.acknowledgements_ns, problems)):
        prepared = _first(guest, begin_ns, report="preserve")
        own = []
        if prepared is not None and prepared.t_ns <= frozen[0]:
            own.append(Phase("prepared", prepared.t_ns, "first preserve report", 0, update))
        blackout = _blackout(evidence, guest, frozen, update, own)
        phases += blackout.phases.values()
        blackouts.append(blackout)
        begin_ns = blackout.end_ns + 1
    if not blackouts and (prepared := _first(guest, begin_ns, report="preserve")) is not None:
        phases.append(Phase("prepared", prepared.t_ns, "first preserve report", 0, 0))
    phases.sort(key=lambda phase: phase.t_ns)
    return tuple(phases), tuple(blackouts), problems


def _first(messages: Iterable[AgentMessage], after_ns: int, **members: str) -> AgentMessage | None:
    """The first successful message at or after a moment whose members have these values."""
    for message in messages:
        if message.t_ns < after_ns or message.members.get("ok", "report" not in message.members) is not True:
            continue
        if all(message.members.get(name) == value for name, value in members.items()):
            return message
    return None


def _frozen_lines(
    guest: Sequence[AgentMessage], acknowledgements: Sequence[int], problems: list[str]
) -> list[tuple[int, int]]:
    """Each update's frozen line and its acknowledgement, as times."""
    lines = [message.t_ns for message in guest if message.members.get("event") == "frozen"]
    if len(lines) != len(acknowledgements):
        problems.append(
            f"{len(lines)} frozen lines of the agent and {len(acknowledgements)} acknowledgements"
        )
    pairs = list(zip(lines, acknowledgements, strict=False))
    for line, acknowledged in pairs:
        if acknowledged < line:
            problems.append("a frozen line was acknowledged before it came")
    return pairs


def _blackout(
    evidence: Evidence, guest: Sequence[AgentMessage], frozen: tuple[int, int], update: int, own: list[Phase]
) -> Blackout:
    # The agent waits for the acknowledgement: nothing of the reboot can precede it, and the blackout is
    # taken to begin with the line, which is the longer span.
    begin = Phase("frozen", frozen[0], "agent's last line, acknowledged", 0, update)
    refusal = _first(guest, frozen[0], event="reboot_failed")
    later = (m.t_ns for m in guest if m.t_ns > frozen[1] and m.members.get("event") == "frozen")
    next_frozen = next(later, None)
    if next_frozen is not None:
        refusal = refusal if refusal is not None and refusal.t_ns <= next_frozen else None
    finish = _last_finish(guest, frozen[0], next_frozen)
    if finish is not None:
        refusal = None
    ending = finish or refusal
    end_ns = ending.t_ns if ending is not None else next_frozen or max(evidence.last_ns, frozen[1])
    panic = None
    if ending is None:
        said = (line for line in evidence.console if frozen[1] < line.t_ns <= end_ns and is_panic(line.text))
        panic = next(said, None)
        end_ns = end_ns if panic is None else panic.t_ns
    phases = {phase.name: phase for phase in [*own, begin, *_wire(evidence, frozen[1], end_ns, update)]}
    hello = _first(guest, frozen[1], event="hello")
    if hello is not None and hello.t_ns <= end_ns:
        phases["updated"] = Phase("updated", hello.t_ns, "agent's hello in the incoming kernel", 0, update)
    if finish is not None:
        phases["finished"] = Phase("finished", finish.t_ns, "agent's finish report", 0, update)
    return Blackout(update, begin, end_ns, 0, finish is not None, refusal, phases, panic)


def _last_finish(
    guest: Sequence[AgentMessage], begin_ns: int, next_frozen: int | None
) -> AgentMessage | None:
    """The finish that ends an update: the last one, as devices may be finished one by one."""
    last, at_ns = None, begin_ns
    while (found := _first(guest, at_ns, report="finish")) is not None:
        if next_frozen is not None and found.t_ns > next_frozen:
            break
        last, at_ns = found, found.t_ns + 1
    return last


def _wire(evidence: Evidence, begin_ns: int, end_ns: int, update: int) -> Iterable[Phase]:
    """shutdown, jump, enumeration and probe between two moments."""
    sweep = _within(evidence.vendor_sweep_ns, begin_ns, end_ns)
    swept_ns = int(sweep[0]) if len(sweep) else None
    jump = _jump(evidence, begin_ns, swept_ns, end_ns, update)
    ends = (jump.t_ns if jump is not None else None, swept_ns, end_ns + 1)
    last_ns = min(t_ns for t_ns in ends if t_ns is not None)
    writes = _within(evidence.writes_ns, begin_ns, end_ns)
    outgoing = writes[writes < last_ns]
    if len(outgoing):
        exactness = evidence.writes_uncertainty_ns
        yield Phase("shutdown", int(outgoing[0]), "first config write after frozen", exactness, update)
    if jump is not None:
        yield jump
    if swept_ns is None:
        return
    if jump is None:
        last = int(outgoing[-1]) + 1 if len(outgoing) else begin_ns
        spread = swept_ns - last + evidence.trace_uncertainty_ns
        yield Phase("jump", last, "after the last write before the sweep", spread, update)
    yield Phase("enumeration", swept_ns, "first vendor-ID sweep", evidence.trace_uncertainty_ns, update)
    yield from _probe(evidence, swept_ns, end_ns, update)


def _jump(evidence: Evidence, begin_ns: int, swept_ns: int | None, end_ns: int, update: int) -> Phase | None:
    """As the TCG plugin saw it: the last before the incoming kernel looks for functions."""
    until_ns = end_ns if swept_ns is None else swept_ns
    seen = [t_ns for t_ns in evidence.jumps_ns if begin_ns < t_ns <= until_ns]
    return Phase("jump", seen[-1], "machine_kexec entered", STAMP_NS, update) if seen else None


def _probe(evidence: Evidence, swept_ns: int, end_ns: int, update: int) -> Iterable[Phase]:
    first = next((t_ns for t_ns in evidence.probes_ns if swept_ns < t_ns <= end_ns), None)
    if first is not None:
        yield Phase("probe", first, "first write under pci_device_probe", STAMP_NS, update)
        return
    for line in evidence.console:
        if swept_ns <= line.t_ns <= end_ns and _PORT_DRIVER.match(line.text):
            # The line follows the probe by as long as a serial port takes.
            yield Phase("probe", line.t_ns, "port driver's first console line", CONSOLE_LAG_NS, update)
            return


def _within(times: npt.NDArray[np.uint64], begin_ns: int, end_ns: int) -> npt.NDArray[np.uint64]:
    return times[np.searchsorted(times, begin_ns, "right") : np.searchsorted(times, end_ns, "right")]
