# SPDX-License-Identifier: MIT
"""The server process: every endpoint of an experiment, each in a thread, and the reference stream.

It lives as long as its standard input stays open. numpy is not imported: starting must be quick.
"""

import contextlib
import json
import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydev.endpoints import load
from pydev.errors import PydevError
from qemu_plugin.errors import UsageError
from qemu_plugin.native._core import lib
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.native.stream import ReferenceStream
from qemu_plugin.server.endpoint_server import EndpointServer
from qemu_plugin.server.specification import Specification, read_specification

SWITCH_INTERVAL_S: Final = 50e-6
"""A model's answer waits this long at most for another Python thread; the default is 5 ms."""
PREFAULT_PERIOD_MS: Final = 20


def main(arguments: list[str]) -> int:
    """Run until standard input ends or SIGTERM or SIGINT arrives; returns the exit status."""
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    lib.process_die_with_parent()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if len(arguments) != 1:
        print("usage: python -m qemu_plugin.server SPECIFICATION.json", file=sys.stderr)
        return 2
    try:
        with termination() as ended:
            serve(read_specification(Path(arguments[0])), ended)
    except (UsageError, PydevError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def termination() -> Iterator[int]:
    """A file descriptor that becomes readable when SIGTERM or SIGINT arrives, in whatever thread."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    previous = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)


def serve(specification: Specification, ended: int) -> None:
    """Serve until standard input ends or `ended` is readable; everything is stopped when this returns."""
    path = specification.recording
    recording = None if path is None else RecordingWriter.attach(path)
    with contextlib.ExitStack() as running:
        for endpoint in specification.endpoints:
            function = load(endpoint.model).build(endpoint.options)
            server = EndpointServer(
                function, endpoint.socket, recording=recording, function_index=endpoint.index
            )
            running.enter_context(server)
        if recording is not None:
            reference = ReferenceStream(recording, specification.reference_period_us * 1000)
            reference.start()
            running.callback(reference.stop)
        listening = [str(endpoint.socket) for endpoint in specification.endpoints]
        print(json.dumps({"listening": listening}), flush=True)
        _wait(ended, recording)


def _wait(ended: int, recording: RecordingWriter | None) -> None:
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    poll.register(ended, select.POLLIN)
    while True:
        for fd, _ in poll.poll(PREFAULT_PERIOD_MS):
            if fd == ended or not os.read(fd, 4096):
                return
        if recording is not None:
            recording.prefault()
