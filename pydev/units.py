# SPDX-License-Identifier: MIT
"""Types that keep unlike numbers apart. Units of plain integers are suffixes of their names."""

from typing import NewType

Iova = NewType("Iova", int)
"""An address as the device puts it on the wire (I/O virtual; guest physical without an IOMMU)."""

Gpa = NewType("Gpa", int)
"""A guest physical address."""

Bdf = NewType("Bdf", int)
"""Bus (8 bits), device (5 bits) and function (3 bits), as in a requester ID."""


def bdf_text(bdf: int) -> str:
    """The `bb:dd.f` spelling of a 16-bit bus/device/function number."""
    return f"{bdf >> 8 & 0xFF:02x}:{bdf >> 3 & 0x1F:02x}.{bdf & 7}"


def parse_bdf(text: str) -> Bdf:
    """The number of a `bb:dd.f` or `0000:bb:dd.f` spelling; ValueError where it is none."""
    bus, _, devfn = text.rpartition(":")
    device, dot, function = devfn.partition(".")
    number = (int(bus.rpartition(":")[2], 16) << 8) | (int(device, 16) << 3) | int(function, 16)
    if not dot or not 0 <= number <= 0xFFFF or int(function, 16) > 7 or int(device, 16) > 31:
        raise ValueError(f"{text!r} is not a bus:device.function")
    return Bdf(number)
