# SPDX-License-Identifier: MIT
"""An endpoint with a register that a model decides, and one that it does not: nothing of a device's own work."""

from typing import Final

from pydev.endpoint import Endpoint, on_read, on_write
from pydev.pci import LUSCOPE_VENDOR_ID, Bar, Identity, Msix
from pydev.registers import Field, Register, Write

VALUE_OFFSET: Final = 0x30


class Passive(Register, offset=0x00):
    """Holds what was written."""

    value = Field(0, 32)


class Value(Register, offset=VALUE_OFFSET):
    """Likewise, by a model."""

    value = Field(0, 32)


class DecidedEndpoint(Endpoint):
    """Answers as quickly as Python can."""

    identity = Identity(vendor_id=LUSCOPE_VENDOR_ID, device_id=0x4C07)
    bars = (Bar(0, size_bytes=0x1000, registers=(Passive, Value)),)
    msix = Msix(vectors=4, table=(0, 0x800), pba=(0, 0xC00))
    held = 0

    @on_read(Value)
    def show(self, index: int) -> int:
        """What was written last."""
        del index
        return self.held

    @on_write(Value)
    def keep(self, write: Write) -> None:
        """Keep it."""
        self.held = write.after
