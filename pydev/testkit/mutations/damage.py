# SPDX-License-Identifier: MIT
"""The second table: files cut short and bits flipped, with nothing made consistent again. None may pass, none crash.

What follows from a damaged file is refused (RecordingError), or UNKNOWN, or, where the guest's failure shows all
the same, FAIL.
"""

import random
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pydev.continuity import Outcome, Policy
from pydev.recording.format import HEADER_OFFSET, PROLOGUE
from pydev.testkit.mutations.judging import outcome_of

UNREAD: Final = {
    "limit": "how far the writers' room had been reserved when the file was closed: no event lies there",
    "capacity": "the most that could have been reserved: more of it changes nothing, less of it is noticed",
}
"""Fields of the prologue of which some bits are read by nobody, and why that is right."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged copy of a file."""

    region: str
    """Which part of the file; of the prologue which field."""
    what: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Assessed:
    """What came of one."""

    damage: Damage
    outcome: str
    rules: tuple[str, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether it passed, and not because nobody reads that field."""
        return self.outcome == Outcome.PASS and self.damage.region not in UNREAD


def regions(data: bytes) -> dict[str, Sequence[int]]:
    """The parts of a whole recording, as the offsets of their bytes; the prologue's by field."""
    prologue = np.frombuffer(data, dtype=PROLOGUE, count=1)[0]
    begin, records = int(prologue["header_offset"]), int(prologue["records_offset"])
    header_end, trailer = begin + int(prologue["header_bytes"]), int(prologue["trailer_offset"])
    fields = {name: range(at, at + kind.itemsize) for name, (kind, at, *_) in (PROLOGUE.fields or {}).items()}
    used = {offset for span in fields.values() for offset in span}
    return {
        **fields,
        "prologue's unused bytes": [offset for offset in range(HEADER_OFFSET) if offset not in used],
        "header": range(begin, header_end),
        "after the header": range(header_end, records),
        "records": range(records, trailer),
        "trailer": range(trailer, len(data)),
    }


def flips(data: bytes, most: int, seed: int) -> Iterator[Damage]:
    """Single bits flipped: every one of the prologue's fields, and so many of every other part."""
    chance = random.Random(seed)
    for name, span in regions(data).items():
        bits = range(8 * len(span))
        is_field = len(span) <= 8
        for bit in bits if is_field or len(bits) <= most else sorted(chance.sample(bits, most)):
            changed = bytearray(data)
            changed[span[bit // 8]] ^= 1 << bit % 8
            yield Damage(name, f"bit {bit % 8} of byte {span[bit // 8]}", bytes(changed))


def cuts(data: bytes, most: int, seed: int) -> Iterator[Damage]:
    """The file cut short: at each edge of its parts, a byte before and after, and anywhere."""
    parts = regions(data)
    ends = {end for span in parts.values() for end in (span[0], span[-1] + 1)}
    near = {end + by for end in ends for by in (-1, 0, 1)}
    anywhere = random.Random(seed).sample(range(len(data)), min(most, len(data)))
    for length in sorted({0, *(length for length in near if 0 < length < len(data)), *anywhere}):
        part = next((name for name, span in parts.items() if length in span), "end")
        yield Damage(
            f"cut in {part}" if part in _LARGE else "cut in prologue", f"{length} bytes", data[:length]
        )


_LARGE: Final = ("header", "after the header", "records", "trailer", "end")


def assessed(damages: Iterable[Damage], policy: Policy, folder: Path) -> Iterator[Assessed]:
    """What a verdict makes of each; an exception of any kind but RecordingError is the caller's to see."""
    path = folder / "damaged.lus"
    for damage in damages:
        path.unlink(missing_ok=True)  # the last one may still be mapped
        path.write_bytes(damage.data)
        outcome, rules = outcome_of(path, policy)
        yield Assessed(damage, outcome, rules)


def table(found: Iterable[Assessed]) -> str:
    """What came of the damage to each part, how often; then the fields that nobody reads."""
    rows: dict[str, Counter[str]] = {}
    for one in found:
        label = (
            "PASS (WRONG)" if one.is_wrong else f"{one.outcome} {one.rules[0]}" if one.rules else one.outcome
        )
        rows.setdefault(one.damage.region, Counter())[label] += 1
    lines = [
        f"{region:<26} " + ", ".join(f"{answer} {count}" for answer, count in row.most_common())
        for region, row in rows.items()
    ]
    lines += ["", "PASS, and why that is no mistake:"]
    for name, reason in UNREAD.items():
        lines += textwrap.wrap(f"{name}: {reason}", 118, subsequent_indent="  ")
    return "\n".join(lines)
