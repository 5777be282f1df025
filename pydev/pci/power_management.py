# SPDX-License-Identifier: MIT
"""The PCI power management capability (PCIe 6.0 7.5.2, PCI-PM 1.2 3.2)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from pydev.pci.capability import Capability, CapabilityHeader, Resets
from pydev.pci.ids import CapabilityId
from pydev.registers import Access, Field, Register


class PowerState(IntEnum):
    """Values of PMCSR.power_state."""

    D0 = 0
    D1 = 1
    D2 = 2
    D3HOT = 3


class PmHeader(CapabilityHeader, offset=0x00):
    """Header of the power management capability."""

    capability_id = Field(0, 8, access=Access.RO, reset=CapabilityId.POWER_MANAGEMENT)


class Pmc(Register, offset=0x02, width=2):
    """Power management capabilities (PCIe 6.0 7.5.2.1)."""

    version = Field(0, 3, access=Access.RO, reset=3)
    pme_clock = Field(3, access=Access.RO)
    immediate_readiness = Field(4, access=Access.RO)
    device_specific_initialization = Field(5, access=Access.RO)
    aux_current = Field(6, 3, access=Access.RO)
    d1_support = Field(9, access=Access.RO)
    d2_support = Field(10, access=Access.RO)
    pme_support = Field(11, 5, access=Access.RO)


class Pmcsr(Register, offset=0x04, width=2):
    """Power management control and status (PCIe 6.0 7.5.2.2)."""

    power_state = Field(0, 2)
    no_soft_reset = Field(3, access=Access.RO)
    pme_enable = Field(8, access=Access.RWS)
    data_select = Field(9, 4, access=Access.RO)
    data_scale = Field(13, 2, access=Access.RO)
    pme_status = Field(15, access=Access.RW1CS)


class PmcsrBridgeExtensions(Register, offset=0x06, width=1, name="PMCSR_BSE"):
    """Reserved on PCI Express."""

    value = Field(0, 8, access=Access.RO)


class PmData(Register, offset=0x07, width=1):
    """No power data is reported."""

    value = Field(0, 8, access=Access.RO)


@dataclass(frozen=True, slots=True)
class PowerManagement(Capability):
    """D0 and D3hot, PME from both. Without `no_soft_reset` the way from D3hot to D0 resets the function."""

    no_soft_reset: bool = False
    pme_support: int = 0b01001

    name: ClassVar[str] = "PM"
    registers: ClassVar[tuple[type[Register], ...]] = (PmHeader, Pmc, Pmcsr, PmcsrBridgeExtensions, PmData)
    size_bytes: ClassVar[int] = 8

    def resets(self) -> Resets:
        """No_Soft_Reset, and the states that PME can be signalled from."""
        return {
            Pmc: {"pme_support": self.pme_support},
            Pmcsr: {"no_soft_reset": int(self.no_soft_reset)},
        }
