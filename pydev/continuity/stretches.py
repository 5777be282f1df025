# SPDX-License-Identifier: MIT
"""How long a field held what: its history cut into stretches, with how exactly their ends are known.

A change that only a read has shown was made at some moment before it, by a write that the record has not: the
stretches on both sides of it are open to both values. Ends that come from a trace are known to within the
timeline's uncertainty only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from pydev.recording.config import Change, History, Values, field_values
from pydev.recording.functions import FieldEntry

ALWAYS: Final = 1 << 62
"""Later than any moment of a recording, in ns."""
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one moment to another, half-open, without a change of what is asked about."""

    begin_ns: int
    end_ns: int
    values: Values
    """What the field may have held; empty where nothing is known."""
    opened_by: Change | None
    """None: since power-on."""

    def certainly(self, is_wanted: Callable[[int], bool]) -> bool:
        """Whether every value that it may have held is wanted."""
        return bool(self.values) and all(is_wanted(value) for value in self.values)

    def perhaps(self, is_wanted: Callable[[int], bool]) -> bool:
        """Whether some value that it may have held is wanted, or nothing is known."""
        return not self.values or any(is_wanted(value) for value in self.values)


def stretches(history: History, entry: FieldEntry | None) -> tuple[Stretch, ...]:
    """A field's whole history, in time order and without a hole."""
    found: list[Stretch] = []
    begin_ns, values, opened_by = -ALWAYS, field_values(history.initial, entry), None
    for change in history.changes:
        after = field_values(change.after, entry)
        if change.cause == "read":
            values = after = _either(values, after)
        found.append(Stretch(begin_ns, change.t_ns, values, opened_by))
        begin_ns, values, opened_by = change.t_ns, after, change
    found.append(Stretch(begin_ns, ALWAYS, values, opened_by))
    return tuple(stretch for stretch in found if stretch.begin_ns < stretch.end_ns)


def joined(
    parts: Iterable[Stretch], is_wanted: Callable[[int], bool]
) -> tuple[tuple[Stretch, ...], tuple[Stretch, ...]]:
    """What was certainly wanted, and what was perhaps wanted, neighbours made one: the first's opening counts."""
    parts = tuple(parts)
    certain = (part for part in parts if part.certainly(is_wanted))
    possible = (part for part in parts if part.perhaps(is_wanted))
    return _merge(certain), _merge(possible)


def within(times_ns: Times, begin_ns: int, end_ns: int, margin_ns: int) -> slice:
    """The moments (ascending) of a span, its ends drawn in by a margin; a negative one lets them out.

    An end that is no moment of the recording at all stays where it is.
    """
    begin = begin_ns + (margin_ns if begin_ns > -ALWAYS else 0)
    end = end_ns - (margin_ns if end_ns < ALWAYS else 0)
    first, last = np.searchsorted(times_ns, [begin, max(begin, end)], side="left")
    return slice(int(first), int(last))


def _either(values: Values, others: Values) -> Values:
    return values | others if values and others else frozenset()


def _merge(parts: Iterable[Stretch]) -> tuple[Stretch, ...]:
    merged: list[Stretch] = []
    for part in parts:
        if merged and merged[-1].end_ns == part.begin_ns:
            merged[-1] = replace(
                merged[-1], end_ns=part.end_ns, values=_either(merged[-1].values, part.values)
            )
        else:
            merged.append(part)
    return tuple(merged)
