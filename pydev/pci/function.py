# SPDX-License-Identifier: MIT
"""A PCI function: its regions, what gates its transactions, and its resets.

What QEMU leaves out is done here: Bus Master Enable, the power state and MSI-X control become a `Gate`, and
the port hears of each change before the write that made it is answered. Memory Space Enable is not enforced:
the client maps and unmaps BARs by it, so no access arrives here that it forbids.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from pydev.errors import DeclarationError
from pydev.pci.bar import Bar
from pydev.pci.capability import Capability
from pydev.pci.config_space import ConfigSpace
from pydev.pci.express import DeviceCapabilities, DeviceControl
from pydev.pci.header import Command
from pydev.pci.ids import Identity
from pydev.pci.msix import Msix, MsixControl
from pydev.pci.power_management import Pmc, Pmcsr, PowerState
from pydev.ports import Gate, ResetKind, UpstreamPort
from pydev.registers import Register, RegisterBank, Write

CONFIG_REGION: Final = 7  # linux include/uapi/linux/vfio.h VFIO_PCI_CONFIG_REGION_INDEX
_D0: Final = Pmcsr.power_state.insert(0, PowerState.D0)


class Function:
    """A function with `bars` and `capabilities`, at power-on.

    `regions` maps 0..5 to the BARs that it has and 7 to configuration space. Every access is correct through
    `region_read` and `region_write`, whether or not C could have answered it from the bank's buffers.
    """

    def __init__(
        self, identity: Identity, bars: Sequence[Bar] = (), capabilities: Sequence[Capability] = ()
    ) -> None:
        self._space = ConfigSpace(identity, bars, capabilities)
        self.config: RegisterBank = self._space.bank
        self.regions: dict[int, RegisterBank] = {CONFIG_REGION: self.config}
        self.bar_sizes: dict[int, int] = {}
        self.bar_flags: dict[int, int] = {}
        for bar in bars:
            self._add_bar(bar)
        self._msix = next((c for c in capabilities if isinstance(c, Msix)), None)
        self._pending = self._place_msix(self._msix) if self._msix else None
        self._port: UpstreamPort | None = None
        self._is_in_reset = False
        attached = (capability.attach(self.config) for capability in capabilities)
        self._reset_capabilities = [reset for reset in attached if reset is not None]
        self._follow_registers()

    def _add_bar(self, bar: Bar) -> None:
        bank = RegisterBank(f"BAR{bar.index}", bar.size_bytes)
        for register in bar.registers:
            bank.place(register)
        self.regions[bar.index] = bank
        self.bar_sizes[bar.index] = bar.size_bytes
        self.bar_flags[bar.index] = bar.flags

    def _place_msix(self, msix: Msix) -> type[Register]:
        for what, (bar, _) in (("table", msix.table), ("pending bits", msix.pba)):
            if bar not in self.bar_sizes:
                raise DeclarationError(f"MSI-X {what} is in BAR{bar}, which the function has not")
        for register in msix.table_registers():
            self.regions[msix.table[0]].place(register)
        pending = msix.pending_register()
        self.regions[msix.pba[0]].place(pending)
        return pending

    def _follow_registers(self) -> None:
        self._power_state_at = self.config.offset_of(Pmcsr) if Pmcsr in self.config else None
        self.config.on_write(Command, self._gate_written)
        if MsixControl in self.config:
            self.config.on_write(MsixControl, self._gate_written)
        if Pmcsr in self.config:
            self.config.on_write(Pmcsr, self._power_state_written)
        if DeviceControl in self.config:
            self.config.on_write(DeviceControl, self._device_control_written)

    # -- what a server needs ----------------------------------------------------------------------------

    @property
    def msix_vectors(self) -> int:
        """How many MSI-X vectors the function has; 0 without the capability."""
        return self._msix.vectors if self._msix else 0

    @property
    def msix_table(self) -> tuple[int, int] | None:
        """Region and offset of the MSI-X vector table."""
        return self._msix.table if self._msix else None

    @property
    def msix_pba(self) -> tuple[int, int] | None:
        """Region and offset of the MSI-X pending bits, one bit a vector, little-endian."""
        return self._msix.pba if self._msix else None

    @property
    def capability_offsets(self) -> dict[str, int]:
        """Where each capability is in configuration space."""
        return dict(self._space.offsets)

    def connect(self, port: UpstreamPort) -> None:
        """Use `port` from now on, and tell it the gate."""
        self._port = port
        port.set_gate(self.gate)

    @property
    def port(self) -> UpstreamPort:
        """The link upstream; DeclarationError before `connect`."""
        if self._port is None:
            raise DeclarationError(f"{type(self).__name__} is used before it is connected to a port")
        return self._port

    def region_read(self, region: int, offset: int, size: int) -> int:
        """What a read of `size` bytes gives: all ones where nobody answers, BARs outside D0 included."""
        bank = self.regions.get(region)
        if bank is None or (region != CONFIG_REGION and self._is_asleep()):
            return (1 << 8 * size) - 1
        return bank.read(offset, size)

    def region_write(self, region: int, offset: int, size: int, value: int) -> None:
        """Do what a write of `size` bytes does; dropped where nobody answers."""
        bank = self.regions.get(region)
        if bank is not None and (region == CONFIG_REGION or not self._is_asleep()):
            bank.write(offset, size, value)

    def reader(self, region: int, offset: int, size: int) -> Callable[[], int]:
        """`region_read` of one place, for a server that reads it often and answers for the power state itself."""
        if region not in self.regions or type(self).region_read is not Function.region_read:
            return partial(self.region_read, region, offset, size)
        return self.regions[region].reader(offset, size)

    def writer(self, region: int, offset: int, size: int) -> Callable[[int], None]:
        """`region_write` to one place, likewise."""
        if region not in self.regions or type(self).region_write is not Function.region_write:
            return partial(self.region_write, region, offset, size)
        return self.regions[region].writer(offset, size)

    def set_pending(self, vector: int, is_pending: bool) -> None:
        """Show an interrupt in the MSI-X pending bits, or take it back."""
        if self._msix is None or not 0 <= vector < self._msix.vectors:
            raise DeclarationError(f"vector {vector} of a function that has {self.msix_vectors}")
        region, offset = self._msix.pba
        at, bit = offset + vector // 8, 1 << vector % 8
        bank = self.regions[region]
        bank.poke(at, 1, bank.peek(at, 1) & ~bit | bit * is_pending)

    # -- hardware state ---------------------------------------------------------------------------------

    @property
    def gate(self) -> Gate:
        """Why transactions are refused at this moment, from COMMAND, PMCSR and MSI-X control."""
        gate = Gate.IN_RESET if self._is_in_reset else Gate(0)
        if not self.config.get(Command.bus_master):
            gate |= Gate.BUS_MASTER_OFF
        if self._is_asleep():
            gate |= Gate.POWER_STATE
        if self._msix is None or not self.config.get(MsixControl.enable):
            gate |= Gate.INTERRUPTS_OFF
        elif self.config.get(MsixControl.function_mask):
            gate |= Gate.FUNCTION_MASKED
        return gate

    def _is_asleep(self) -> bool:
        at = self._power_state_at
        return at is not None and self.config.image[at] & Pmcsr.power_state.mask != _D0

    def _tell_gate(self) -> None:
        if self._port is not None:
            self._port.set_gate(self.gate)

    def _gate_written(self, write: Write) -> None:
        if write.before != write.after:
            self._tell_gate()

    def _power_state_written(self, write: Write) -> None:
        """PCIe 6.0 7.5.2.2: an unsupported state is dropped. PCI-PM 1.2 5.4: D3hot leads to D0 alone."""
        old, new = Pmcsr(write.before).power_state, Pmcsr(write.after).power_state
        supported = {
            PowerState.D0: True,
            PowerState.D1: old != PowerState.D3HOT and self.config.get(Pmc.d1_support),
            PowerState.D2: old != PowerState.D3HOT and self.config.get(Pmc.d2_support),
            PowerState.D3HOT: True,
        }
        if not supported[PowerState(new)]:
            self.config.set(Pmcsr.power_state, old)
            return
        woke_up = (old, new) == (PowerState.D3HOT, PowerState.D0)
        if woke_up and not self.config.get(Pmcsr.no_soft_reset):
            self.reset(ResetKind.POWER_STATE)
        elif old != new:
            self._tell_gate()

    def _device_control_written(self, write: Write) -> None:
        if write.wrote_one(DeviceControl.initiate_flr) and self.config.get(DeviceCapabilities.flr_capable):
            self.reset(ResetKind.FUNCTION_LEVEL)

    def reset(self, kind: ResetKind) -> None:
        """Return to the declared state; the gate is shut before anything changes and told again at the end.

        Power-on restores everything. Every other kind leaves sticky bits alone, and a Function Level Reset
        also the fields that PCIe 6.0 6.6.2 exempts. All end in D0 with Bus Master Enable and MSI-X off.
        """
        self._is_in_reset = True
        self._tell_gate()
        self.before_reset(kind)
        for bank in self.regions.values():
            bank.reset(keep_sticky=kind is not ResetKind.POWER_ON, keep_flr=kind is ResetKind.FUNCTION_LEVEL)
        for reset in self._reset_capabilities:
            reset()
        self._is_in_reset = False
        self.after_reset(kind)
        self._tell_gate()

    def before_reset(self, kind: ResetKind) -> None:
        """What a model has to end first; registers still hold their values, the gate is shut."""

    def after_reset(self, kind: ResetKind) -> None:
        """What a model derives from its registers anew."""

    # -- description ------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What a recording's header says about this function, JSON-able.

        `registers` are configuration space's, `bar_registers` the BARs' by index (a string, as JSON's keys
        are); `config` is the power-on image in hexadecimal.
        """
        described: dict[str, Any] = {
            "registers": self.config.describe(),
            "bar_registers": {
                str(index): bank.describe() for index, bank in self.regions.items() if index != CONFIG_REGION
            },
            "config": self.config.power_on_image().hex(),
            "bars": {str(index): size for index, size in self.bar_sizes.items()},
            "capabilities": self.capability_offsets,
        }
        if self._msix:
            described["msix"] = {
                "vectors": self._msix.vectors,
                "table": list(self._msix.table),
                "pba": list(self._msix.pba),
            }
        return described
