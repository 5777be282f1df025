# SPDX-License-Identifier: MIT
"""The smallest useful device: a scratch register, and a doorbell that copies 64 bytes by DMA."""

from pydev.endpoint import Endpoint, on_write
from pydev.pci import LUSCOPE_VENDOR_ID, Bar, Identity, Msix
from pydev.registers import Access, Field, Register, Write
from pydev.units import Iova

COPY_BYTES = 64


class Scratch(Register, offset=0x00):
    """Holds what was written."""

    value = Field(0, 32)


class Doorbell(Register, offset=0x04):
    """Writing anything copies from SOURCE to DESTINATION and raises vector 0."""

    value = Field(0, 32, access=Access.WO)


class Source(Register, offset=0x08, width=8):
    """Where to read."""

    iova = Field(0, 64)


class Destination(Register, offset=0x10, width=8):
    """Where to write."""

    iova = Field(0, 64)


class Status(Register, offset=0x18):
    """How the last copy ended; software clears it by writing ones."""

    done = Field(0, access=Access.RW1C)
    failed = Field(1, access=Access.RW1C)


class ScratchEndpoint(Endpoint):
    """Copies 64 bytes from one bus address to another when its doorbell rings."""

    identity = Identity(vendor_id=LUSCOPE_VENDOR_ID, device_id=0x4C01)
    bars = (Bar(0, size_bytes=0x1000, registers=(Scratch, Doorbell, Source, Destination, Status)),)
    msix = Msix(vectors=1, table=(0, 0x800), pba=(0, 0xC00))

    @on_write(Doorbell)
    def copy(self, write: Write) -> None:
        """Write guest memory first, then raise the interrupt."""
        del write  # what was written to the doorbell does not matter
        bank = self.regions[0]
        data = self.port.dma_read(Iova(bank.get(Source.iova)), COPY_BYTES)
        done = data is not None and self.port.dma_write(Iova(bank.get(Destination.iova)), data)
        bank.set(Status.done if done else Status.failed, 1)
        self.port.raise_interrupt(0)
