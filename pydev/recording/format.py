# SPDX-License-Identifier: MIT
"""The recording's bytes: prologue, header, records, trailer. All integers are little-endian.

    0        prologue, one page: magic, version, offsets, the atomic counters
    4096     header: JSON, written before the first event
    records  64-byte records, claimed in order, published by their `seq`
    trailer  JSON, written when the recording is closed; its absence means that the record is incomplete

The C core and the TCG plugin write the same layout (`qemu_plugin/native/src/recording.h`); a test compares
both. A record is published by a release store of `seq` = slot index + 1; a slot below `head` whose `seq` is
not that is a hole. A record whose kind is a text kind is followed by as many CONTINUATION records as its
`size` bytes need, in adjoining slots.
"""

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

from pydev.ports import DMA_GATES as DMA_GATES  # the hardware's words, which the record carries
from pydev.ports import Gate as Gate
from pydev.ports import ResetKind as ResetKind

MAGIC: Final = b"LUSCOPE\n"
VERSION: Final = 1
RECORD_BYTES: Final = 64
PAGE_BYTES: Final = 4096
HEADER_OFFSET: Final = 4096
NO_FUNCTION: Final = 0xFFFF

PROLOGUE: Final = np.dtype(
    {
        "names": [
            "magic", "version", "record_bytes", "header_offset", "header_bytes", "records_offset",
            "capacity", "trailer_offset", "trailer_bytes", "header_crc32", "trailer_crc32",
            "head", "limit", "dropped",
        ],
        "formats": ["S8", "<u4", "<u4", "<u8", "<u8", "<u8", "<u8", "<u8", "<u8", "<u4", "<u4",
                    "<u8", "<u8", "<u8"],
        "offsets": [0, 8, 12, 16, 24, 32, 40, 48, 56, 64, 68, 128, 192, 256],
        "itemsize": PAGE_BYTES,
    }
)  # fmt: skip
"""`head`, `limit` and `dropped` are atomic counters on cache lines of their own: slots claimed, slots that
are backed by reserved and prefaulted file space, events that found no such slot."""

RECORD: Final = np.dtype(
    [
        ("seq", "<u8"),
        ("t_ns", "<u8"),
        ("kind", "<u2"),
        ("function", "<u2"),
        ("flags", "<u2"),
        ("error", "<u2"),
        ("size", "<u4"),
        ("region", "<u4"),
        ("address", "<u8"),
        ("value", "<u8"),
        ("extra", "<u8"),
        ("aux", "<u8"),
    ]
)
assert RECORD.itemsize == RECORD_BYTES

CONTINUATION_OFFSET: Final = 24
CONTINUATION_BYTES: Final = RECORD_BYTES - CONTINUATION_OFFSET
"""A continuation record's payload: the bytes from `size` to the end of the record."""

CONFIG_REGION: Final = 7  # linux include/uapi/linux/vfio.h VFIO_PCI_CONFIG_REGION_INDEX


class Kind(IntEnum):
    """What happened. Fields not named are 0."""

    REGION_READ = 1
    """Access served: region, address = offset, size = width, value. error = errno."""
    REGION_WRITE = 2
    """As REGION_READ; value = what was written, extra = the bytes' value before, aux = after."""
    CONFIG_UPDATE = 3
    """Config bytes that the device changed by itself: address, size 4, extra = before, aux = after."""
    DMA_WRITE = 4
    """address = iova, size, value = sequence (stream) or first 8 bytes, extra = generation | engine << 32,
    aux = checksum word (stream) or a digest of both ends. BLOCKED: error = Gate reasons, nothing reached memory."""
    DMA_READ = 5
    """As DMA_WRITE; value = first 8 bytes read."""
    INTERRUPT = 6
    """region = VFIO IRQ index, address = vector, value = how many this function has raised so far.
    BLOCKED: error = Gate reasons (lost); PENDING: held in the pending bits; else an eventfd was written."""
    IRQ_SETUP = 7
    """SET_IRQS: region = IRQ index, address = start, size = count, value = its flags, extra = fds given."""
    DMA_MAP = 8
    """address = iova, value = size in bytes, extra = file offset, aux = protection, flags HAS_FD."""
    DMA_UNMAP = 9
    """address = iova, value = size in bytes, aux = flags of the message."""
    RESET = 10
    """value = ResetKind. The CONFIG_UPDATE records that follow show what it changed."""
    CLIENT = 11
    """value = 1 connected, 0 gone; error = errno of why."""
    GATE = 12
    """Hardware state that gates DMA and interrupts changed: extra = before, aux = after (Gate). Stamped
    under the engine's lock: transactions before it were judged by `before`, those after it by `after`."""
    ENGINE = 13
    """Stream control: value 1 started, 0 stopped; address = first page's iova, size = slots in the ring,
    extra = period in ns, aux = sequence of the next transaction; region = engine. A start is followed by
    one ENGINE_PAGE for each page of the ring."""
    ENGINE_PAGE = 14
    """region = engine, value = index of the page, address = its iova, size = its bytes."""
    REFERENCE = 15
    """A tick of the reference stream, which no guest write can affect: value = number, extra = when it was
    due. t_ns - extra is the lateness of the bench."""
    TRACE_READ = 16
    """QEMU's trace of a guest config read: address = offset, value, region = BDF, function if it is ours.
    error = 1 where no function answered."""
    TRACE_WRITE = 17
    """As TRACE_READ, for a write; the trace has no width, so size is 0."""
    MARK = 18
    """Set by the bench: value = Mark."""
    LOST = 19
    """A writer knows that it missed something: value = how many, region = Lost reason."""
    PLUGIN_WRITE = 20
    """QEMU's TCG plugin saw a guest's config write, just before the `out` or just after the store that makes it:
    region = BDF, address = offset, error = width in bytes, value, extra = the instruction's guest virtual
    address, aux = CPU | PluginWay << 16. Chained: `size` bytes follow, the writer's stack (PLUGIN_STACK)."""
    PLUGIN_JUMP = 21
    """The outgoing kernel's last function has been entered (linux arch/x86/kernel/machine_kexec_64.c
    machine_kexec): extra, aux and the chain as PLUGIN_WRITE."""
    PLUGIN_END = 22
    """The plugin's last word, as QEMU exits: value = PLUGIN_WRITEs that it appended, extra = writes for which
    it found no room."""
    ATTRIBUTION = 23
    """Who made a write: value = slot of the PLUGIN_WRITE (or PLUGIN_JUMP), extra = `id` of a STACK."""
    IOMMU = 24
    """The guest wrote a register of the IOMMU that decides about translation, as QEMU's trace has it: address =
    the register's offset (IommuRegister), value = what was written, extra = GSTS before (for GCMD)."""
    AGENT = 32
    """Text: one JSON line of the agent channel; flags TO_GUEST for the host's lines."""
    CONSOLE = 33
    """Text: one line of the serial console."""
    NOTE = 34
    """Text: one JSON object of the bench itself."""
    STACK = 35
    """Text: a call stack, symbolised: {"id": number, "kernel": "outgoing", "incoming", "firmware" or "unknown",
    "frames": [[symbol, offset, module or null], ...] innermost first, "note": why it ends early, or null,
    "recovered": indexes of frames that had left the stack by a jump at their end (absent: none)}."""
    CONTINUATION = 255
    """40 more bytes of the text record before it."""


TEXT_KINDS: Final = frozenset({Kind.AGENT, Kind.CONSOLE, Kind.NOTE, Kind.STACK})
"""Chains whose bytes are UTF-8 text."""
CHAINED_KINDS: Final = TEXT_KINDS | {Kind.PLUGIN_WRITE, Kind.PLUGIN_JUMP}
"""Kinds whose record is followed by CONTINUATIONs that hold `size` bytes."""

PLUGIN_STACK: Final = np.dtype([("rsp", "<u8"), ("rbp", "<u8")])
"""What a PLUGIN_WRITE's chain begins with; the rest is guest memory from `rsp` upwards, as u64."""


class IommuRegister(IntEnum):
    """Of an Intel VT-d remapping unit (Intel VT-d specification 11.4)."""

    GCMD = 0x18
    """Global Command: bit 31 translation, 26 queued invalidation, 25 interrupt remapping enabled."""
    RTADDR = 0x20
    """Root Table Address."""
    IRTA = 0xB8
    """Interrupt Remapping Table Address."""


class PluginWay(IntEnum):
    """How a config write was made."""

    PORTS = 0
    """`out` to CF8 and CFC (QEMU hw/pci/pci_host.c)."""
    ECAM = 1
    """A store to the memory-mapped configuration window."""


class Flag(IntFlag):
    """Bits of `flags`."""

    BLOCKED = 1
    """Refused by hardware state; `error` holds the reasons (Gate)."""
    STREAM = 2
    """By a stream program; the payload can be rebuilt from the record (`pydev.endpoints.stream`)."""
    PENDING = 4
    """An interrupt held in the pending bits."""
    TRAPPED = 8
    """Decided by the model in Python, not by the masks in C."""
    HAS_FD = 16
    """A DMA_MAP that came with a file."""
    TO_GUEST = 32
    """A line from the host to the agent."""
    FAULT = 64
    """The transaction hit no mapping: on hardware an unsupported request or an IOMMU fault."""


class Mark(IntEnum):
    """Moments that only the bench knows."""

    QEMU_STARTED = 1
    MACHINE_RUNNING = 2
    """QMP said so: every device is realized."""
    FROZEN_ACKNOWLEDGED = 3
    """The host acknowledged the agent's last line before reboot(2)."""
    QEMU_EXITED = 4
    SERVER_LOST = 5
    ABORTED = 6
    MACHINE_RESET = 7
    """QMP's RESET event: the machine was reset, which a kexec never does."""
