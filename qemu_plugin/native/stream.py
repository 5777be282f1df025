# SPDX-License-Identifier: MIT
"""Stream programs and the reference stream: a Python thread that waits and transacts in C."""

import threading
from typing import Any, Final

from pydev.ports import StreamProgram, StreamStatus
from qemu_plugin.native._core import ffi, lib
from qemu_plugin.native.engine import Engine
from qemu_plugin.native.recording import RecordingWriter, check

REALTIME_PERIOD_NS: Final = 20_000
"""Shorter periods are waited for by spinning (stream.c SPIN_PERIOD_NS), which must not be real-time."""


class NativeStream:
    """A `pydev.ports.Stream` on an engine; one start, one stop."""

    def __init__(self, engine: Engine, program: StreamProgram) -> None:
        self._engine = engine
        self._program = program
        pages = ffi.new("uint64_t[]", [int(page) for page in program.pages])
        c_program = ffi.new(
            "struct stream_program *",
            {
                "pages": pages,
                "page_count": len(program.pages),
                "page_bytes": program.page_bytes,
                "slot_bytes": program.slot_bytes,
                "engine": program.engine,
                "period_ns": program.period_ns,
                "generation": program.generation,
                "interrupt_every": program.interrupt_every,
                "vector": program.vector,
                "has_mailbox": program.mailbox is not None,
                "mailbox": program.mailbox or 0,
                "first_sequence": program.first_sequence,
            },
        )
        out = ffi.new("stream **")
        check(lib.stream_create(engine.raw, c_program, out), f"stream of {len(program.pages)} pages")
        self._raw: Any = ffi.gc(out[0], lib.stream_destroy)
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._thread is not None and not self._is_stopped

    @property
    def is_alive(self) -> bool:
        """Whether its thread has still to be waited for, or to be started."""
        return self._thread is None or self._thread.is_alive()

    def start(self) -> None:
        """Begin: the first sequence is due now. RuntimeError if it was started before."""
        if self._thread is not None:
            raise RuntimeError("a stream is started once; a continuation is a new stream")
        check(lib.stream_start(self._raw), "starting a stream")
        self._thread = threading.Thread(target=self._run, name="luscope-stream", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if self._program.period_ns >= REALTIME_PERIOD_NS:
            lib.thread_prefer_realtime()
        lib.stream_run(self._raw)

    def stop(self) -> None:
        """End: after it returns, no transaction is under way and none follows."""
        lib.stream_stop(self._raw)
        self._is_stopped = True

    def join(self) -> None:
        """Wait until the thread is gone; after `stop`."""
        if self._thread is not None:
            self._thread.join()

    def status(self) -> StreamStatus:
        """Counts up to now; final after `stop`."""
        out = ffi.new("struct stream_status *")
        lib.stream_status(self._raw, out)
        return StreamStatus(
            out.next_sequence,
            out.written,
            out.blocked,
            out.interrupts,
            out.mailbox_value,
            out.lateness_max_ns,
        )


class ReferenceStream:
    """Ticks in the recording that no guest can affect: the bench's own lateness."""

    def __init__(self, recording: RecordingWriter, period_ns: int) -> None:
        out = ffi.new("reference **")
        check(lib.reference_create(recording.raw, period_ns, out), f"reference stream of {period_ns} ns")
        self._recording = recording
        self._raw: Any = ffi.gc(out[0], lib.reference_destroy)
        self._thread = threading.Thread(target=self._run, name="luscope-reference", daemon=True)

    def _run(self) -> None:
        lib.thread_prefer_realtime()
        lib.reference_run(self._raw)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until the thread is gone."""
        lib.reference_stop(self._raw)
        self._thread.join()
