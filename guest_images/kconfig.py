# SPDX-License-Identifier: MIT
"""Kernel configurations: what a fragment asks for, and whether a configured tree has it."""

import re
from collections.abc import Mapping

_SET = re.compile(r"(CONFIG_\w+)=(.*)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")


def parse(text: str) -> dict[str, str]:
    """Return the symbols of a `.config` or fragment with their values as written; "is not set" is "n"."""
    symbols: dict[str, str] = {}
    for line in text.splitlines():
        if matched := _SET.fullmatch(line.strip()):
            symbols[matched[1]] = matched[2]
        elif matched := _UNSET.fullmatch(line.strip()):
            symbols[matched[1]] = "n"
    return symbols


def refused(asked: Mapping[str, str], got: Mapping[str, str]) -> list[str]:
    """Return a line for each symbol of `asked` that `got` has another value for; an absent symbol is "n"."""
    return [
        f"{name} is {got.get(name, 'n')}, asked for {value}"
        for name, value in asked.items()
        if got.get(name, "n") != value
    ]
