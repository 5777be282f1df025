# SPDX-License-Identifier: MIT
"""The machine's IOMMU: how QEMU is told of it, and what its trace says of the registers that turn it on and off.

Source: QEMU hw/i386/intel_iommu.c and hw/i386/trace-events; Intel VT-d specification, 11.4.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydev.recording.format import IommuRegister
from qemu_plugin.machine.trace import Clock

KINDS: Final = ("intel",)
"""What `[guest] iommu` may be."""

# Without caching-mode QEMU cannot follow the guest's tables for devices outside of it, and aborts.
DEVICE: Final = ("-device", "intel-iommu,caching-mode=on,intremap=on,device-iotlb=on")
MACHINE: Final = "kernel-irqchip=split"
TRACE_OPTIONS: Final = tuple(
    word
    for event in ("vtd_reg_write_gcmd", "vtd_reg_dmar_root", "vtd_reg_ir_root")
    for word in ("-trace", event)
)

_LINE: Final = re.compile(
    rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{6})Z (?:"
    rb"vtd_reg_write_gcmd status 0x([0-9a-f]+) value 0x([0-9a-f]+)|"
    rb"vtd_reg_dmar_root addr 0x([0-9a-f]+) scalable \d|"
    rb"vtd_reg_ir_root addr 0x([0-9a-f]+) size 0x[0-9a-f]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class IommuWrite:
    """The guest wrote GCMD, or had the unit take over the address of a table."""

    realtime_ns: int
    register: IommuRegister
    value: int
    status: int
    """GSTS just before, of a write of GCMD; else 0."""


def parse(text: bytes) -> Iterator[IommuWrite]:
    """The writes among the lines of a trace; other lines are passed over."""
    clock = Clock()
    for match in _LINE.finditer(text):
        stamp, micros, status, command, root, interrupts = match.groups()
        realtime_ns = clock.realtime_ns(stamp, micros)
        if command is not None:
            yield IommuWrite(realtime_ns, IommuRegister.GCMD, int(command, 16), int(status, 16))
        elif root is not None:
            yield IommuWrite(realtime_ns, IommuRegister.RTADDR, int(root, 16), 0)
        else:
            yield IommuWrite(realtime_ns, IommuRegister.IRTA, int(interrupts, 16), 0)
