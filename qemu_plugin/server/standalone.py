# SPDX-License-Identifier: MIT
"""One endpoint for any vfio-user client, until SIGINT or SIGTERM: what `luscope serve` runs."""

import platform
import select
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pydev.endpoints import load
from pydev.pci import Function
from qemu_plugin.errors import UsageError
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.server.endpoint_server import EndpointServer
from qemu_plugin.server.process import termination

RESERVE_PERIOD_MS: Final = 20


def serve_endpoint(spec: str, socket_path: Path, record: Path | None, announce: Callable[[str], None]) -> int:
    """Serve the endpoint that `spec` names at `socket_path`; returns 0 when it was told to end.

    With `record`, every event goes to that file, which is whole when this returns. `announce` is told when
    clients may connect. UsageError where the socket or the file cannot be made; PydevError for a bad endpoint.
    """
    function = load(spec)()
    recording = _create(record, spec, function) if record is not None else None
    try:
        with termination() as ended, EndpointServer(function, socket_path, recording=recording):
            announce(f"{spec} listens at {socket_path}; Ctrl-C ends it")
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            while not poll.poll(RESERVE_PERIOD_MS if recording is not None else None):
                if recording is not None:
                    recording.reserve()
    finally:
        if recording is not None:
            trailer = recording.close({"incomplete": ["no machine: a server recorded alone"]})
            announce(f"{record}: {trailer['events']} events, {trailer['dropped']} dropped")
    return 0


def _create(path: Path, spec: str, function: Function) -> RecordingWriter:
    if path.exists():
        raise UsageError(f"{path} exists: a recording never overwrites another file")
    entry: dict[str, Any] = {
        **function.describe(),
        "index": 0,
        "id": "ep0",
        "role": "endpoint",
        "model": spec,
        "parent": None,
        "devfn": 0,
        "bus": 0,
        "preserve": False,
    }
    header = {
        "schema": 1,
        "luscope": version("luscope"),
        "started_ns": time.monotonic_ns(),
        "functions": [entry],
        "experiment": {"name": f"serve {spec}"},
        "host": {"system": platform.release(), "machine": platform.machine()},
    }
    try:
        return RecordingWriter.create(path, header)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
