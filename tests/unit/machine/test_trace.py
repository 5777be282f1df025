# SPDX-License-Identifier: MIT
"""QEMU's trace is parsed line by line; what is no config access is passed over."""

import time

from hypothesis import given
from hypothesis import strategies as st

from qemu_plugin.machine.trace import parse, realtime_minus_monotonic_ns

# As QEMU 11.1 prints them.
LINES = b"""\
2026-11-20T13:16:22.328560Z pci_cfg_read mch 00:00.0 @0x0 -> 0x29c08086
2026-11-20T13:16:22.344189Z pci_cfg_read empty 00:01.0 @0x0 -> 0xffffffff
2026-11-20T13:16:27.289565Z qemu-system-x86_64: terminating on signal 15 from pid 6217 (timeout)
2026-11-20T13:16:22.344223Z pci_cfg_write pcie-root-port 00:02.0 @0x19 <- 0xff
"""


def test_reads_writes_and_absent_functions_are_told_apart() -> None:
    read, absent, write = parse(LINES)
    assert (read.device, read.bdf, read.offset, read.value) == ("mch", 0, 0, 0x29C08086)
    assert absent.is_absent
    assert not read.is_absent
    assert write.is_write
    assert (write.bdf, write.offset, write.value) == (2 << 3, 0x19, 0xFF)


def test_the_stamp_is_utc_to_the_microsecond() -> None:
    first = next(parse(LINES))
    assert first.realtime_ns == 1795180582_328560_000


def test_an_unfinished_last_line_is_not_taken_for_an_access() -> None:
    assert len(list(parse(LINES[: LINES.rindex(b"<-")]))) == 2


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_the_parser_fail(text: bytes) -> None:
    assert list(parse(text)) == []


def test_the_difference_of_the_clocks_is_that_of_now() -> None:
    before = time.time_ns() - time.monotonic_ns()
    assert abs(realtime_minus_monotonic_ns() - before) < 10_000_000
