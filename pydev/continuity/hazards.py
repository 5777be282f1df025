# SPDX-License-Identifier: MIT
"""The numbered hazards that rules refer to, read from `HAZARDS.md`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_ROW: Final = re.compile(r"^\|(\d+)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Hazard:
    """One row of the table."""

    number: int
    register: str
    writer: str
    """The kernel function that writes it, and its file."""
    severity: str
    note: str
    """Why it harms, and when it is fine; may be empty."""

    @property
    def line(self) -> str:
        """The row as a sentence of the manual."""
        return f"{self.register} ({self.writer})" + (f": {self.note}" if self.note else "")


@cache
def hazards() -> Mapping[int, Hazard]:
    """Every hazard by its number."""
    text = (resources.files("pydev.continuity") / "HAZARDS.md").read_text(encoding="utf-8")
    found: dict[int, Hazard] = {}
    before = ("", "")
    for digits, register, writer, severity, note in _ROW.findall(text.replace("**", "").replace("`", "")):
        writer, note = (_said(cell.strip(), old) for cell, old in zip((writer, note), before, strict=True))
        before = (writer, note)
        found[int(digits)] = Hazard(int(digits), register.strip(), writer, severity.strip(), note)
    return found


def _said(cell: str, before: str) -> str:
    """A cell in full: the table writes "same" for what the row before has said."""
    return before + cell.removeprefix("same") if cell.startswith("same") else cell
