# SPDX-License-Identifier: MIT
"""An upstream port for tests: it refuses what the hardware refuses, and remembers everything."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydev.ports import DMA_GATES, INTERRUPT_GATES, Gate, StreamProgram
from pydev.testkit.manual_time import ManualTime
from pydev.testkit.memory import Memory
from pydev.testkit.stream import SteppedStream
from pydev.units import Iova

OPEN: Final = Gate(0)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A DMA read or write. `reasons` say why it was refused; a fault went through and hit no mapping.

    `data` is what was read or written, empty for a read that gave nothing. `sequence` is a stream's, else 0.
    """

    t_ns: int
    is_write: bool
    iova: Iova
    data: bytes
    reasons: Gate = OPEN
    is_fault: bool = False
    sequence: int = 0

    @property
    def is_blocked(self) -> bool:
        """Whether the gate refused it."""
        return bool(self.reasons)


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupt that was raised: sent, lost for `reasons`, or held as pending."""

    t_ns: int
    vector: int
    reasons: Gate = OPEN
    is_pending: bool = False

    @property
    def is_sent(self) -> bool:
        """Whether a message went out."""
        return not self.reasons and not self.is_pending


@dataclass(frozen=True, slots=True)
class GateChange:
    """The gate before and after one moment."""

    t_ns: int
    before: Gate
    after: Gate


class FakePort:
    """Implements `pydev.ports.UpstreamPort` on `memory` and `time`; what happened is in the three lists.

    `set_pending` is told of interrupts that are held, as a server would set the function's pending bits.
    """

    def __init__(
        self, time: ManualTime, memory: Memory, set_pending: Callable[[int, bool], None] | None = None
    ) -> None:
        self.time = time
        self.memory = memory
        self.gate = Gate.BUS_MASTER_OFF | Gate.INTERRUPTS_OFF
        self.transactions: list[Transaction] = []
        self.interrupts: list[Interrupt] = []
        self.gate_changes: list[GateChange] = []
        self._pending: set[int] = set()
        self._set_pending = set_pending or (lambda _vector, _is_pending: None)

    def dma_read(self, iova: Iova, size_bytes: int) -> bytes | None:
        """Read `memory`, unless the gate refuses."""
        reasons = self.gate & DMA_GATES
        data = None if reasons else self.memory.read(iova, size_bytes)
        is_fault = data is None and not reasons
        self.transactions.append(Transaction(self.time.now_ns(), False, iova, data or b"", reasons, is_fault))
        return data

    def dma_write(self, iova: Iova, data: bytes) -> bool:
        """Write `memory`, unless the gate refuses."""
        return self.stream_write(iova, data, sequence=0)

    def stream_write(self, iova: Iova, data: bytes, *, sequence: int) -> bool:
        """As `dma_write`, remembered with a stream's sequence number."""
        reasons = self.gate & DMA_GATES
        is_done = not reasons and self.memory.write(iova, data)
        is_fault = not is_done and not reasons
        self.transactions.append(
            Transaction(self.time.now_ns(), True, iova, data, reasons, is_fault, sequence)
        )
        return is_done

    def raise_interrupt(self, vector: int) -> bool:
        """Send, lose or hold an interrupt, as the gate says."""
        reasons = self.gate & INTERRUPT_GATES
        is_pending = not reasons and bool(self.gate & Gate.FUNCTION_MASKED)
        interrupt = Interrupt(self.time.now_ns(), vector, reasons, is_pending)
        self.interrupts.append(interrupt)
        if is_pending:
            self._pending.add(vector)
            self._set_pending(vector, True)
        return interrupt.is_sent

    def set_gate(self, gate: Gate) -> None:
        """Judge every later transaction by `gate`; held interrupts go out once nothing holds them."""
        if gate != self.gate:
            self.gate_changes.append(GateChange(self.time.now_ns(), self.gate, gate))
        self.gate = gate
        if gate & Gate.IN_RESET:
            self._pending.clear()
        elif not gate & (INTERRUPT_GATES | Gate.FUNCTION_MASKED):
            for vector in sorted(self._pending):
                self._set_pending(vector, False)
                self.interrupts.append(Interrupt(self.time.now_ns(), vector))
            self._pending.clear()

    def stream(self, program: StreamProgram) -> SteppedStream:
        """The program, run step by step as `time` is moved on."""
        return SteppedStream(program, self, self.time)
