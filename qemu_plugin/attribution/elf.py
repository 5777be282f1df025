# SPDX-License-Identifier: MIT
"""The parts of a vmlinux or module that attribution reads, as sections by name. ELF by `pyelftools`."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from qemu_plugin.attribution.errors import AttributionError

_CODE: Final = SH_FLAGS.SHF_EXECINSTR
_SYMBOL: Final = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)  # ELF-64 Object File Format, "Symbol Table"
_FUNCTION: Final = 2  # STT_FUNC
_NO_TYPE: Final = 0  # STT_NOTYPE: assembly without a type, and the linker script's marks
_LOCAL: Final = 0  # STB_LOCAL


@dataclass(frozen=True, slots=True)
class Section:
    """A section that has bytes in the file."""

    address: int
    data: memoryview
    is_code: bool
    """Instructions that run where they lie: executable and not writable."""

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + len(self.data)

    def words(self, dtype: str) -> npt.NDArray[np.int32]:
        """Its bytes as an array; what does not fill the last item is left out."""
        size = np.dtype(dtype).itemsize
        return np.frombuffer(self.data[: len(self.data) // size * size], dtype=dtype)


@dataclass(frozen=True, slots=True)
class Elf:
    """An x86-64 ELF file."""

    sections: dict[str, Section]
    sections_by_index: dict[int, str]

    @classmethod
    def parse(cls, data: bytes, what: str) -> "Elf":
        """Read the section table of `data`; `what` is for messages only.

        AttributionError where it is no 64-bit little-endian x86 ELF file, or has no sections.
        """
        try:
            file = ELFFile(io.BytesIO(data))
            if file.elfclass != 64 or not file.little_endian or file["e_machine"] != "EM_X86_64":
                raise AttributionError(f"{what}: not an x86-64 ELF file but {file.get_machine_arch()}")
            sections, indexes = {}, {}
            view = memoryview(data)
            for index, section in enumerate(file.iter_sections()):
                if section["sh_type"] in ("SHT_NULL", "SHT_NOBITS") or section.name in sections:
                    continue
                begin, count = section["sh_offset"], section["sh_size"]
                if begin + count > len(data):
                    raise AttributionError(f"{what}: section {section.name} ends after the file")
                is_code = section["sh_flags"] & (SH_FLAGS.SHF_EXECINSTR | SH_FLAGS.SHF_WRITE) == _CODE
                sections[section.name] = Section(section["sh_addr"], view[begin : begin + count], is_code)
                indexes[index] = section.name
        except (ELFError, ValueError, KeyError, UnicodeDecodeError) as error:
            raise AttributionError(f"{what}: cannot be read as an ELF file: {error}") from error
        if not sections:
            raise AttributionError(f"{what}: an ELF file without sections")
        return cls(sections, indexes)

    def section(self, name: str) -> Section | None:
        """The section of that name, None where there is none or it has no bytes."""
        return self.sections.get(name)

    def code(self) -> Iterator[tuple[str, Section]]:
        """Sections of instructions."""
        return (
            (name, section) for name, section in self.sections.items() if section.is_code and section.data
        )

    def symbols(self) -> Iterator[tuple[str, int, str]]:
        """(name, value, type letter as `nm` has it) of the functions and marks of its symbol table."""
        table, strings = self.section(".symtab"), self.section(".strtab")
        if table is None or strings is None:
            return
        items = np.frombuffer(table.data[: len(table.data) // 24 * 24], dtype=_SYMBOL)
        kinds = items["info"] & 15
        chosen = items[(items["section"] != 0) & ((kinds == _FUNCTION) | (kinds == _NO_TYPE))]
        text = bytes(strings.data)
        for name, info, section, value in zip(
            *(chosen[column].tolist() for column in ("name", "info", "section", "value")), strict=True
        ):
            where = self.sections_by_index.get(section, "")
            if not name or not where:
                continue
            letter = "t" if self.sections[where].is_code else "d"
            is_global = info >> 4 != _LOCAL
            end = text.index(b"\0", name)
            yield text[name:end].decode("latin-1"), value, letter.upper() if is_global else letter
