# SPDX-License-Identifier: MIT
"""What a kernel believes of a function, compared with what the function's registers held at that time.

A belief is told a little after it was asked for: it agrees if it is what the register held at any moment in
between. Where the record leaves a value open that the belief could be, nothing is compared.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pydev.continuity.addresses import IO, MEMORY, PREFETCHABLE, Window, WindowKind, window
from pydev.continuity.beliefs import BAR_COUNT, ROM_RESOURCE, Belief, Resource
from pydev.continuity.evidence import Evidence
from pydev.recording.config import Change, History, Values, field_values
from pydev.recording.functions import FunctionEntry

ABSENT: Final = "no function"
PRESENT: Final = "a function"
POWER_STATES: Final = ("D0", "D1", "D2", "D3hot")
"""By the value of PMCSR.power_state."""
_MEMORY_ADDRESS: Final = 0xFFFF_FFF0  # PCIe 6.0 7.5.1.2.1
_IO_ADDRESS: Final = 0xFFFF_FFFC


@dataclass(frozen=True, slots=True)
class Comparison:
    """One register, or a field of it: what the kernel believes, and what it held."""

    function: FunctionEntry
    """Whose register it is: the one spoken of, or the bridge above."""
    register: str
    field: str | None
    believed: str
    held: str
    agrees: bool
    change: Change | None = None
    """The event that left the register as it was."""
    window: str | None = None
    """What several registers together say, of which `register` is the first."""

    @property
    def name(self) -> str:
        """The window's name, or the register's with the field's."""
        return self.window or (self.register if self.field is None else f"{self.register}.{self.field}")


def compare(evidence: Evidence, belief: Belief) -> tuple[Comparison, ...]:
    """Everything that can be compared of one function."""
    if belief.is_absent:
        return (Comparison(belief.function, "VENDOR_ID", None, ABSENT, PRESENT, agrees=False),)
    asked = _Asked(evidence, belief)
    return tuple(
        comparison
        for comparisons in (
            _bars(asked),
            _windows(asked),
            _bus_below(asked),
            _power(asked),
            _messages(asked),
            _enabled(asked),
            _ari(asked),
        )
        for comparison in comparisons
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A belief with the registers of its time at hand."""

    evidence: Evidence
    belief: Belief

    def compare(
        self,
        register: str,
        field: str | None,
        believed: int,
        words: Callable[[int], str] = str,
        *,
        mask: int = -1,
        function: FunctionEntry | None = None,
    ) -> Iterator[Comparison]:
        """At most one comparison: none where the register is not declared, not judged, or its value open."""
        function = function or self.belief.function
        history = self._history(function, register, field)
        if history is None:
            return
        entry = None if field is None else history.register.fields[field]
        held = [
            frozenset(value & mask for value in field_values(values, entry))
            for values in self._values(history)
        ]
        agrees = any(values == {believed} for values in held)
        if not agrees and any(believed in values or not values for values in held):
            return  # perhaps it is, perhaps not
        shown = {believed} if agrees else held[-1]
        yield Comparison(
            function,
            register,
            field,
            believed=words(believed),
            held=" or ".join(words(value) for value in sorted(shown)),
            agrees=agrees,
            change=_last(history, self.belief.t_ns),
        )

    def _history(self, function: FunctionEntry, register: str, field: str | None) -> History | None:
        scope = self.evidence.scope
        if scope is not None and not scope.has_register(function, register, field):
            return None
        history = self.evidence.timeline.history(function.index, register)
        if history is None or (field is not None and field not in history.register.fields):
            return None
        self.evidence.watched.add((function.index, register, field))
        return history

    def last_change(self, register: str) -> Change | None:
        """The event that left a register of the function as it was when the belief was told."""
        history = self.evidence.timeline.history(self.belief.function.index, register)
        return None if history is None else _last(history, self.belief.t_ns)

    def _values(self, history: History) -> list[Values]:
        """What the register may have held while the kernel was asked."""
        asked_ns, told_ns = self.belief.asked_ns, self.belief.t_ns
        return [history.at(asked_ns), *(change.after for change in history.between(asked_ns, told_ns))]


def _last(history: History, t_ns: int) -> Change | None:
    before = [change for change in history.changes if change.t_ns <= t_ns]
    moved = [change for change in before if change.before != change.after]
    return moved[-1] if moved else None


def _bars(asked: _Asked) -> Iterator[Comparison]:
    """Base address registers by what the kernel has in its resources; one that it has not is 0."""
    function = asked.belief.function
    resources = {resource.index: resource for resource in asked.belief.resources}
    upper = -1
    for index in range(BAR_COUNT):
        register = f"BAR{index}"
        if index == upper or register not in function.registers:
            continue
        resource = resources.get(index)
        if resource is not None and resource.is_64bit:
            upper = index + 1
        if resource is not None and not resource.is_assigned:
            continue
        yield from _bar(asked, register, resource)
        if resource is not None and resource.is_64bit:
            yield from asked.compare(f"BAR{upper}", None, resource.address >> 32, hex)


def _bar(asked: _Asked, register: str, resource: Resource | None) -> Iterator[Comparison]:
    mask = _IO_ADDRESS if resource is not None and resource.is_io else _MEMORY_ADDRESS
    address = 0 if resource is None else resource.address & mask
    yield from asked.compare(register, None, address, hex, mask=mask)


def _windows(asked: _Asked) -> Iterator[Comparison]:
    """A bridge's windows. Which resource is which is told by its kind, as their indexes depend on the kernel."""
    belief = asked.belief
    if belief.function.is_endpoint or belief.secondary is None:
        return
    known = [r for r in belief.resources if r.index > ROM_RESOURCE and r.is_assigned]
    yield from _window(asked, IO, (r for r in known if r.is_io))
    yield from _window(asked, MEMORY, (r for r in known if r.is_memory and not r.is_prefetchable))
    yield from _window(asked, PREFETCHABLE, (r for r in known if r.is_memory and r.is_prefetchable))


def _window(asked: _Asked, kind: WindowKind, resources: Iterable[Resource]) -> Iterator[Comparison]:
    belief, register = asked.belief, kind.base[0].register
    scope = asked.evidence.scope
    if scope is not None and not scope.has_register(belief.function, register, kind.base[0].field):
        return
    held = {
        moment: window(asked.evidence, belief.function, kind, moment)
        for moment in (belief.asked_ns, belief.t_ns)
    }
    if None in held.values():
        return
    asked.evidence.watched.add((belief.function.index, register, kind.base[0].field))
    resource = next(iter(resources), None)
    believed = "closed" if resource is None else str(Window(resource.address, resource.last))
    agrees = believed in {str(one) for one in held.values()}
    last = believed if agrees else str(held[belief.t_ns])
    changes = [asked.last_change(part.register) for part in kind.parts]
    change = max((c for c in changes if c is not None), key=lambda c: c.t_ns, default=None)
    yield Comparison(belief.function, register, None, believed, last, agrees, change, kind.name)


def _bus_below(asked: _Asked) -> Iterator[Comparison]:
    """The number of the bus below; where those below it end the kernel tells nobody."""
    if asked.belief.secondary is not None:
        yield from asked.compare("SECONDARY_BUS", None, asked.belief.secondary)


def _power(asked: _Asked) -> Iterator[Comparison]:
    """The power state; a function without the capability is in D0, whatever is written."""
    power = asked.belief.power
    if power is None or power == "unknown":
        return
    if "PMCSR" not in asked.belief.function.registers:
        held = "D0, and has no other"
        yield Comparison(asked.belief.function, "PMCSR", "power_state", power, held, agrees=power == "D0")
        return
    believed = POWER_STATES.index(power) if power in POWER_STATES else -1
    yield from asked.compare(
        "PMCSR", "power_state", believed, lambda value: POWER_STATES[value] if value >= 0 else power
    )


def _messages(asked: _Asked) -> Iterator[Comparison]:
    """MSI and MSI-X are enabled exactly while the kernel has set interrupts up."""
    for register, numbers in (("MSI_CONTROL", asked.belief.msi), ("MSIX_CONTROL", asked.belief.msix)):
        yield from asked.compare(register, "enable", int(bool(numbers)))


def _enabled(asked: _Asked) -> Iterator[Comparison]:
    """A function that the kernel has enabled decodes memory, if it has any.

    That one which it has not enabled is bus master contradicts nothing: it came in so, and nobody has bound a
    driver to it or opened it yet.
    """
    belief = asked.belief
    has_memory = any(resource.is_memory and resource.is_assigned for resource in belief.resources)
    if belief.enable_count and has_memory:
        yield from asked.compare("COMMAND", "memory_space", 1)


def _ari(asked: _Asked) -> Iterator[Comparison]:
    """ARI Forwarding of the bridge above, as the kernel numbers the functions below by it."""
    belief = asked.belief
    if belief.ari is None or belief.function.parent is None:
        return
    above = asked.evidence.timeline.functions[belief.function.parent]
    yield from asked.compare("DEVCTL2", "ari_forwarding", belief.ari, function=above)
