# SPDX-License-Identifier: MIT
"""Whether a preserved endpoint could raise INTx between frozen and finished.

It takes four things: an interrupt pin, INTX_DISABLE clear, and neither MSI nor MSI-X enabled (PCIe 6.0 7.7.1.2,
7.7.2.2: a function that uses them is prohibited from using INTx). A function without a pin never can.

Writers, linux 7.3: `pci_intx_mask_broken` (drivers/pci/probe.c: hazard 17), `do_pci_enable_device`
(drivers/pci/pci.c: 54), `vfio_pci_core_enable` (drivers/vfio/pci/vfio_pci_core.c: 61).
"""

from dataclasses import dataclass
from typing import Final

from pydev.continuity.causes import reset_cause, shared
from pydev.continuity.evidence import Evidence, absent, transition, watch
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.rule import Rule
from pydev.recording.config import Change, History, field_values
from pydev.recording.functions import FieldEntry, FunctionEntry
from pydev.recording.phases import Blackout

_HELD_OFF_BY: Final = (("COMMAND", "intx_disable"), ("MSI_CONTROL", "enable"), ("MSIX_CONTROL", "enable"))
"""Each keeps INTx from being raised while it is 1."""


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
    pin = _pin(function)
    if pin is None:
        judgement.doubt(Finding(f"whether {name} has an interrupt pin is not known"))
        return
    if not pin:
        judgement.vacuous(f"{name} has no interrupt pin: it can raise no INTx")
        return
    watched = {
        register: one
        for register, field in _HELD_OFF_BY
        if (one := watch(evidence, function, blackout, register, field)) is not None
    }
    if "COMMAND" not in watched:
        absent(evidence, judgement, function, "COMMAND", "intx_disable")
        return
    states = _States.of(evidence, function)
    at_freeze = states.can_raise(blackout.begin.t_ns)
    if at_freeze == {True}:
        judgement.vacuous(f"{name} could raise INTx when frozen: nothing was held back")
        return
    judgement.examined += 1
    if len(at_freeze) > 1:
        judgement.doubt(Finding(f"whether {name} could raise INTx when frozen is not known"))
    if not blackout.is_over:
        judgement.doubt(Finding(f"no finish report: {name} was not seen through the whole blackout"))
    changes = [(register, c) for register, one in watched.items() for c, _ in one.changes]
    for register, change in sorted(changes, key=lambda entry: entry[1].t_ns):
        before, after = states.can_raise(change.t_ns - 1), states.can_raise(change.t_ns)
        if False not in before or True not in after:
            continue
        words = f"{states.until(change)}: nothing keeps {name} from raising INT{'ABCD'[pin - 1 & 3]}"
        words += _pending(evidence, function, change)
        finding = transition(evidence, function, change, register, watched[register].entry, words)
        if before == {False} and after == {True}:
            judgement.fail(finding, reset_cause(evidence, function, change))
        else:
            judgement.doubt(finding)


def _pin(function: FunctionEntry) -> int | None:
    """INTERRUPT_PIN, which is read-only: 0 for none, 1 to 4 for INTA to INTD."""
    entry = function.registers.get("INTERRUPT_PIN")
    return None if entry is None or function.config is None else function.config[entry.offset]


@dataclass(frozen=True, slots=True)
class _States:
    """What holds INTx back, over time; a capability that is not there holds nothing back."""

    fields: tuple[tuple[History, FieldEntry], ...]

    @classmethod
    def of(cls, evidence: Evidence, function: FunctionEntry) -> "_States":
        found = []
        for register, field in _HELD_OFF_BY:
            history = evidence.timeline.history(function.index, register)
            entry = None if history is None else history.register.fields.get(field)
            if history is not None and entry is not None:
                found.append((history, entry))
        return cls(tuple(found))

    def can_raise(self, t_ns: int) -> frozenset[bool]:
        """Whether INTx could be raised at a moment; both where the record leaves it open."""
        values = [field_values(history.at(t_ns), entry) for history, entry in self.fields]
        can = all(0 in value or not value for value in values)
        cannot = any(value != {0} for value in values)
        return frozenset({True} if can else ()) | frozenset({False} if cannot else ())

    def until(self, change: Change) -> str:
        """How long it could, in words."""
        times = sorted(c.t_ns for history, _ in self.fields for c in history.changes)
        later = (t_ns for t_ns in times if t_ns > change.t_ns)
        back_ns = next((t_ns for t_ns in later if self.can_raise(t_ns) == {False}), None)
        return "" if back_ns is None else f", for {(back_ns - change.t_ns) / 1e6:.3f} ms"


def _pending(evidence: Evidence, function: FunctionEntry, change: Change) -> str:
    history = evidence.timeline.history(function.index, "STATUS")
    entry = None if history is None else history.register.fields.get("interrupt_status")
    if history is None or entry is None or field_values(history.at(change.t_ns), entry) != {1}:
        return ""
    return ", and one is pending"


INTX_DISABLE: Final = Rule(
    id="INTX-DISABLE",
    title="A preserved endpoint that is kept from raising INTx stays so from frozen to finished",
    hazards=(17, 54, 61),
    severity="I",
    why="INTx is level-triggered: a pending one that was masked is asserted as soon as nothing holds it back, in a "
    "kernel that has no handler for it yet. The line is shared: the kernel disables it after 100,000 unhandled "
    "interrupts, for everybody on it.",
    acceptable="The function has no interrupt pin; MSI or MSI-X is enabled meanwhile, which prohibits INTx whatever "
    "INTX_DISABLE says (so pci_intx_mask_broken does no harm before pci_msix_init has taken over); INTx could be "
    "raised when the guest was frozen.",
    source="PCIe 6.0 7.5.1.1.3 (Interrupt Disable), 7.5.1.1.13 (Interrupt Pin), 7.7.1.2, 7.7.2.2, 6.1.2; linux "
    "drivers/pci/probe.c pci_intx_mask_broken; pci.c do_pci_enable_device, pci_intx; kernel/irq/spurious.c "
    "note_interrupt",
    planted_fault="INTX_DISABLE of a preserved endpoint with a pin cleared for a moment after MSI-X was disabled",
    judge=_judge,
    registers=tuple(f"{register}.{field}" for register, field in _HELD_OFF_BY),
    writers=(
        "pci_setup_device -> pci_intx_mask_broken (drivers/pci/probe.c)",
        "pci_enable_device -> do_pci_enable_device (drivers/pci/pci.c)",
        "pci_msix_shutdown, pci_msi_shutdown -> pci_intx_for_msi -> pci_intx (drivers/pci/msi/msi.c, pci.c)",
        "vfio_pci_core_enable (drivers/vfio/pci/vfio_pci_core.c)",
    ),
    examines="each preserved endpoint with an interrupt pin that could not raise INTx when frozen, at every change of "
    "INTX_DISABLE, MSI Enable and MSI-X Enable",
    unknown_when="the recording does not declare the pin",
    vacuous_when="no preserved endpoint has a pin, or it could raise INTx when frozen",
)
