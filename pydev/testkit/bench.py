# SPDX-License-Identifier: MIT
"""A device model on a bench: memory, time and a port around it, and the guest's accesses as methods."""

from typing import Generic, TypeVar

from pydev.endpoint import Endpoint
from pydev.pci import CONFIG_REGION
from pydev.pci.express import DeviceControl
from pydev.pci.header import Command
from pydev.pci.msix import MsixControl
from pydev.pci.power_management import Pmcsr
from pydev.registers import Field, Register
from pydev.testkit.manual_time import ManualTime
from pydev.testkit.memory import Memory
from pydev.testkit.port import FakePort

Model = TypeVar("Model", bound=Endpoint)


class Bench(Generic[Model]):
    """An endpoint at power-on, connected; `enable()` does what a driver's probe does."""

    def __init__(self, endpoint: Model) -> None:
        self.endpoint = endpoint
        self.time = ManualTime()
        self.memory = Memory()
        self.port = FakePort(self.time, self.memory, endpoint.set_pending if endpoint.msix else None)
        endpoint.connect(self.port, clock=self.time, scheduler=self.time)

    def read(self, register: type[Register], index: int = 0) -> int:
        """A guest's read of a whole register."""
        region, offset = self._place(register, index)
        return self.endpoint.region_read(region, offset, register.width)

    def write(self, item: type[Register] | Field, value: int, index: int = 0) -> None:
        """A guest's write of a whole register; for a field, a read-modify-write as a driver does."""
        register = item.register if isinstance(item, Field) else item
        region, offset = self._place(register, index)
        if isinstance(item, Field):
            value = item.insert(self.read(register, index), value)
        self.endpoint.region_write(region, offset, register.width, value)

    def _place(self, register: type[Register], index: int) -> tuple[int, int]:
        bank = self.endpoint.bank_of(register)
        region = next(region for region, other in self.endpoint.regions.items() if other is bank)
        return region, bank.offset_of(register, index)

    def enable(self) -> None:
        """Memory decode, bus mastering and, where there are vectors, MSI-X."""
        self.write(Command, Command.compose(memory_space=1, bus_master=1))
        if MsixControl in self.endpoint.config:
            self.write(MsixControl.enable, 1)

    def function_level_reset(self) -> None:
        """Write DEVCTL.Initiate_FLR."""
        self.write(DeviceControl.initiate_flr, 1)

    def set_power_state(self, state: int) -> None:
        """Write PMCSR.PowerState."""
        self.write(Pmcsr.power_state, state)

    def config_image(self) -> bytes:
        """Configuration space as it is, without side effects."""
        return bytes(self.endpoint.regions[CONFIG_REGION].image)
