# SPDX-License-Identifier: MIT
from pydev.testkit import ManualTime


def test_timers_run_in_the_order_of_their_due_times() -> None:
    time, order = ManualTime(0), list[tuple[str, int]]()
    time.call_later(20, lambda: order.append(("late", time.now_ns())))
    time.call_later(10, lambda: order.append(("first", time.now_ns())))
    time.call_later(10, lambda: order.append(("second", time.now_ns())))

    time.advance(30)

    assert order == [("first", 10), ("second", 10), ("late", 20)]
    assert time.now_ns() == 30


def test_nothing_is_called_from_inside_call_later() -> None:
    time, called = ManualTime(), list[int]()

    time.call_later(0, lambda: called.append(1))
    assert called == []
    time.advance(0)
    assert called == [1]


def test_a_timer_set_by_a_timer_runs_in_the_same_move() -> None:
    time, ticks = ManualTime(0), list[int]()

    def tick() -> None:
        ticks.append(time.now_ns())
        time.call_later(10, tick)

    time.call_later(10, tick)
    time.advance(35)

    assert ticks == [10, 20, 30]


def test_a_cancelled_timer_is_not_called() -> None:
    time, called = ManualTime(), list[int]()
    timer = time.call_later(5, lambda: called.append(1))

    timer.cancel()
    time.advance(10)

    assert called == []
