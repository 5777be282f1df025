# SPDX-License-Identifier: MIT
"""QEMU's trace of config accesses: parsing, joining to CLOCK_MONOTONIC, naming the function by its bus path.

The trace is the only witness of bridges that works with any accelerator. Its lines are UTC microseconds
(`-msg timestamp=on`), one per access that a guest makes; QEMU's own accesses have none.
"""

import calendar
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TRACE_OPTIONS: Final = ("-trace", "pci_cfg_*", "-msg", "timestamp=on")

# QEMU hw/pci/trace-events: pci_cfg_read, pci_cfg_write; an absent function's type name is "empty".
_LINE: Final = re.compile(
    rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{6})Z pci_cfg_(read|write) (\S+) "
    rb"([0-9a-f]{2}):([0-9a-f]{2})\.([0-7]) @0x([0-9a-f]+) (?:->|<-) 0x([0-9a-f]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class ConfigAccess:
    """One line of the trace: a guest's access to the config space of one function, of unknown width."""

    realtime_ns: int
    """CLOCK_REALTIME in ns, as precise as QEMU prints it (microseconds)."""
    is_write: bool
    device: str
    """QEMU's type name, not its id."""
    bdf: int
    offset: int
    value: int
    is_absent: bool
    """No function answered."""


class Clock:
    """Turns the trace's stamps into numbers; a second's text is read once."""

    def __init__(self) -> None:
        self._text = b""
        self._second_ns = 0

    def realtime_ns(self, stamp: bytes, micros: bytes) -> int:
        """CLOCK_REALTIME in ns of `YYYY-mm-ddTHH:MM:SS` (UTC) and six digits."""
        if stamp != self._text:
            self._text = stamp
            moment = time.strptime(stamp.decode(), "%Y-%m-%dT%H:%M:%S")
            self._second_ns = calendar.timegm(moment) * 1_000_000_000
        return self._second_ns + int(micros) * 1000


def parse(text: bytes) -> Iterator[ConfigAccess]:
    """The config accesses among the lines of `text`; other lines (QEMU's warnings) are passed over."""
    clock = Clock()
    for match in _LINE.finditer(text):
        stamp, micros, verb, device, bus, slot, function, offset, value = match.groups()
        yield ConfigAccess(
            realtime_ns=clock.realtime_ns(stamp, micros),
            is_write=verb == b"write",
            device=device.decode(errors="replace"),
            bdf=int(bus, 16) << 8 | int(slot, 16) << 3 | int(function),
            offset=int(offset, 16),
            value=int(value, 16),
            is_absent=device == b"empty",
        )


def realtime_minus_monotonic_ns() -> int:
    """The difference of the two clocks, from the tightest of several readings (error below a microsecond)."""
    best: tuple[int, int] | None = None
    for _ in range(16):
        before = time.monotonic_ns()
        realtime = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = (after - before, realtime - (before + after) // 2)
    assert best is not None
    return best[1]
