# SPDX-License-Identifier: MIT
"""What a capability is: registers after a header that links to the next one. One file each declares them."""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeAlias

from pydev.registers import Access, Field, JsonRegister, Register, RegisterBank, describe_register

Resets: TypeAlias = Mapping[type[Register], Mapping[str, int]]


class CapabilityHeader(Register, width=2):
    """Identity and link of a capability below 0x100 (PCIe 6.0 7.5.3.1)."""

    capability_id = Field(0, 8, access=Access.RO)
    next_pointer = Field(8, 8, access=Access.RO)


class ExtendedCapabilityHeader(Register, width=4):
    """Identity and link of an extended capability (PCIe 6.0 7.6.3)."""

    capability_id = Field(0, 16, access=Access.RO)
    version = Field(16, 4, access=Access.RO, reset=1)
    next_pointer = Field(20, 12, access=Access.RO)


class Capability:
    """Base of every capability; an instance holds what one function chose of it.

    `registers` have offsets from the capability's first byte, the header first; `size_bytes` is its length.
    """

    name: ClassVar[str]
    registers: ClassVar[tuple[type[Register], ...]]
    size_bytes: ClassVar[int]
    is_extended: ClassVar[bool] = False

    __slots__ = ()

    def resets(self) -> Resets:
        """The reset values that this instance sets, by register and field."""
        return {}

    def attach(self, bank: RegisterBank) -> Callable[[], None] | None:
        """Decide registers of the bank that masks cannot; what is returned is called after every reset."""
        del bank
        return None

    @classmethod
    def describe(cls, offset: int) -> list[JsonRegister]:
        """The registers of such a capability at `offset`, for a function that someone else models."""
        return [describe_register(register, offset + (register.offset or 0)) for register in cls.registers]
