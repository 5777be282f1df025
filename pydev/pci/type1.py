# SPDX-License-Identifier: MIT
"""The type 1 configuration header, a bridge's (PCIe 6.0 7.5.1.3), and names for everything a bridge has.

Bridges are not modelled here: the declarations give accesses to them their names in a recording.
"""

from collections.abc import Mapping
from typing import Final

from pydev.errors import DeclarationError
from pydev.pci.acs import AcsPort
from pydev.pci.aer import AerPort
from pydev.pci.capability import Capability
from pydev.pci.doe import Doe
from pydev.pci.dpc import Dpc, DpcPort
from pydev.pci.dsn import DeviceSerialNumber
from pydev.pci.express_port import ExpressPort
from pydev.pci.header import COMMON_REGISTERS, Command
from pydev.pci.ide import Ide
from pydev.pci.l1ss import L1ssPort
from pydev.pci.ltr import Ltr
from pydev.pci.msi import Msi
from pydev.pci.msix import Msix
from pydev.pci.power_management import PowerManagement
from pydev.pci.subsystem import Subsystem
from pydev.registers import Access, Field, JsonRegister, Register, describe_register


class BridgeCommand(Command, name="COMMAND"):
    """As an endpoint's; a bridge decodes I/O."""

    io_space = Field(0)


class BridgeBar0(Register, offset=0x10, name="BAR0"):
    """A bridge's own memory region."""

    address = Field(4, 28)


class BridgeBar1(Register, offset=0x14, name="BAR1"):
    """Another, or the upper half of the first."""

    address = Field(0, 32)


class PrimaryBus(Register, offset=0x18, width=1):
    """The bus above."""

    value = Field(0, 8)


class SecondaryBus(Register, offset=0x19, width=1):
    """The bus below."""

    value = Field(0, 8)


class SubordinateBus(Register, offset=0x1A, width=1):
    """The last bus anywhere below."""

    value = Field(0, 8)


class SecLatencyTimer(Register, offset=0x1B, width=1):
    """Hardwired to 0 on PCI Express."""

    value = Field(0, 8, access=Access.RO)


class IoBase(Register, offset=0x1C, width=1):
    """Lower end of the I/O window."""

    addressing = Field(0, 4, access=Access.RO)
    base = Field(4, 4)


class IoLimit(Register, offset=0x1D, width=1):
    """Upper end of the I/O window."""

    addressing = Field(0, 4, access=Access.RO)
    limit = Field(4, 4)


class SecStatus(Register, offset=0x1E, width=2):
    """Error bits of the secondary side (PCIe 6.0 7.5.1.3.7)."""

    mhz_66 = Field(5, access=Access.RO)
    fast_back_to_back = Field(7, access=Access.RO)
    master_data_parity_error = Field(8, access=Access.RW1C)
    devsel_timing = Field(9, 2, access=Access.RO)
    signaled_target_abort = Field(11, access=Access.RW1C)
    received_target_abort = Field(12, access=Access.RW1C)
    received_master_abort = Field(13, access=Access.RW1C)
    received_system_error = Field(14, access=Access.RW1C)
    detected_parity_error = Field(15, access=Access.RW1C)


class MemoryBase(Register, offset=0x20, width=2):
    """Lower end of the memory window, in MiB."""

    base = Field(4, 12)


class MemoryLimit(Register, offset=0x22, width=2):
    """Upper end of the memory window, in MiB."""

    limit = Field(4, 12)


class PrefMemoryBase(Register, offset=0x24, width=2):
    """Lower end of the prefetchable window, in MiB."""

    addressing = Field(0, 4, access=Access.RO)
    base = Field(4, 12)


class PrefMemoryLimit(Register, offset=0x26, width=2):
    """Upper end of the prefetchable window, in MiB."""

    addressing = Field(0, 4, access=Access.RO)
    limit = Field(4, 12)


class PrefBaseUpper32(Register, offset=0x28, name="PREF_BASE_UPPER32"):
    """Bits 63:32 of the prefetchable window's lower end."""

    base = Field(0, 32)


class PrefLimitUpper32(Register, offset=0x2C, name="PREF_LIMIT_UPPER32"):
    """Bits 63:32 of the prefetchable window's upper end."""

    limit = Field(0, 32)


class IoBaseUpper16(Register, offset=0x30, width=2, name="IO_BASE_UPPER16"):
    """Bits 31:16 of the I/O window's lower end."""

    base = Field(0, 16)


class IoLimitUpper16(Register, offset=0x32, width=2, name="IO_LIMIT_UPPER16"):
    """Bits 31:16 of the I/O window's upper end."""

    limit = Field(0, 16)


class BridgeRom(Register, offset=0x38, name="ROM"):
    """Expansion ROM base address."""

    enable = Field(0)
    address = Field(11, 21)


class BridgeControl(Register, offset=0x3E, width=2):
    """What the bridge forwards, and the reset of all below (PCIe 6.0 7.5.1.3.13)."""

    parity_error_response = Field(0)
    serr_enable = Field(1)
    isa_enable = Field(2)
    vga_enable = Field(3)
    vga_16bit_decode = Field(4)
    master_abort_mode = Field(5)
    secondary_bus_reset = Field(6)
    fast_back_to_back = Field(7, access=Access.RO)
    primary_discard_timer = Field(8, access=Access.RO)
    secondary_discard_timer = Field(9, access=Access.RO)
    discard_timer_status = Field(10, access=Access.RO)
    discard_timer_serr = Field(11, access=Access.RO)


TYPE1_REGISTERS: Final[tuple[type[Register], ...]] = (
    *(register for register in COMMON_REGISTERS if register is not Command),
    BridgeCommand, BridgeBar0, BridgeBar1, PrimaryBus, SecondaryBus, SubordinateBus, SecLatencyTimer, IoBase,
    IoLimit, SecStatus, MemoryBase, MemoryLimit, PrefMemoryBase, PrefMemoryLimit, PrefBaseUpper32,
    PrefLimitUpper32, IoBaseUpper16, IoLimitUpper16, BridgeRom, BridgeControl,
)  # fmt: skip

_CAPABILITIES: Final[tuple[type[Capability], ...]] = (
    PowerManagement, Msi, Msix, Subsystem, ExpressPort, AerPort, AcsPort, DeviceSerialNumber, Ltr, L1ssPort, Dpc,
    Doe, Ide,
)  # fmt: skip
BRIDGE_CAPABILITIES: Final[Mapping[str, type[Capability]]] = {
    **{capability.name: capability for capability in _CAPABILITIES},
    "DPC_ROOT": DpcPort,
}
"""By the name that `capability_offsets` gives them; a root port's containment has registers more."""


def describe(capabilities: Mapping[str, int] | None = None) -> list[JsonRegister]:
    """The registers of a bridge by offset, as JSON.

    `capabilities` says where it has which (BRIDGE_CAPABILITIES), as `capability_offsets` finds them; without
    it the header alone is described. DeclarationError for a name that is none of these.
    """
    registers = [describe_register(register, register.offset or 0) for register in TYPE1_REGISTERS]
    for name, offset in (capabilities or {}).items():
        if name not in BRIDGE_CAPABILITIES:
            raise DeclarationError(
                f"no capability {name} is known; there are {', '.join(BRIDGE_CAPABILITIES)}"
            )
        registers += BRIDGE_CAPABILITIES[name].describe(offset)
    return sorted(registers, key=lambda register: register["offset"])
