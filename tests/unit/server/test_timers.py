# SPDX-License-Identifier: MIT
"""A model's timers run on the server, one after another, never beside an access of the guest's."""

import threading

from pydev.endpoint import Endpoint, on_write
from pydev.pci import Bar, Identity
from pydev.registers import Field, Register, Write
from qemu_plugin.pytest_plugin import EndpointServerFactory
from qemu_plugin.server.timers import Timers
from qemu_plugin.vfio_user.client import Client

WAIT_S = 30
MS = 1_000_000


class Delay(Register, offset=0x00):
    """Starts a timer of so many microseconds."""

    us = Field(0, 32)


class Fired(Register, offset=0x04):
    """How many have run out."""

    timers = Field(0, 32)


class Alarm(Endpoint):
    """Counts the timers that have run out."""

    identity = Identity(vendor_id=0x1DE5, device_id=0x4C03)
    bars = (Bar(0, size_bytes=0x1000, registers=(Delay, Fired)),)

    @on_write(Delay)
    def start(self, write: Write) -> None:
        self.call_later(write.written * 1000, self.fire)

    def fire(self) -> None:
        bar = self.regions[0]
        bar.set(Fired.timers, bar.get(Fired.timers) + 1)
        fired.set()


fired = threading.Event()


def test_a_timer_of_a_served_model_runs_out(endpoint_server: EndpointServerFactory) -> None:
    fired.clear()
    with Client(endpoint_server(Alarm()).socket_path) as client:
        client.write(0, 0x00, 100, 4)
        assert fired.wait(WAIT_S)
        assert client.read(0, 0x04, 4) == 1


def test_timers_run_in_the_order_of_their_times_whenever_they_were_set() -> None:
    timers = Timers(threading.RLock())
    order: list[str] = []
    done = threading.Event()
    timers.call_later(30 * MS, done.set)
    timers.call_later(20 * MS, lambda: order.append("second"))
    timers.call_later(10 * MS, lambda: order.append("first"))
    assert done.wait(WAIT_S)
    assert order == ["first", "second"]
    timers.close()


def test_a_cancelled_timer_is_not_called_and_one_that_fails_stops_no_other() -> None:
    timers = Timers(threading.RLock())
    order: list[str] = []
    done = threading.Event()
    timers.call_later(10 * MS, lambda: order.append("cancelled")).cancel()
    timers.call_later(10 * MS, lambda: [][0])
    timers.call_later(20 * MS, done.set)
    assert done.wait(WAIT_S)
    assert order == []
    timers.close()


def test_a_timer_waits_for_the_model_to_be_free() -> None:
    lock = threading.RLock()
    timers = Timers(lock)
    done = threading.Event()
    with lock:
        timers.call_later(0, done.set)
        assert not done.wait(0.05)
    assert done.wait(WAIT_S)
    timers.close()


def test_after_closing_nothing_is_called() -> None:
    timers = Timers(threading.RLock())
    called = threading.Event()
    timers.call_later(1000 * MS, called.set)
    timers.close()
    timers.call_later(0, called.set)
    assert not called.wait(0.05)
