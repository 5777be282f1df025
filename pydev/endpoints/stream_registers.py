# SPDX-License-Identifier: MIT
"""BAR0 of the stream endpoint: what the guest's agent programs and reads. The C header is made from this."""

from typing import Final

from pydev.registers import Access, Field, Register

MAX_PAGES: Final = 512
MIN_PERIOD_NS: Final = 1000
BAR_BYTES: Final = 0x4000


class Id(Register, offset=0x000):
    """`SCUL` in memory order: this is a stream endpoint."""

    value = Field(0, 32, access=Access.RO, reset=0x4C555343)


class Version(Register, offset=0x004):
    """Version of this register map."""

    value = Field(0, 32, access=Access.RO, reset=1)


class Control(Register, offset=0x008):
    """Start and stop. `run` reads 0 again where a start was refused."""

    run = Field(0)
    interrupt_enable = Field(1)


class Status(Register, offset=0x00C):
    """`error`: the last start was refused, for the programming made no sense."""

    running = Field(0, access=Access.RO)
    error = Field(1, access=Access.RO)


class PeriodNs(Register, offset=0x010):
    """Time from slot to slot. Like all programming, it is read when the stream starts."""

    value = Field(0, 32, reset=100_000)


class PageCount(Register, offset=0x014):
    """How many pages of PAGE_TABLE make the ring."""

    value = Field(0, 32)


class InterruptEvery(Register, offset=0x018):
    """Slots from interrupt to interrupt; 0 is never."""

    value = Field(0, 32, reset=64)


class Vector(Register, offset=0x01C):
    """The MSI-X vector of these interrupts."""

    value = Field(0, 32)


class Mailbox(Register, offset=0x020, width=8):
    """Bus address of a 64-bit word that is read before each interrupt; 0 is none."""

    iova = Field(0, 64)


class Generation(Register, offset=0x028):
    """A number that every slot carries."""

    value = Field(0, 32)


class Doorbell(Register, offset=0x02C):
    """Raises the vector that is written, once."""

    vector = Field(0, 32, access=Access.WO)


class Sequence(Register, offset=0x030, width=8):
    """Sequence number of the next slot; reading the low dword holds the high one still."""

    value = Field(0, 64, access=Access.RO, reset=1)


class Written(Register, offset=0x038, width=8):
    """Slots that reached memory since the reset."""

    value = Field(0, 64, access=Access.RO)


class Blocked(Register, offset=0x040, width=8):
    """Slots that were refused since the reset."""

    value = Field(0, 64, access=Access.RO)


class Interrupts(Register, offset=0x048, width=8):
    """Interrupts raised by the stream since the reset."""

    value = Field(0, 64, access=Access.RO)


class MailboxValue(Register, offset=0x050, width=8):
    """What was last read from the mailbox."""

    value = Field(0, 64, access=Access.RO)


class Mark(Register, offset=0x058):
    """Written by the guest to leave a mark in the recording; no effect."""

    value = Field(0, 32)


class PageTable(Register, offset=0x1000, width=8, count=MAX_PAGES):
    """Bus addresses of the ring's pages, in ring order, each a multiple of 4096."""

    iova = Field(0, 64)


STREAM_REGISTERS: Final[tuple[type[Register], ...]] = (
    Id, Version, Control, Status, PeriodNs, PageCount, InterruptEvery, Vector, Mailbox, Generation, Doorbell,
    Sequence, Written, Blocked, Interrupts, MailboxValue, Mark, PageTable,
)  # fmt: skip
