# SPDX-License-Identifier: MIT
"""What the client asks about the device (VFIOU 'DEVICE_GET_INFO', '…REGION_INFO', '…IRQ_INFO')."""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Final

from qemu_plugin.vfio_user.payload import unpack

REGION_COUNT: Final = 9  # linux include/uapi/linux/vfio.h VFIO_PCI_NUM_REGIONS
CONFIG_REGION: Final = 7  # linux include/uapi/linux/vfio.h VFIO_PCI_CONFIG_REGION_INDEX


class Irq(IntEnum):
    """linux include/uapi/linux/vfio.h VFIO_PCI_*_IRQ_INDEX."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


class DeviceFlag(IntFlag):
    """Of a device: it can be reset, it is a PCI device."""

    RESET = 1
    PCI = 2


class RegionFlag(IntFlag):
    """Of a region."""

    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


class IrqFlag(IntFlag):
    """Of an interrupt type."""

    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4
    NORESIZE = 8


_NO_DEVICE_FLAG: Final = DeviceFlag(0)
_NO_REGION_FLAG: Final = RegionFlag(0)
_NO_IRQ_FLAG: Final = IrqFlag(0)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Both the request (all but argsz 0) and the reply."""

    LAYOUT: ClassVar = struct.Struct("<IIII")
    flags: DeviceFlag = _NO_DEVICE_FLAG
    region_count: int = 0
    irq_count: int = 0

    def encode(self) -> bytes:
        """The payload's bytes."""
        return self.LAYOUT.pack(self.LAYOUT.size, self.flags, self.region_count, self.irq_count)

    @classmethod
    def decode(cls, payload: bytes) -> "DeviceInfo":
        """The message in `payload`."""
        _, flags, regions, irqs = unpack(cls.LAYOUT, payload, "DEVICE_GET_INFO")
        return cls(DeviceFlag(flags), regions, irqs)


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """Both the request (index alone) and the reply."""

    LAYOUT: ClassVar = struct.Struct("<IIIIQQ")
    index: int
    flags: RegionFlag = _NO_REGION_FLAG
    size_bytes: int = 0
    offset: int = 0

    def encode(self) -> bytes:
        """The payload's bytes."""
        return self.LAYOUT.pack(self.LAYOUT.size, self.flags, self.index, 0, self.size_bytes, self.offset)

    @classmethod
    def decode(cls, payload: bytes) -> "RegionInfo":
        """The message in `payload`."""
        _, flags, index, _, size, offset = unpack(cls.LAYOUT, payload, "DEVICE_GET_REGION_INFO")
        return cls(index, RegionFlag(flags), size, offset)


@dataclass(frozen=True, slots=True)
class IrqInfo:
    """Both the request (index alone) and the reply."""

    LAYOUT: ClassVar = struct.Struct("<IIII")
    index: int
    flags: IrqFlag = _NO_IRQ_FLAG
    count: int = 0

    def encode(self) -> bytes:
        """The payload's bytes."""
        return self.LAYOUT.pack(self.LAYOUT.size, self.flags, self.index, self.count)

    @classmethod
    def decode(cls, payload: bytes) -> "IrqInfo":
        """The message in `payload`."""
        _, flags, index, count = unpack(cls.LAYOUT, payload, "DEVICE_GET_IRQ_INFO")
        return cls(index, IrqFlag(flags), count)


class SetIrqsFlag(IntFlag):
    """VFIOU 'DEVICE_SET_IRQS': one data flag and one action."""

    DATA_NONE = 1
    DATA_BOOL = 2
    DATA_EVENTFD = 4
    ACTION_MASK = 8
    ACTION_UNMASK = 16
    ACTION_TRIGGER = 32


@dataclass(frozen=True, slots=True)
class SetIrqs:
    """Interrupts `start` .. `start + count` of an index; eventfds travel beside the message."""

    LAYOUT: ClassVar = struct.Struct("<IIIII")
    flags: SetIrqsFlag
    index: int
    start: int = 0
    count: int = 0
    data: bytes = b""

    def encode(self) -> bytes:
        """The payload's bytes."""
        size = self.LAYOUT.size + len(self.data)
        return self.LAYOUT.pack(size, self.flags, self.index, self.start, self.count) + self.data

    @classmethod
    def decode(cls, payload: bytes) -> "SetIrqs":
        """The message in `payload`."""
        _, flags, index, start, count = unpack(cls.LAYOUT, payload, "DEVICE_SET_IRQS")
        return cls(SetIrqsFlag(flags), index, start, count, payload[cls.LAYOUT.size :])
