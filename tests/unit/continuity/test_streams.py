# SPDX-License-Identifier: MIT
import numpy as np

from pydev.continuity.streams import StreamFacts, gaps
from pydev.recording.functions import FunctionEntry

EP = FunctionEntry(0, "ep0", "endpoint", "stream", None, 0, 0, True, True, {}, None)


def facts(times: list[int], blocked: set[int], error: int = 1) -> StreamFacts:
    refused = np.array([n in blocked for n in range(len(times))], dtype=bool)
    return StreamFacts(
        EP,
        0,
        (),
        np.arange(len(times)),
        np.array(times, dtype=np.int64),
        np.arange(1, len(times) + 1, dtype=np.int64),
        refused,
        np.where(refused, error, 0).astype(np.int64),
    )


def test_a_gap_runs_from_the_last_good_to_the_next_good_transaction() -> None:
    (gap,) = gaps(facts([0, 10, 20, 30, 40], {2, 3}), 5, 40)
    assert (gap.begin_ns, gap.end_ns, gap.blocked, gap.reasons, gap.first_blocked) == (10, 40, 2, 1, 2)


def test_a_gap_that_begins_before_the_span_is_whole() -> None:
    gap = gaps(facts([0, 10, 20, 30, 40], {1, 2}), 15, 40)[0]
    assert (gap.begin_ns, gap.end_ns, gap.blocked) == (0, 30, 2)


def test_a_gap_without_an_end_ends_with_the_span() -> None:
    (gap,) = gaps(facts([0, 10, 20, 30], {2, 3}), 5, 100)
    assert (gap.begin_ns, gap.end_ns, gap.blocked) == (10, 100, 2)


def test_a_stream_that_was_refused_from_the_start_is_one_gap() -> None:
    (gap,) = gaps(facts([10, 20], {0, 1}), 5, 30)
    assert (gap.begin_ns, gap.end_ns, gap.blocked) == (5, 30, 2)


def test_the_longest_silence_is_listed_without_any_refusal() -> None:
    (gap,) = gaps(facts([0, 10, 20, 50, 60], set()), 0, 60)
    assert (gap.begin_ns, gap.end_ns, gap.blocked) == (20, 50, 0)


def test_every_refusal_is_listed_longest_gap_first() -> None:
    found = gaps(facts([0, 10, 20, 30, 40, 50, 60], {1, 4, 5}), 0, 60)
    assert [(gap.begin_ns, gap.end_ns, gap.blocked) for gap in found] == [(30, 60, 2), (0, 20, 1)]
