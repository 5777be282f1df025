# SPDX-License-Identifier: MIT
"""Register declarations as a C header, for the guest's agent and driver: one declaration, two languages."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from pydev.errors import DeclarationError
from pydev.registers.register import Field, Register


class _Define(Protocol):
    def __call__(self, name: str, value: str, parameter: str = "") -> None: ...


def c_header(
    prefix: str,
    registers: Iterable[type[Register]],
    *,
    source: str,
    constants: Mapping[str, int] | None = None,
) -> str:
    """The text of a header with an offset for each register, and a shift and a mask for each field.

    `PREFIX_CONTROL` is an offset, `PREFIX_CONTROL_RUN` the mask of its field in place and
    `PREFIX_CONTROL_RUN_SHIFT` its lowest bit (no shift for single bits, nothing for a field that is the whole
    register); an array has `PREFIX_X(index)` and `PREFIX_X_COUNT`. `source` names the module that it was made
    from. DeclarationError where two come out under one name.
    """
    guard = f"{prefix}_H"
    lines = [
        "/* SPDX-License-Identifier: GPL-2.0-only */",
        f"/* Made from {source}; change it there. */",
        f"#ifndef {guard}",
        f"#define {guard}",
    ]
    names: set[str] = {guard}

    def define(name: str, value: str, parameter: str = "") -> None:
        if name in names:
            raise DeclarationError(f"{source}: two C macros would be called {name}")
        names.add(name)
        lines.append(f"#define {name}{parameter} {value}")

    for name, value in (constants or {}).items():
        define(f"{prefix}_{name}", _number(value))
    for register in registers:
        lines.append("")
        _define_register(define, prefix, register)
    return "\n".join([*lines, "", f"#endif /* {guard} */", ""])


def _define_register(define: _Define, prefix: str, register: type[Register]) -> None:
    name, offset = f"{prefix}_{register.name}", register.offset
    if offset is None:
        raise DeclarationError(f"{register.name} has no offset")
    if register.count > 1:
        define(name, f"({_number(offset)} + {_number(register.stride)} * (index))", "(index)")
        define(f"{name}_COUNT", str(register.count))
    else:
        define(name, _number(offset))
    for field in register.fields.values():
        if not _is_whole(register, field):
            define(f"{name}_{field.name.upper()}", _number(field.mask))
            if field.bits > 1:
                define(f"{name}_{field.name.upper()}_SHIFT", str(field.lsb))


def _is_whole(register: type[Register], field: Field) -> bool:
    return field.bits == 8 * register.width


def _number(value: int) -> str:
    return f"{value:#x}ull" if value > 0xFFFFFFFF else f"{value:#x}u"
