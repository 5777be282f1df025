# SPDX-License-Identifier: MIT
"""The stream endpoint: heartbeat DMA into pages that the guest names, so that a gap has exact ends.

The model checks the programming and counts; the port runs the stream. Bus Master Enable does not stop it: its
transactions are refused, which is what a recording shows. A reset does, and numbering begins anew.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydev.endpoint import Endpoint, on_read, on_write
from pydev.endpoints.payload import PAGE_BYTES, SLOT_BYTES
from pydev.endpoints.payload import ring_words as ring_words
from pydev.endpoints.payload import slot_bytes as slot_bytes
from pydev.endpoints.payload import slot_iova as slot_iova
from pydev.endpoints.payload import slot_words as slot_words
from pydev.endpoints.stream_registers import (
    BAR_BYTES,
    MAX_PAGES,
    MIN_PERIOD_NS,
    STREAM_REGISTERS,
    Blocked,
    Control,
    Doorbell,
    Generation,
    InterruptEvery,
    Interrupts,
    Mailbox,
    MailboxValue,
    PageCount,
    PageTable,
    PeriodNs,
    Sequence,
    Status,
    Vector,
    Written,
)
from pydev.pci import LUSCOPE_VENDOR_ID, Bar, Identity, Msix
from pydev.pci.acs import Acs
from pydev.ports import Gate, ResetKind, Stream, StreamProgram, StreamStatus
from pydev.registers import Write
from pydev.units import Iova

VECTOR_COUNT = 4
SERIAL_NUMBER = 0x4C55_5343_0000_0001
_NOTHING_YET = StreamStatus(1, 0, 0, 0, 0, 0)


class StreamEndpoint(Endpoint):
    """One engine that writes a 64-byte slot every period into a ring of pages.

    The option `ignores_bus_master` makes it broken hardware that transacts whatever Bus Master Enable says:
    the negative control of everything that has to notice DMA into memory that is not its own.
    """

    identity = Identity(vendor_id=LUSCOPE_VENDOR_ID, device_id=0x4C55, revision_id=1)
    bars = (Bar(0, size_bytes=BAR_BYTES, registers=STREAM_REGISTERS),)
    msix = Msix(vectors=VECTOR_COUNT, table=(0, 0x2000), pba=(0, 0x3000))
    more_capabilities = (Acs(),)
    options: ClassVar[Mapping[str, type]] = {**Endpoint.options, "ignores_bus_master": bool}

    def __init__(self, *, ignores_bus_master: bool = False, **options: Any) -> None:
        self._ignores_bus_master = ignores_bus_master
        super().__init__(**{"serial_number": SERIAL_NUMBER, **options})
        self._bar = self.regions[0]
        self._stream: Stream | None = None
        self._done = _NOTHING_YET
        """Counts of all streams before the present one."""

    @property
    def gate(self) -> Gate:
        """As any function's; broken hardware leaves Bus Master Enable out."""
        gate = super().gate
        return gate & ~Gate.BUS_MASTER_OFF if self._ignores_bus_master else gate

    # -- control ----------------------------------------------------------------------------------------

    @on_write(Control)
    def control_written(self, write: Write) -> None:
        """Start, stop, or go on with interrupts on or off."""
        control = Control(write.after)
        if self._stream is not None and (not control.run or write.changed(Control.interrupt_enable)):
            self._stop()
        if control.run and self._stream is None:
            self._start()

    def _start(self) -> None:
        program = self.program()
        self._bar.set(Status.error, int(program is None))
        self._bar.set(Status.running, int(program is not None))
        self._bar.set(Control.run, int(program is not None))
        if program is not None:
            self._stream = self.port.stream(program)
            self._stream.start()

    def _stop(self) -> None:
        if self._stream is not None:
            self._stream.stop()
            self._done = self.status()
            self._stream = None
        self._bar.set(Status.running, 0)

    def program(self) -> StreamProgram | None:
        """What the registers say the stream should do; None where that makes no sense."""
        bar = self._bar
        count, period_ns = bar.get(PageCount.value), bar.get(PeriodNs.value)
        mailbox, vector = bar.get(Mailbox.iova), bar.get(Vector.value)
        every = bar.get(InterruptEvery.value) if bar.get(Control.interrupt_enable) else 0
        if not 1 <= count <= MAX_PAGES or period_ns < MIN_PERIOD_NS:
            return None
        pages = tuple(Iova(bar.get(PageTable.iova, index)) for index in range(count))
        if any(page % PAGE_BYTES for page in pages) or mailbox % 8 or (every and vector >= VECTOR_COUNT):
            return None
        return StreamProgram(
            engine=0,
            pages=pages,
            page_bytes=PAGE_BYTES,
            slot_bytes=SLOT_BYTES,
            period_ns=period_ns,
            generation=bar.get(Generation.value),
            interrupt_every=every,
            vector=vector,
            mailbox=Iova(mailbox) if mailbox else None,
            first_sequence=self._done.next_sequence,
        )

    @on_write(Doorbell)
    def doorbell_rung(self, write: Write) -> None:
        """Raise the written vector once; one that does not exist does nothing."""
        if write.written < VECTOR_COUNT:
            self.port.raise_interrupt(write.written)

    def before_reset(self, kind: ResetKind) -> None:
        """Stop the stream; the next one begins at sequence 1."""
        super().before_reset(kind)
        self._stop()
        self._done = _NOTHING_YET

    # -- counters ---------------------------------------------------------------------------------------

    def status(self) -> StreamStatus:
        """Counts since the reset, over every start."""
        done = self._done
        if self._stream is None:
            return done
        now = self._stream.status()
        return StreamStatus(
            next_sequence=now.next_sequence,
            written=done.written + now.written,
            blocked=done.blocked + now.blocked,
            interrupts=done.interrupts + now.interrupts,
            mailbox_value=now.mailbox_value or done.mailbox_value,
            lateness_max_ns=max(done.lateness_max_ns, now.lateness_max_ns),
        )

    @on_read(Sequence)
    def sequence(self, index: int) -> int:
        """Sequence number of the next slot."""
        del index
        return self.status().next_sequence

    @on_read(Written)
    def written(self, index: int) -> int:
        """Slots that reached memory."""
        del index
        return self.status().written

    @on_read(Blocked)
    def blocked(self, index: int) -> int:
        """Slots that were refused."""
        del index
        return self.status().blocked

    @on_read(Interrupts)
    def interrupts(self, index: int) -> int:
        """Interrupts that the stream raised."""
        del index
        return self.status().interrupts

    @on_read(MailboxValue)
    def mailbox_value(self, index: int) -> int:
        """What was last read from the mailbox."""
        del index
        return self.status().mailbox_value

    # -- description ------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """As any function, with the geometry of the stream, from which its payload is rebuilt."""
        stream = {
            "region": 0, "slot_bytes": SLOT_BYTES, "page_bytes": PAGE_BYTES, "max_pages": MAX_PAGES,
            "engines": 1, "payload": 1,
        }  # fmt: skip
        return {**super().describe(), "stream": stream}
