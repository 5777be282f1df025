# SPDX-License-Identifier: MIT
"""What a device model sees of the world: its link upstream, a clock, a scheduler.

Only protocols and the plain values that cross them. The real ones are in `qemu_plugin/server`, the fake ones
in `pydev/testkit`; a model is given either and cannot tell. Nothing here may import numpy: building an
endpoint has to be quick.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from pydev.units import Iova


class Gate(IntFlag):
    """Why the hardware refuses a transaction. The record carries it."""

    BUS_MASTER_OFF = 1
    POWER_STATE = 2
    """Not in D0."""
    IN_RESET = 4
    INTERRUPTS_OFF = 8
    """MSI-X (and MSI) disabled: an interrupt has no message."""
    FUNCTION_MASKED = 16
    """MSI-X function mask: an interrupt becomes pending."""
    NO_CLIENT = 32
    """Nobody is connected."""


DMA_GATES: Final = Gate.BUS_MASTER_OFF | Gate.POWER_STATE | Gate.IN_RESET | Gate.NO_CLIENT
"""The reasons that refuse a DMA transaction."""

INTERRUPT_GATES: Final = DMA_GATES | Gate.INTERRUPTS_OFF
"""The reasons that lose an interrupt, whose message is a memory write (PCIe 6.0 6.1.4); FUNCTION_MASKED
holds it instead."""


class ResetKind(IntEnum):
    """What reset a function."""

    POWER_ON = 0
    DEVICE = 1
    """The client's DEVICE_RESET: machine reset, or a secondary bus reset upstream."""
    FUNCTION_LEVEL = 2
    """DEVCTL.Initiate_FLR."""
    POWER_STATE = 3
    """D3hot to D0 without No_Soft_Reset."""


@dataclass(frozen=True, slots=True)
class StreamProgram:
    """Free-running DMA: one slot of the ring is written every `period_ns`, with no model in the loop.

    `pages` are bus addresses in ring order, each `page_bytes` long. After every `interrupt_every` slots
    (0: never) MSI-X `vector` is raised. `mailbox` is a 64-bit word that is DMA-read just before each
    interrupt, or every 64 slots where there are none. `first_sequence` is at least 1. What is written is
    said in `pydev.endpoints.payload`.
    """

    engine: int
    pages: tuple[Iova, ...]
    period_ns: int
    generation: int
    interrupt_every: int = 0
    vector: int = 0
    mailbox: Iova | None = None
    first_sequence: int = 1
    page_bytes: int = 4096
    slot_bytes: int = 64


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How far one stream is: counts since its own start; `next_sequence` is the next transaction's."""

    next_sequence: int
    written: int
    blocked: int
    interrupts: int
    mailbox_value: int
    lateness_max_ns: int


class Stream(Protocol):
    """A stream program under way."""

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""

    def start(self) -> None:
        """Begin: `first_sequence` is due now."""

    def stop(self) -> None:
        """End: after it returns, no transaction is under way."""

    def status(self) -> StreamStatus:
        """Counts up to now; final after `stop`."""


class UpstreamPort(Protocol):
    """The link upstream, with the hardware's part in refusing transactions."""

    def dma_read(self, iova: Iova, size_bytes: int) -> bytes | None:
        """Read guest memory; None where the gate refused it or nothing is mapped there."""

    def dma_write(self, iova: Iova, data: bytes) -> bool:
        """Write guest memory, seen by the guest when this returns; False where it was refused."""

    def raise_interrupt(self, vector: int) -> bool:
        """Signal an MSI-X vector; False where no message went out (lost, or held in the pending bits)."""

    def set_gate(self, gate: Gate) -> None:
        """Follow the function's hardware state.

        Takes effect, with an exact stamp, before it returns: no later transaction is judged by the old gate.
        """

    def stream(self, program: StreamProgram) -> Stream:
        """A stream of this program, not started."""


class Clock(Protocol):
    """The device's time."""

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC nanoseconds, or what a test makes of them."""


class Cancellable(Protocol):
    """A timer that can be taken back."""

    def cancel(self) -> None:
        """Make sure that the callback is not called; harmless after it was."""


class Scheduler(Protocol):
    """Timers of a device model."""

    def call_later(self, delay_ns: int, callback: Callable[[], None]) -> Cancellable:
        """Call `callback` once, `delay_ns` from now, never from inside this call."""
