# SPDX-License-Identifier: MIT
"""The printed table: one line for each figure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, its value as text, and what it is to be compared with."""

    name: str
    value: str
    note: str = ""


def render(title: str, figures: Sequence[Figure]) -> str:
    """A group of figures as aligned lines."""
    width = max((len(figure.name) for figure in figures), default=0)
    lines = [f"  {f.name.ljust(width)}  {f.value:>14}  {f.note}".rstrip() for f in figures]
    return "\n".join([title, *lines])
