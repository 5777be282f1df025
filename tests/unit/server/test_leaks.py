# SPDX-License-Identifier: MIT
"""Clients come and go; nothing of theirs stays."""

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

from pydev.endpoints.stream import StreamEndpoint
from pydev.pci import Function
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client
from qemu_plugin.vfio_user.device import Irq

RECONNECTIONS = 1000
PAGE = 4096


DEADLINE_S = 10.0


def held() -> tuple[int, int, int]:
    """Open files, memory mappings of memfds, threads of this process."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    tasks = len(list(Path("/proc/self/task").iterdir()))
    return len(list(Path("/proc/self/fd").iterdir())), maps.count("/memfd:ram"), tasks


def assert_held_again(before: tuple[int, int, int]) -> None:
    """The kernel takes its time to bury a joined thread: wait for it, not for ever."""
    turn = threading.Event()
    for _ in range(int(DEADLINE_S / 0.01)):
        if held() == before:
            return
        turn.wait(0.01)
    assert held() == before


def session(server: EndpointServer, ram: int, *, streams: bool) -> None:
    eventfd = os.eventfd(0)
    with Client(server.socket_path) as client:
        client.dma_map(0, 16 * PAGE, ram)
        client.dma_map(0x1000_0000, PAGE, ram)
        client.set_eventfds(Irq.MSIX, 0, [eventfd, eventfd])
        client.write(7, 4, 6, 2)
        if streams:
            client.write(0, 0x14, 1)
            client.write(0, 0x08, 1)
            client.write(0, 0x08, 0)
    os.close(eventfd)


def test_a_thousand_clients_leave_neither_files_nor_mappings_nor_threads(
    server: EndpointServer, ram: int
) -> None:
    session(server, ram, streams=False)
    with Client(server.socket_path) as client:
        client.read(0, 0)
        before = held()

    for number in range(RECONNECTIONS):
        session(server, ram, streams=number % 50 == 0)

    with Client(server.socket_path) as client:
        client.read(0, 0)
        server.port.close()
        counts = server.engine.counts()
        assert_held_again(before)
        assert (counts.ranges, counts.files, counts.eventfds) == (0, 0, 0)


def test_a_stopped_server_leaves_nothing_and_its_socket_is_gone(
    serve: Callable[[Function], EndpointServer], ram: int
) -> None:
    settled = serve(StreamEndpoint())
    session(settled, ram, streams=True)
    settled.stop()
    before = held()
    for _ in range(20):
        server = serve(StreamEndpoint())
        session(server, ram, streams=True)
        server.stop()
        assert not server.socket_path.exists()
    assert held() == before
