# SPDX-License-Identifier: MIT
"""What an author of a device model subclasses: a function with declarations as class attributes.

    class Echo(Endpoint):
        identity = Identity(vendor_id=0x1de5, device_id=0x0002)
        bars = (Bar(0, size_bytes=0x1000, registers=(Doorbell,)),)

        @on_write(Doorbell)
        def ring(self, write: Write) -> None: ...

A model is synchronous and deterministic: it acts when a register is accessed, when a timer that it set runs
out, and when it is reset, and on nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self, TypeVar

from pydev.errors import DeclarationError
from pydev.pci import Bar, Capability, Function, Identity, Msix
from pydev.pci.aer import Aer
from pydev.pci.dsn import DeviceSerialNumber
from pydev.pci.optional import express_for, optional
from pydev.pci.power_management import PowerManagement
from pydev.ports import Cancellable, Clock, ResetKind, Scheduler, UpstreamPort
from pydev.registers import Register, RegisterBank, Write

OnWrite = TypeVar("OnWrite", bound=Callable[[Any, Write], None])
OnRead = TypeVar("OnRead", bound=Callable[[Any, int], int])

_WRITES_OF: Final = "_decides_writes_of"
_READS_OF: Final = "_decides_reads_of"


def on_write(register: type[Register]) -> Callable[[OnWrite], OnWrite]:
    """Make a method decide writes of `register`: it is called after the masks were applied."""

    def mark(method: OnWrite) -> OnWrite:
        setattr(method, _WRITES_OF, register)
        return method

    return mark


def on_read(register: type[Register]) -> Callable[[OnRead], OnRead]:
    """Make a method decide reads of `register`: it gets the index in an array and gives the value."""

    def mark(method: OnRead) -> OnRead:
        setattr(method, _READS_OF, register)
        return method

    return mark


class Endpoint(Function):
    """A PCI Express endpoint with power management, Function Level Reset and error reporting.

    `identity`, `bars`, `msix` and `more_capabilities` are declared by the subclass. The keywords are the
    model's options, with their types in `options`: `no_soft_reset`; `serial_number`, which adds that
    capability; `capabilities`, names of others (`pydev.pci.optional`).
    """

    identity: ClassVar[Identity]
    bars: ClassVar[tuple[Bar, ...]] = ()
    msix: ClassVar[Msix | None] = None
    more_capabilities: ClassVar[tuple[Capability, ...]] = ()
    options: ClassVar[Mapping[str, type]] = {
        "no_soft_reset": bool, "serial_number": int, "capabilities": list,
    }  # fmt: skip

    def __init__(
        self,
        *,
        no_soft_reset: bool = False,
        serial_number: int | None = None,
        capabilities: Sequence[str] = (),
    ) -> None:
        if not isinstance(getattr(type(self), "identity", None), Identity):
            raise DeclarationError(f"{type(self).__name__} declares no identity: `identity = Identity(...)`")
        declared: list[Capability] = [PowerManagement(no_soft_reset=no_soft_reset)]
        declared += [self.msix] if self.msix else []
        declared += [express_for(capabilities), Aer()]
        declared += [] if serial_number is None else [DeviceSerialNumber(serial_number)]
        declared += [*self.more_capabilities, *optional(capabilities)]
        super().__init__(self.identity, self.bars, declared)
        self._clock: Clock | None = None
        self._scheduler: Scheduler | None = None
        self._timers: list[Cancellable] = []
        self._wire_handlers()

    def _wire_handlers(self) -> None:
        names = dict.fromkeys(name for cls in reversed(type(self).__mro__) for name in vars(cls))
        for name in names:
            member = getattr(type(self), name, None)
            if (register := getattr(member, _WRITES_OF, None)) is not None:
                self.bank_of(register).on_write(register, getattr(self, name))
            if (register := getattr(member, _READS_OF, None)) is not None:
                self.bank_of(register).on_read(register, getattr(self, name))

    @classmethod
    def build(cls, options: Mapping[str, Any] | None = None) -> Self:
        """An instance with an experiment's options; DeclarationError names what is wrong with them."""
        for name, value in (options or {}).items():
            if name not in cls.options:
                known = ", ".join(cls.options)
                raise DeclarationError(f"{cls.__name__} has no option {name!r}; it has {known}")
            if type(value) is not cls.options[name]:
                wanted = cls.options[name].__name__
                raise DeclarationError(f"{cls.__name__}: option {name} is {value!r}, which is no {wanted}")
        return cls(**(options or {}))

    def connect(
        self, port: UpstreamPort, *, clock: Clock | None = None, scheduler: Scheduler | None = None
    ) -> None:
        """Use this port, and this clock and scheduler if the model needs them."""
        self._clock, self._scheduler = clock, scheduler
        super().connect(port)

    @property
    def clock(self) -> Clock:
        """The device's time; DeclarationError where none was connected."""
        if self._clock is None:
            raise DeclarationError(f"{type(self).__name__} needs a clock, and is connected without one")
        return self._clock

    def call_later(self, delay_ns: int, callback: Callable[[], None]) -> Cancellable:
        """Call back once after `delay_ns`, unless the function is reset before."""
        if self._scheduler is None:
            raise DeclarationError(f"{type(self).__name__} needs a scheduler, and is connected without one")
        handle = self._scheduler.call_later(delay_ns, callback)
        self._timers.append(handle)
        return handle

    def before_reset(self, kind: ResetKind) -> None:
        """Cancel every timer. A subclass that overrides this calls it too."""
        del kind
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def bank_of(self, register: type[Register]) -> RegisterBank:
        """The bank in which a register was placed; DeclarationError where it is in none."""
        for bank in self.regions.values():
            if register in bank:
                return bank
        raise DeclarationError(f"{type(self).__name__} decides {register.name}, which is in none of its BARs")
