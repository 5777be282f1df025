# SPDX-License-Identifier: MIT
"""What the guest's kernel believes of its functions, from the agent's `state` reports.

The agent reads sysfs, which shows what `struct pci_dev` holds and asks no register (linux
drivers/pci/pci-sysfs.c). `pydev.continuity.comparison` holds it against the registers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydev.recording.functions import FunctionEntry
from pydev.recording.messages import AgentMessage
from pydev.recording.timeline import Timeline
from pydev.units import parse_bdf

REPORT: Final = "state"

# linux include/linux/ioport.h IORESOURCE_*
_IO: Final = 0x100
_MEM: Final = 0x200
_PREFETCH: Final = 0x2000
_MEM_64: Final = 0x100000
_DISABLED: Final = 0x10000000
_UNSET: Final = 0x20000000
BAR_COUNT: Final = 6
ROM_RESOURCE: Final = 6  # linux include/linux/pci.h PCI_ROM_RESOURCE; windows come behind it


@dataclass(frozen=True, slots=True)
class Resource:
    """One of a function's resources (linux `struct resource`)."""

    index: int
    address: int
    size_bytes: int
    flags: int

    @property
    def last(self) -> int:
        """The last address in it."""
        return self.address + self.size_bytes - 1

    @property
    def is_io(self) -> bool:
        """Ports, not memory."""
        return bool(self.flags & _IO)

    @property
    def is_memory(self) -> bool:
        """Memory, prefetchable or not."""
        return bool(self.flags & _MEM)

    @property
    def is_prefetchable(self) -> bool:
        """Of a window: that for prefetchable memory."""
        return bool(self.flags & _PREFETCH)

    @property
    def is_64bit(self) -> bool:
        """Of a BAR: two registers wide."""
        return bool(self.flags & _MEM_64)

    @property
    def is_assigned(self) -> bool:
        """Whether the kernel takes it to have its address."""
        return not self.flags & (_DISABLED | _UNSET)


@dataclass(frozen=True, slots=True)
class Belief:
    """What a kernel believed of one function. None where it did not say."""

    function: FunctionEntry
    bdf: int
    asked_ns: int
    t_ns: int
    """When it was told; what changed since `asked_ns` may have changed before or after it was looked up."""
    is_absent: bool = False
    """It knows no such function."""
    driver: str | None = None
    enable_count: int | None = None
    power: str | None = None
    """As linux drivers/pci/pci.c pci_power_name: `D0`, `D3hot`, `unknown`."""
    irq: int | None = None
    """The number of its INTx."""
    msi: tuple[int, ...] = ()
    """The numbers of what is set up, as those of MSI."""
    msix: tuple[int, ...] = ()
    resources: tuple[Resource, ...] = field(default=(), repr=False)
    secondary: int | None = None
    """The bus below."""
    ari: int | None = None
    """Whether ARI Forwarding of the bridge above is on."""


@dataclass(frozen=True, slots=True)
class StateReport:
    """One report, of all functions that it names and that are the recording's."""

    t_ns: int
    beliefs: tuple[Belief, ...]
    damage: str | None = None
    """Why it cannot be read as a whole."""


def state_reports(timeline: Timeline) -> tuple[StateReport, ...]:
    """Every `state` report, in time order."""
    return timeline.remember(
        "state reports", lambda: tuple(_report(timeline, m) for m in _messages(timeline))
    )


def _messages(timeline: Timeline) -> tuple[AgentMessage, ...]:
    return timeline.reports(REPORT)


def _report(timeline: Timeline, message: AgentMessage) -> StateReport:
    command = timeline.command_of(message)
    asked_ns = message.t_ns if command is None else command.t_ns
    entries = message.members.get("functions")
    if not isinstance(entries, list):
        return StateReport(message.t_ns, (), "it lists no functions")
    beliefs: list[Belief] = []
    for entry in entries:
        try:
            belief = _belief(timeline, entry, asked_ns, message.t_ns)
        except (KeyError, TypeError, ValueError) as error:
            return StateReport(message.t_ns, tuple(beliefs), f"an entry makes no sense: {error!r}")
        if belief is not None:
            beliefs.append(belief)
    return StateReport(message.t_ns, tuple(beliefs))


def _belief(timeline: Timeline, entry: Any, asked_ns: int, t_ns: int) -> Belief | None:
    if not isinstance(entry, dict):
        raise TypeError("it is no object")
    bdf = parse_bdf(entry["bdf"])
    function = timeline.function_at(bdf, t_ns)
    if function is None:
        return None
    return Belief(
        function=function,
        bdf=bdf,
        asked_ns=asked_ns,
        t_ns=t_ns,
        is_absent=entry.get("absent") is True,
        driver=_text(entry, "driver"),
        enable_count=_number(entry, "enable"),
        power=_text(entry, "power"),
        irq=_number(entry, "irq"),
        msi=_numbers(entry.get("msi", [])),
        msix=_numbers(entry.get("msix", [])),
        resources=tuple(_resource(resource) for resource in entry.get("resources", [])),
        secondary=_number(entry, "secondary"),
        ari=_number(entry, "ari"),
    )


def _resource(entry: Any) -> Resource:
    index, address, size_bytes, flags = _numbers(entry)
    return Resource(index, address, size_bytes, flags)


def _numbers(entry: Any) -> tuple[int, ...]:
    if not isinstance(entry, Sequence) or any(type(number) is not int or number < 0 for number in entry):
        raise TypeError(f"{entry!r} is no list of numbers")
    return tuple(entry)


def _number(entry: Mapping[str, Any], name: str) -> int | None:
    value = entry.get(name)
    if value is not None and type(value) is not int:
        raise TypeError(f"{name} is {value!r}, no number")
    return value


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, no string")
    return value
