# SPDX-License-Identifier: MIT
"""L1 PM Substates (PCIe 6.0 7.8.3): the deeper sleeps of a link. Both ends have to be programmed alike."""

from typing import ClassVar

from pydev.pci.capability import Capability, ExtendedCapabilityHeader
from pydev.pci.ids import ExtendedCapabilityId
from pydev.registers import Access, Field, Register


class L1ssHeader(ExtendedCapabilityHeader, offset=0x00, name="L1SS_HEADER"):
    """Header of the L1 PM Substates capability."""

    capability_id = Field(0, 16, access=Access.RO, reset=ExtendedCapabilityId.L1_PM_SUBSTATES)


class L1ssCapability(Register, offset=0x04, name="L1SS_CAP"):
    """Which of them the port has (PCIe 6.0 7.8.3.2)."""

    pci_pm_l1_2 = Field(0, access=Access.HWINIT, reset=1)
    pci_pm_l1_1 = Field(1, access=Access.HWINIT, reset=1)
    aspm_l1_2 = Field(2, access=Access.HWINIT, reset=1)
    aspm_l1_1 = Field(3, access=Access.HWINIT, reset=1)
    l1_pm_substates = Field(4, access=Access.HWINIT, reset=1)
    link_activation = Field(5, access=Access.HWINIT)
    common_mode_restore_time = Field(8, 8, access=Access.HWINIT)
    power_on_scale = Field(16, 2, access=Access.HWINIT)
    power_on_value = Field(19, 5, access=Access.HWINIT, reset=5)


class L1ssControl1(Register, offset=0x08, name="L1SS_CTL1"):
    """Which of them may be entered, and when (PCIe 6.0 7.8.3.3)."""

    pci_pm_l1_2 = Field(0)
    pci_pm_l1_1 = Field(1)
    aspm_l1_2 = Field(2)
    aspm_l1_1 = Field(3)
    link_activation_interrupt = Field(4, access=Access.RO)
    link_activation = Field(5, access=Access.RO)
    common_mode_restore_time = Field(8, 8, access=Access.RO)
    ltr_l1_2_threshold_value = Field(16, 10)
    ltr_l1_2_threshold_scale = Field(29, 3)


class PortL1ssControl1(L1ssControl1, name="L1SS_CTL1"):
    """As an endpoint's, with what only the upper end of a link decides."""

    link_activation_interrupt = Field(4)
    link_activation = Field(5)
    common_mode_restore_time = Field(8, 8)


class L1ssControl2(Register, offset=0x0C, name="L1SS_CTL2"):
    """How long power takes to come back (PCIe 6.0 7.8.3.4)."""

    power_on_scale = Field(0, 2)
    power_on_value = Field(3, 5, reset=5)


class L1ss(Capability):
    """All four substates, of an endpoint."""

    __slots__ = ()

    name: ClassVar[str] = "L1SS"
    registers: ClassVar[tuple[type[Register], ...]] = (
        L1ssHeader, L1ssCapability, L1ssControl1, L1ssControl2,
    )  # fmt: skip
    size_bytes: ClassVar[int] = 16
    is_extended: ClassVar[bool] = True


class L1ssPort(L1ss):
    """Those of the upper end of a link."""

    __slots__ = ()

    registers: ClassVar[tuple[type[Register], ...]] = (
        L1ssHeader, L1ssCapability, PortL1ssControl1, L1ssControl2,
    )  # fmt: skip
