# SPDX-License-Identifier: MIT
"""Fixtures for pytest-asyncio tests of endpoints, machines and whole live updates (entry point `luscope`).

    @pytest.mark.asyncio
    async def test_my_kernel_keeps_dma_alive(live_update):
        async with live_update("unpatched", kernel="path/to/bzImage") as run:
            await run.phase("prepared")
            await run.qmp("query-pci")
            verdict = await run.finish()
        assert verdict.outcome == "PASS"

Heavy parts are imported when a fixture is used: a test session that uses none pays nothing.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from pydev.pci import Function
    from qemu_plugin.experiment.runner import LiveUpdate
    from qemu_plugin.experiment.spec import Experiment
    from qemu_plugin.server import EndpointServer


class LiveUpdateFactory(Protocol):
    """What the fixture `live_update` gives."""

    def __call__(
        self,
        experiment: str | Path | Experiment = ...,
        *,
        kernel: str | None = ...,
        next_kernel: str | None = ...,
        policy: str | None = ...,
        out: Path | None = ...,
    ) -> AbstractAsyncContextManager[LiveUpdate]:
        """A live update under way, when entered."""


class EndpointServerFactory(Protocol):
    """What the fixture `endpoint_server` gives."""

    def __call__(self, function: Function, /) -> EndpointServer:
        """A server of this endpoint, listening."""


@pytest.fixture
def live_update(tmp_path: Path) -> LiveUpdateFactory:
    """A function that starts an experiment: its name, its file, or an `Experiment`.

    Entered, it gives a `LiveUpdate`: `await run.phase(NAME)` holds the guest there, `run.qmp(...)` and
    `run.agent(...)` act, `await run.finish()` gives the verdict. The run's directory is below `tmp_path`
    unless `out` says otherwise. On exit no process, socket or folder is left.
    """
    return _factory(tmp_path)


def _factory(tmp_path: Path) -> LiveUpdateFactory:
    from guest_images.progress import PlainProgress
    from qemu_plugin.experiment import runner, spec
    from qemu_plugin.experiment.images import prepare

    count = 0

    @asynccontextmanager
    async def start(
        experiment: str | Path | Experiment = "unpatched",
        *,
        kernel: str | None = None,
        next_kernel: str | None = None,
        policy: str | None = None,
        out: Path | None = None,
    ) -> AsyncIterator[LiveUpdate]:
        nonlocal count
        count += 1
        loaded = experiment if isinstance(experiment, spec.Experiment) else spec.load(str(experiment))
        wanted = spec.override(loaded, kernel=kernel, next_kernel=next_kernel, policy=policy)
        images = prepare(wanted.guest, PlainProgress())
        async with runner.live_update(wanted, images, out=out or tmp_path / f"run-{count}") as update:
            yield update

    return start


@pytest.fixture
def machine(live_update: LiveUpdateFactory) -> LiveUpdateFactory:
    """As `live_update`, but the guest is booted and held in normal operation when entered.

    For tests that want a running machine with QMP and an agent, and no update.
    """

    @asynccontextmanager
    async def boot(experiment: Any = "unpatched", **choices: Any) -> AsyncIterator[LiveUpdate]:
        async with live_update(experiment, **choices) as update:
            await update.phase("normal")
            yield update

    return boot


@pytest.fixture
def endpoint_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EndpointServerFactory]:
    """A function that serves an endpoint to any vfio-user client; what it started ends with the test.

    `server.socket_path` is where to connect.
    """
    from qemu_plugin.server import EndpointServer

    servers: list[EndpointServer] = []

    def serve(function: Function) -> EndpointServer:
        folder = tmp_path_factory.mktemp("vfio-user")
        folder.chmod(0o700)
        server = EndpointServer(function, folder / "endpoint.sock", recording=None)
        server.start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.stop()
