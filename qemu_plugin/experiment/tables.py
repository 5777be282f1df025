# SPDX-License-Identifier: MIT
"""TOML tables into frozen dataclasses, strictly: unknown keys, missing keys and wrong types are named."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from qemu_plugin.errors import UsageError

T = TypeVar("T")


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where one of `known` is close to `word`, else nothing."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def check_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """UsageError for the first key of `table` that is not `known`, with the nearest right one."""
    known = list(known)
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{nearest(key, known)}; known: {', '.join(known)}")


def from_table(kind: type[T], table: Any, where: str) -> T:
    """`table` as a `kind`, a dataclass; UsageError names the key and what it has to be."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} has to be a table, not {table!r}")
    described = _fields(kind)
    check_keys(table, described, where)
    values: dict[str, Any] = {}
    for name, (hint, is_required) in described.items():
        if name in table:
            values[name] = _value(hint, table[name], f"{where}: {name}")
        elif is_required:
            raise UsageError(f"{where}: {name!r} is missing")
    return kind(**values)


def _fields(kind: type[Any]) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    }


_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin is UnionType:
        hint = next(choice for choice in get_args(hint) if choice is not NoneType)
        return _value(hint, value, where)
    if is_dataclass(hint):
        return from_table(cast("type[Any]", hint), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} has to be a list, not {value!r}")
        return tuple(_value(get_args(hint)[0], entry, where) for entry in value)
    if origin is not None:  # Mapping[str, Any]
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} has to be a table, not {value!r}")
        return dict(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise UsageError(f"{where} has to be {_NAMES[hint]}, not {value!r}")
    return value
