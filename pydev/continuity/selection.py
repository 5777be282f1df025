# SPDX-License-Identifier: MIT
"""How a policy names functions and registers. Nothing here knows rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pydev.errors import PolicyError
from pydev.recording.functions import FunctionEntry, upstream_path

ROLES: Final = ("endpoint", "root_port", "upstream_port", "downstream_port")
"""What a recording's header calls a function's `role`."""
CLASSES: Final = ("all", "endpoints", "preserved", "not-preserved", "bridges", "path")
"""Words for classes of functions; `path` is every bridge above something preserved."""
_PREFIXES: Final = ("id", "type", "model", "above", "below")
FUNCTION_FORMS: Final = (*CLASSES, *(f"{prefix}:…" for prefix in _PREFIXES), "or an endpoint's or port's id")


@dataclass(frozen=True, slots=True)
class FunctionSelector:
    """A word that names functions: `preserved`, `ep0`, `type:root_port`, `above:ep0`."""

    kind: str
    """A class of functions, or a prefix."""
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> "FunctionSelector":
        """The selector that a policy wrote; PolicyError for a prefix or a type that does not exist."""
        if text in CLASSES:
            return cls(text)
        prefix, colon, value = text.partition(":")
        if not colon:
            prefix, value = "id", text
        if prefix not in _PREFIXES or not value or not text.strip():
            raise PolicyError(f"{text!r} selects no function; there are {', '.join(FUNCTION_FORMS)}")
        if prefix == "type" and value not in ROLES:
            raise PolicyError(f"{text!r}: a type is one of {', '.join(ROLES)}")
        return cls(prefix, value)

    @property
    def is_name(self) -> bool:
        """Whether it speaks of something by name: then it should be there."""
        return self.kind in ("id", "model", "above", "below")

    def __str__(self) -> str:
        if self.kind == "id" and self.value not in CLASSES and ":" not in self.value:
            return self.value
        return f"{self.kind}:{self.value}" if self.value else self.kind

    def indexes(self, functions: Sequence[FunctionEntry]) -> frozenset[int]:
        """The functions of a topology that it selects."""
        if self.kind == "path":
            preserved = (f for f in functions if f.is_endpoint and f.preserve)
            return frozenset(port.index for f in preserved for port in upstream_path(functions, f.index))
        if self.kind == "above":
            named = (f for f in functions if f.id == self.value)
            return frozenset(port.index for f in named for port in upstream_path(functions, f.index))
        return frozenset(f.index for f in functions if self._selects(f, functions))

    def _selects(self, function: FunctionEntry, functions: Sequence[FunctionEntry]) -> bool:
        match self.kind:
            case "all":
                return True
            case "endpoints":
                return function.is_endpoint
            case "preserved":
                return function.is_endpoint and function.preserve
            case "not-preserved":
                return function.is_endpoint and not function.preserve
            case "bridges":
                return not function.is_endpoint
            case "type":
                return function.role == self.value
            case "model":
                return function.model == self.value
            case "below":
                return any(port.id == self.value for port in upstream_path(functions, function.index))
            case _:
                return function.id == self.value


@dataclass(frozen=True, slots=True)
class RegisterSelector:
    """A register by name, or one of its fields: `COMMAND`, `COMMAND.bus_master`, `BAR?`."""

    register: str
    """May hold `*` and `?`."""
    field: str | None = None

    @classmethod
    def parse(cls, text: str) -> "RegisterSelector":
        """The selector that a policy wrote; PolicyError where it is no name."""
        register, dot, name = text.partition(".")
        if not register.strip() or (dot and not name.strip()) or "." in name:
            raise PolicyError(f"{text!r} is no register; write REGISTER or REGISTER.field")
        return cls(register, name or None)

    def __str__(self) -> str:
        return self.register if self.field is None else f"{self.register}.{self.field}"

    def covers(self, register: str, field: str | None) -> bool:
        """Whether all of what is looked at is selected: a field does not cover its register."""
        if not fnmatchcase(register, self.register):
            return False
        return self.field is None or (field is not None and fnmatchcase(field, self.field))

    def touches(self, register: str, field: str | None) -> bool:
        """Whether any of what is looked at is selected."""
        if not fnmatchcase(register, self.register):
            return False
        return self.field is None or field is None or fnmatchcase(field, self.field)


def judged_registers(declared: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """A rule's `registers` as pairs of register and field; None for the field is the whole register."""
    pairs = (text.partition(".") for text in declared)
    return tuple((register, field or None) for register, _, field in pairs)
