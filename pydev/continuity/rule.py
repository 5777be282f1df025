# SPDX-License-Identifier: MIT
"""What a rule is: a promise about the wire, why it matters, and a function that judges it on the evidence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Result
from pydev.errors import DeclarationError

SEVERITIES: Final = {
    "D": "breaks DMA",
    "I": "breaks interrupts",
    "R": "changes routing, requester ID or isolation",
    "P": "breaks MMIO or peer-to-peer only",
    "T": "transient or undefined",
    "H": "harmless",
    "E": "must happen",
    "B": "the bench itself: without it no other answer counts",
    "U": "the update itself",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise. `judge` reads the evidence and nothing else."""

    id: str
    title: str
    hazards: tuple[int, ...]
    severity: str
    why: str
    acceptable: str
    source: str
    planted_fault: str
    """A single change to a clean run that makes this rule FAIL (or UNKNOWN, for the bench's own)."""
    judge: Callable[[Evidence], Result]
    registers: tuple[str, ...] = ()
    """What is judged, by name: `COMMAND.bus_master`, `DEVCTL`."""
    writers: tuple[str, ...] = ()
    """The kernel functions that write it, with their file: `pci_clear_master (drivers/pci/pci.c)`."""
    is_per_function: bool = True
    """It judges functions of `Evidence` one by one, so that a policy may choose among them."""
    judges_any_register: bool = False
    """It looks at any register that a function has, beside those that it names."""
    examines: str = ""
    """What is looked at, and what `examined` counts."""
    unknown_when: str = ""
    """What of this rule's own the record may not decide; what holds for all rules need not be said."""
    vacuous_when: str = ""
    """When there is nothing to examine."""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise DeclarationError(
                f"rule {self.id}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}"
            )
        for name in ("id", "title", "why", "acceptable", "source", "planted_fault"):
            if not getattr(self, name):
                raise DeclarationError(f"rule {self.id}: {name} is empty")
        for register in self.registers:
            if any(character in register for character in "*?["):
                raise DeclarationError(f"rule {self.id}: {register} stands for several registers: name each")

    def describe(self) -> dict[str, Any]:
        """The rule as `luscope rules --json` prints it."""
        return {
            "id": self.id,
            "title": self.title,
            "hazards": list(self.hazards),
            "severity": self.severity,
            "why": self.why,
            "acceptable": self.acceptable,
            "source": self.source,
            "planted_fault": self.planted_fault,
            "registers": list(self.registers),
            "writers": list(self.writers),
        }
