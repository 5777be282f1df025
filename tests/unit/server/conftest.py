# SPDX-License-Identifier: MIT
"""A recording, servers on it, clients of them, and guest RAM; all of it real."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from pydev.endpoints.stream import StreamEndpoint
from pydev.pci import Function
from pydev.recording.format import Kind
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client

RAM_BYTES = 1 << 20


@pytest.fixture
def recording(tmp_path: Path) -> RecordingWriter:
    return RecordingWriter.create(tmp_path / "r.lus", {"schema": 1}, capacity=1 << 20, extent=1 << 16)


@pytest.fixture
def events(recording: RecordingWriter) -> Callable[[Kind], npt.NDArray[Any]]:
    def of_kind(kind: Kind) -> npt.NDArray[Any]:
        records = recording.view(0, recording.head)
        found: npt.NDArray[Any] = records[records["kind"] == kind].copy()
        return found

    return of_kind


@pytest.fixture
def serve(tmp_path: Path, recording: RecordingWriter) -> Iterator[Callable[[Function], EndpointServer]]:
    servers: list[EndpointServer] = []

    def start(function: Function) -> EndpointServer:
        path = tmp_path / "s" / f"ep{len(servers)}.sock"
        server = EndpointServer(function, path, recording=recording, function_index=len(servers))
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def endpoint() -> StreamEndpoint:
    return StreamEndpoint()


@pytest.fixture
def server(serve: Callable[[Function], EndpointServer], endpoint: StreamEndpoint) -> EndpointServer:
    return serve(endpoint)


@pytest.fixture
def client(server: EndpointServer) -> Iterator[Client]:
    with Client(server.socket_path) as client:
        yield client


@pytest.fixture
def ram() -> Iterator[int]:
    """Guest RAM as QEMU gives it: a memfd sealed against shrinking."""
    fd = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, RAM_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    yield fd
    os.close(fd)
