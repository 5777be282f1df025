# SPDX-License-Identifier: MIT
"""The real link upstream: `pydev.ports.UpstreamPort` on a C engine."""

from pydev.ports import Gate, ResetKind, Stream, StreamProgram
from pydev.units import Iova
from qemu_plugin.native.engine import Engine
from qemu_plugin.native.stream import NativeStream


class NativePort:
    """What a model's port calls come to: engine calls, each judged and recorded under the engine's lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams: list[NativeStream] = []

    def dma_read(self, iova: Iova, size_bytes: int) -> bytes | None:
        """Guest memory, or None where the gate or the mappings refuse."""
        return self._engine.dma_read(iova, size_bytes)

    def dma_write(self, iova: Iova, data: bytes) -> bool:
        """Write guest memory; False where the gate or the mappings refuse."""
        return self._engine.dma_write(iova, data)

    def raise_interrupt(self, vector: int) -> bool:
        """Signal a vector; False where no message went out: lost, or pending."""
        return self._engine.raise_interrupt(vector)

    def set_gate(self, gate: Gate) -> None:
        """Judge every transaction from now on by this hardware state."""
        self._engine.set_gate(int(gate))

    def note_reset(self, kind: ResetKind) -> None:
        """Record that the function resets itself, or is reset."""
        self._engine.note_reset(int(kind))

    def stream(self, program: StreamProgram) -> Stream:
        """A stream of this program; OSError with EINVAL where the program is none."""
        stream = NativeStream(self._engine, program)
        self._streams = [s for s in self._streams if s.is_alive]
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Stop every stream that is left and wait until its thread is gone."""
        for stream in self._streams:
            stream.stop()
        for stream in self._streams:
            stream.join()
        self._streams.clear()
