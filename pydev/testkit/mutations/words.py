# SPDX-License-Identifier: MIT
"""Mutations of what is said in JSON: by the agent, the bench, the header and the trailer, member by member."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydev.recording.format import Kind
from pydev.testkit.mutations.draft import Draft
from pydev.testkit.mutations.mutation import Clean, Mutation, Site, kind_name

_NUMBERED: Final = ("seq", "crc", "re")
"""Made consistent anyway: renumbering them says nothing."""
_COUNTED: Final = ("events", "dropped", "holes", "crc32", "closed_ns")
_TABLES: Final = ("registers", "bar_registers", "config", "bars", "capabilities", "msix")
"""Too many members to take one by one: `of_functions` takes the registers, and rules read of the rest nothing."""


def of_line(clean: Clean, head: int) -> Iterator[Mutation]:
    """Every member of one line, left out and changed."""
    site = Site(clean, head)
    kind = kind_name(site.kind)
    members = site.members
    for name in members:
        if name in _NUMBERED:
            continue
        less = {key: value for key, value in members.items() if key != name}
        yield Mutation("leave out", kind, _said(clean, head, less), (site,), name)
        for how, value in changes(members[name]):
            yield Mutation(how, kind, _said(clean, head, {**members, name: value}), (site,), name)


def _said(clean: Clean, head: int, members: Mapping[str, Any]) -> Callable[[], Draft]:
    return partial(clean.draft.with_members, head, members)


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """Other values of the same type, and one of another."""
    if isinstance(value, bool):
        yield "say otherwise", not value
    elif isinstance(value, int):
        yield "say one more", value + 1
        yield "say otherwise", 0 if value else 1 << 20
    elif isinstance(value, str):
        yield "say otherwise", _other_text(value)
    elif isinstance(value, list) and value:
        yield "say fewer", value[:-1]
        yield "say more", [*value, value[-1]]
        for how, changed in changes(value[0]):
            yield how, [changed, *value[1:]]
        if len(value) > 1:
            yield "say in another order", [value[1], value[0], *value[2:]]
    yield "say null", None


def _other_text(text: str) -> str:
    if not text:
        return "x"
    last = text[-1]
    return text[:-1] + ("1" if last == "0" else "0" if last.isdigit() else chr(ord(last) ^ 1))


def of_header(clean: Clean) -> Iterator[Mutation]:
    """Every member of the header but the tables of registers, which are taken name by name."""
    yield from _of_object(clean, "header", clean.draft.header, ())


def of_trailer(clean: Clean) -> Iterator[Mutation]:
    """Every member of the trailer that is not counted anew."""
    yield from _of_object(clean, "trailer", clean.draft.trailer, ())


def _of_object(clean: Clean, which: str, value: Any, path: tuple[Any, ...]) -> Iterator[Mutation]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, inner in items:
        if key in _COUNTED or key in _TABLES or (which == "header" and key == "schema"):
            continue
        where = (*path, key)
        label = ".".join(str(part) for part in where)
        if isinstance(value, Mapping):
            yield Mutation("leave out", which, _put(clean, which, where, _GONE), (), label)
        if isinstance(inner, Mapping) or (
            isinstance(inner, list) and inner and isinstance(inner[0], Mapping)
        ):
            yield from _of_object(clean, which, inner, where)
            continue
        for how, other in changes(inner):
            yield Mutation(how, which, _put(clean, which, where, other), (), label)


_GONE: Final = object()


def _put(clean: Clean, which: str, path: tuple[Any, ...], value: Any) -> Callable[[], Draft]:
    def make() -> Draft:
        return replace(clean.draft, **{which: _with(getattr(clean.draft, which), path, value)})

    return make


def _with(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    key, rest = path[0], path[1:]
    inner = _with(whole[key], rest, value) if rest else value
    if isinstance(whole, Mapping):
        return {k: (inner if k == key else v) for k, v in whole.items() if k != key or inner is not _GONE}
    return [inner if n == key else v for n, v in enumerate(whole)]


def of_functions(clean: Clean) -> Iterator[Mutation]:
    """Every register that the header declares, undeclared: a rule that needs it has to say that it cannot judge."""
    functions = clean.draft.header["functions"]
    for number, function in enumerate(functions):
        for register in function.get("registers") or ():
            rest = [r for r in function["registers"] if r is not register]
            path = ("functions", number, "registers")
            what = f"{function['id']} {register['name']}"
            yield Mutation("undeclare", "header", _put(clean, "header", path, rest), (), what)


LINES: Final = (Kind.AGENT, Kind.NOTE, Kind.STACK)
"""Kinds whose text is a JSON object."""
