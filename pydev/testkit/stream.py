# SPDX-License-Identifier: MIT
"""A stream in plain Python, one slot each time that its timer runs out: the reference for the C engine."""

from typing import Protocol

from pydev.endpoints.payload import slot_bytes, slot_index, slot_iova
from pydev.ports import Cancellable, StreamProgram, StreamStatus
from pydev.testkit.manual_time import ManualTime
from pydev.units import Iova

MAILBOX_EVERY_SLOTS = 64
"""How often the mailbox is read where there are no interrupts."""


class StreamPort(Protocol):
    """What a stream needs of its port."""

    def dma_read(self, iova: Iova, size_bytes: int) -> bytes | None:
        """Read memory, judged by the gate."""

    def stream_write(self, iova: Iova, data: bytes, *, sequence: int) -> bool:
        """Write memory, judged by the gate."""

    def raise_interrupt(self, vector: int) -> bool:
        """Raise a vector, judged by the gate."""


class SteppedStream:
    """Runs a program on a port: sequence n is due at start + (n - first) * period.

    A refused slot uses its number up. After slot n the mailbox is read and the interrupt is raised where
    `interrupt_every` divides n, so that a stream which goes on after a stop keeps the rhythm.
    """

    def __init__(self, program: StreamProgram, port: StreamPort, time: ManualTime) -> None:
        self.program = program
        self._port = port
        self._time = time
        self._timer: Cancellable | None = None
        self._sequence = program.first_sequence
        self._slot_count = len(program.pages) * (program.page_bytes // program.slot_bytes)
        self._written = self._blocked = self._interrupts = self._mailbox_value = 0

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._timer is not None

    def start(self) -> None:
        """Make the first slot due at once."""
        self._timer = self._time.call_later(0, self._step)

    def stop(self) -> None:
        """Write nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def status(self) -> StreamStatus:
        """Counts up to now; a stepped stream is never late."""
        return StreamStatus(
            self._sequence, self._written, self._blocked, self._interrupts, self._mailbox_value, 0
        )

    def _step(self) -> None:
        self._timer = self._time.call_later(self.program.period_ns, self._step)
        sequence, self._sequence = self._sequence, self._sequence + 1
        slot = slot_index(sequence, self._slot_count)
        iova = slot_iova(self.program.pages, slot)
        data = slot_bytes(
            self._time.now_ns(),
            generation=self.program.generation,
            engine=self.program.engine,
            slot=slot,
            iova=iova,
            sequence=sequence,
        )
        if self._port.stream_write(iova, data, sequence=sequence):
            self._written += 1
        else:
            self._blocked += 1
        self._read_mailbox_and_interrupt(sequence)

    def _read_mailbox_and_interrupt(self, sequence: int) -> None:
        every = self.program.interrupt_every
        if sequence % (every or MAILBOX_EVERY_SLOTS):
            return
        if self.program.mailbox is not None:
            word = self._port.dma_read(self.program.mailbox, 8)
            self._mailbox_value = self._mailbox_value if word is None else int.from_bytes(word, "little")
        if every and self._port.raise_interrupt(self.program.vector):
            self._interrupts += 1
