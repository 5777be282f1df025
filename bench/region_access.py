# SPDX-License-Identifier: MIT
"""Round trips of 4-byte region accesses, and of what sets memory and interrupts up, with recording on."""

import fcntl
import os
from pathlib import Path
from typing import Final

from bench.decided import VALUE_OFFSET
from bench.pingpong import Message
from bench.round_trips import compare, one_cpu, served
from bench.table import Figure
from qemu_plugin.vfio_user.device import Irq, SetIrqs, SetIrqsFlag
from qemu_plugin.vfio_user.header import HEADER_BYTES, Command, command
from qemu_plugin.vfio_user.memory import DmaMap, DmaUnmap
from qemu_plugin.vfio_user.region import RegionAccess

MODEL: Final = f"{Path(__file__).with_name('decided.py')}:DecidedEndpoint"
PASSIVE_OFFSET: Final = 0x00
ACCESS_BYTES: Final = HEADER_BYTES + RegionAccess.LAYOUT.size
MAP_BYTES: Final = 2 << 20


def figures(directory: Path) -> list[Figure]:
    """What C answers, what Python decides, and what takes fds."""
    with one_cpu(), served(directory, MODEL) as server:
        return [
            compare(server, "4-byte read", [_read(PASSIVE_OFFSET)], "0.97"),
            compare(server, "4-byte write", [_write(PASSIVE_OFFSET)], "0.97"),
            compare(server, "4-byte read decided in Python", [_read(VALUE_OFFSET)], "0.80"),
            compare(server, "4-byte write decided in Python", [_write(VALUE_OFFSET)], "0.80"),
            compare(server, "map and unmap 2 MiB with its fd", _mapping(), "0.97"),
            compare(server, "SET_IRQS, one eventfd", [_eventfd()], "0.97"),
        ]


def _read(offset: int) -> Message:
    return Message(command(1, Command.REGION_READ, RegionAccess(0, offset, 4).encode()), ACCESS_BYTES + 4)


def _write(offset: int) -> Message:
    access = RegionAccess(0, offset, 4, b"mark").encode()
    return Message(command(2, Command.REGION_WRITE, access), ACCESS_BYTES)


def _mapping() -> list[Message]:
    ram = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(ram, MAP_BYTES)
    fcntl.fcntl(ram, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    unmap = DmaUnmap(0, MAP_BYTES).encode()
    return [
        Message(command(3, Command.DMA_MAP, DmaMap(0, MAP_BYTES).encode()), HEADER_BYTES, ram),
        Message(command(4, Command.DMA_UNMAP, unmap), HEADER_BYTES + len(unmap)),
    ]


def _eventfd() -> Message:
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    flags = SetIrqsFlag.DATA_EVENTFD | SetIrqsFlag.ACTION_TRIGGER
    request = SetIrqs(flags, Irq.MSIX, 0, 1).encode()
    return Message(command(5, Command.DEVICE_SET_IRQS, request), HEADER_BYTES, fd)
