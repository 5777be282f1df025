# SPDX-License-Identifier: MIT
"""The C engine of one function, as Python sees it: thin, and no policy.

The five buffers of each region are this module's, and the engine and the register bank both work on them.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from qemu_plugin.native._core import ffi, lib
from qemu_plugin.native.recording import RecordingWriter, check

SERVE_ACCESS: Final[int] = lib.SERVE_ACCESS
SERVE_RESET: Final[int] = lib.SERVE_RESET
SERVE_VERSION: Final[int] = lib.SERVE_VERSION

BANK_SLACK_BYTES: Final = 8
"""struct bank: loads of up to 8 bytes may pass a region's end."""


class Bindable(Protocol):
    """What of a register bank the engine needs: to work on memory that C reads too."""

    size: int
    declared_bytes: int

    def rebind(
        self,
        image: memoryview,
        writable: memoryview,
        write_one_clear: memoryview,
        trap_read: memoryview,
        trap_write: memoryview,
    ) -> None:
        """Copy the contents into these buffers of `size` bytes and use them from now on."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an engine holds at a moment."""

    ranges: int
    files: int
    eventfds: int
    gate: int
    interrupts: int


class Engine:
    """One function's engine; released when nothing refers to it any more.

    `raw` and `request` are for the serving thread, which calls `lib.engine_*` directly: each access that
    Python decides costs one call.
    """

    def __init__(
        self, recording: RecordingWriter | None, function_index: int, *, msix_vectors: int, intx_lines: int
    ) -> None:
        out = ffi.new("engine **")
        raw_recording = ffi.NULL if recording is None else recording.raw
        result = lib.engine_create(raw_recording, function_index, msix_vectors, intx_lines, out)
        check(result, f"engine of function {function_index} with {msix_vectors} MSI-X vectors")
        self.recording = recording
        self.raw = ffi.gc(out[0], lib.engine_destroy)
        self.request = lib.engine_request(self.raw)
        self.request_bytes = memoryview(ffi.buffer(self.request))
        self._storage: list[Any] = []

    def bind(self, region: int, bank: Bindable) -> None:
        """Serve `region` from memory shared with `bank`."""
        storage = [ffi.new("uint8_t[]", bank.size + BANK_SLACK_BYTES) for _ in range(5)]
        bank.rebind(*(memoryview(ffi.buffer(buffer, bank.size)) for buffer in storage))
        c_bank = ffi.new("struct bank *", [bank.size, bank.declared_bytes, *storage])
        check(lib.engine_region(self.raw, region, c_bank), f"region {region} of {bank.size} bytes")
        self._storage.extend(storage)

    def set_pending_bits(self, region: int, offset: int) -> None:
        """Say where the guest reads the MSI-X pending bits; the region is bound already."""
        check(lib.engine_pba(self.raw, region, offset), f"pending bits at {offset:#x} of region {region}")

    def counts(self) -> Counts:
        """What the engine holds now."""
        out = ffi.new("struct engine_counts *")
        lib.engine_counts(self.raw, out)
        return Counts(out.ranges, out.files, out.eventfds, out.gate, out.interrupts)

    def data(self) -> bytes:
        """The bytes of the message that waits for an answer."""
        return bytes(ffi.buffer(self.request.data, self.request.size))

    def dma_read(self, iova: int, size_bytes: int) -> bytes | None:
        """Guest memory, or None where the gate or the mappings refuse."""
        data = bytearray(size_bytes)
        with ffi.from_buffer("uint8_t[]", data) as pointer:
            refused = lib.engine_dma_read(self.raw, iova, pointer, size_bytes)
        return None if refused else bytes(data)

    def dma_write(self, iova: int, data: bytes) -> bool:
        """Write guest memory; False where the gate or the mappings refuse."""
        return bool(lib.engine_dma_write(self.raw, iova, data, len(data)) == 0)

    def raise_interrupt(self, vector: int) -> bool:
        """Signal a vector; False where no message went out."""
        return bool(lib.engine_raise(self.raw, vector) == 0)

    def set_gate(self, gate: int) -> None:
        """Change the model's part of the gate, under the engine's lock."""
        lib.engine_set_gate(self.raw, gate)

    def note_reset(self, kind: int) -> None:
        """Record a reset, behind the access that causes it if one is under way."""
        lib.engine_note_reset(self.raw, kind)
