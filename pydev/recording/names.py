# SPDX-License-Identifier: MIT
"""Names for accesses to config space, from the registers that the recording's header declares."""

from collections.abc import Mapping

from pydev.recording.functions import FunctionEntry, RegisterEntry


class RegisterNames:
    """One function's registers by place."""

    def __init__(self, registers: Mapping[str, RegisterEntry]) -> None:
        self._at: dict[int, RegisterEntry] = {}
        # The smaller of two that lie on each other is the more telling one.
        for register in sorted(registers.values(), key=lambda entry: -entry.width):
            for offset in range(register.offset, register.offset + register.width):
                self._at[offset] = register

    def at(self, offset: int) -> RegisterEntry | None:
        """The register that a byte belongs to."""
        return self._at.get(offset)

    def covered(self, offset: int, width: int) -> list[RegisterEntry]:
        """The registers under an access, by offset."""
        found: list[RegisterEntry] = []
        for byte in range(offset, offset + min(width, 8)):
            register = self._at.get(byte)
            if register is not None and register not in found:
                found.append(register)
        return found

    def access(self, offset: int, width: int | None) -> str:
        """`COMMAND (@0x4)`, `COMMAND to STATUS (@0x4)`, `BAR0 (@0x12)`; the bare offset where nothing is declared.

        `width` in bytes; None where nobody recorded it: then the register at the offset is named.
        """
        registers = self.covered(offset, width or 1)
        if not registers:
            return f"@{offset:#x}"
        last = f" to {registers[-1].name}" if len(registers) > 1 else ""
        return f"{registers[0].name}{last} (@{offset:#x})"


def register_names(function: FunctionEntry | None) -> RegisterNames:
    """The names of a function's registers; none for a function that is not the experiment's."""
    return RegisterNames({} if function is None else function.registers)


def bytes_text(width: int | None) -> str:
    """`, 2 bytes`, or nothing where the width is not known."""
    if width is None:
        return ""
    return f", {width} byte{'' if width == 1 else 's'}"
