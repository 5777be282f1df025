# SPDX-License-Identifier: MIT
"""What a stack consists of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One function of a stack; `address` is as the kernel was linked."""

    address: int
    is_exact: bool
    """The instruction itself, and not the one after its call or jump."""
    is_recovered: bool = False
    """Not on the stack: the function ended in a jump (`tail_calls`)."""

    @property
    def inside(self) -> int:
        """An address that is certainly in the function: a call may be the last thing in it."""
        return self.address if self.is_exact else self.address - 1


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames from the writer down; `note` says why they end before the bottom, None where they reach it."""

    frames: tuple[Frame, ...]
    note: str | None
