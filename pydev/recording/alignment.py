# SPDX-License-Identifier: MIT
"""Two witnesses' accounts of one sequence, laid side by side: what both have, and what only one has.

Order counts: an element is matched with an equal one so that nothing crosses. Where a missing element could as
well be its neighbour, since both are equal, the alignment says that it is ambiguous.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True, slots=True)
class Alignment:
    """Positions in the two sequences."""

    pairs: tuple[tuple[int, int], ...]
    only_left: tuple[int, ...]
    only_right: tuple[int, ...]
    ambiguous_left: frozenset[int] = frozenset()
    """Of `only_left`: which of several equal neighbours is missing on the right, nobody can say."""
    ambiguous_right: frozenset[int] = frozenset()


def align(left: Sequence[Hashable], right: Sequence[Hashable]) -> Alignment:
    """The two sequences side by side."""
    begin, shorter = 0, min(len(left), len(right))
    while begin < shorter and left[begin] == right[begin]:
        begin += 1
    end = 0
    while end < shorter - begin and left[-1 - end] == right[-1 - end]:
        end += 1
    pairs = [(n, n) for n in range(begin)]
    pairs += _middle(left[begin : len(left) - end], right[begin : len(right) - end], begin)
    pairs += [(len(left) - n, len(right) - n) for n in range(end, 0, -1)]
    matched_left, matched_right = ({pair[side] for pair in pairs} for side in (0, 1))
    only_left = tuple(n for n in range(len(left)) if n not in matched_left)
    only_right = tuple(n for n in range(len(right)) if n not in matched_right)
    return Alignment(
        tuple(pairs), only_left, only_right, _ambiguous(left, only_left), _ambiguous(right, only_right)
    )


def _middle(left: Sequence[Hashable], right: Sequence[Hashable], offset: int) -> list[tuple[int, int]]:
    if not left or not right:
        return []
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return [(offset + b.a + n, offset + b.b + n) for b in blocks for n in range(b.size)]


def _ambiguous(elements: Sequence[Hashable], alone: Sequence[int]) -> frozenset[int]:
    """Those runs of unmatched elements that could be moved to another place without any difference."""
    found: set[int] = set()
    for begin, end in _runs(alone):
        slides_left = begin > 0 and elements[begin - 1] == elements[end - 1]
        slides_right = end < len(elements) and elements[end] == elements[begin]
        if slides_left or slides_right:
            found.update(range(begin, end))
    return frozenset(found)


def _runs(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Adjoining positions as half-open ranges."""
    runs: list[tuple[int, int]] = []
    for position in positions:
        if runs and runs[-1][1] == position:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs
