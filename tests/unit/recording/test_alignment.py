# SPDX-License-Identifier: MIT
import random

import pytest

from pydev.recording.alignment import align


@pytest.mark.parametrize(
    ("left", "right", "only_left", "only_right"),
    [
        ("abc", "abc", (), ()),
        ("", "", (), ()),
        ("abc", "", (0, 1, 2), ()),
        ("abcd", "abd", (2,), ()),
        ("abd", "abcd", (), (2,)),
        ("abcd", "axcd", (1,), (1,)),
        ("xabcdy", "abcd", (0, 5), ()),
        ("abcdefgh", "bcdxfgh", (0, 4), (3,)),
    ],
)
def test_what_only_one_side_has_is_found_where_it_is(
    left: str, right: str, only_left: tuple[int, ...], only_right: tuple[int, ...]
) -> None:
    found = align(left, right)
    assert (found.only_left, found.only_right) == (only_left, only_right)
    assert all(left[a] == right[b] for a, b in found.pairs)


def test_two_that_changed_places_leave_one_unmatched_on_each_side() -> None:
    found = align("abcd", "acbd")
    assert len(found.only_left) == len(found.only_right) == 1
    assert "abcd"[found.only_left[0]] == "acbd"[found.only_right[0]]


@pytest.mark.parametrize(
    ("left", "right", "is_ambiguous"),
    [
        ("aab", "ab", True),  # which of two equal ones
        ("abab", "ab", True),  # which of two equal pairs
        ("abac", "abc", False),
        ("abc", "ac", False),
        ("aab", "b", False),  # all of them are missing: nothing to choose
    ],
)
def test_a_missing_one_that_could_as_well_be_its_neighbour_is_ambiguous(
    left: str, right: str, is_ambiguous: bool
) -> None:
    assert bool(align(left, right).ambiguous_left) is is_ambiguous
    assert bool(align(right, left).ambiguous_right) is is_ambiguous


def test_pairs_never_cross_and_use_nothing_twice() -> None:
    chance = random.Random(7)
    for _ in range(200):
        left, right = ("".join(chance.choices("abc", k=chance.randrange(12))) for _ in range(2))
        found = align(left, right)
        assert list(found.pairs) == sorted(found.pairs)
        for side, whole, alone in ((0, left, found.only_left), (1, right, found.only_right)):
            used = [pair[side] for pair in found.pairs]
            assert sorted([*used, *alone]) == list(range(len(whole)))
