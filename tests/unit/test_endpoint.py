# SPDX-License-Identifier: MIT
import pytest

from pydev.endpoint import Endpoint, on_read, on_write
from pydev.endpoints.stream import StreamEndpoint
from pydev.errors import DeclarationError
from pydev.pci import Bar, Identity
from pydev.registers import Access, Field, Register, Write
from pydev.testkit import Bench


class Delay(Register, offset=0x00):
    ns = Field(0, 32)


class Done(Register, offset=0x04):
    times = Field(0, 32, access=Access.RO)


class Now(Register, offset=0x08, width=8):
    ns = Field(0, 64, access=Access.RO)


class Elsewhere(Register, offset=0x0C):
    pass


class Slow(Endpoint):
    identity = Identity(vendor_id=0x1DE5, device_id=1)
    bars = (Bar(0, size_bytes=0x100, registers=(Delay, Done, Now)),)

    @on_write(Delay)
    def delay_written(self, write: Write) -> None:
        self.call_later(Delay(write.after).ns, self.finish)

    def finish(self) -> None:
        self.regions[0].set(Done.times, self.regions[0].get(Done.times) + 1)

    @on_read(Now)
    def now(self, index: int) -> int:
        return self.clock.now_ns()


def test_a_timer_calls_back_when_its_time_has_come() -> None:
    bench = Bench(Slow())
    bench.write(Delay, 100)

    bench.time.advance(99)
    assert bench.read(Done) == 0
    bench.time.advance(1)
    assert bench.read(Done) == 1


def test_a_reset_cancels_every_timer() -> None:
    bench = Bench(Slow())
    bench.write(Delay, 100)

    bench.function_level_reset()
    bench.time.advance(200)

    assert bench.read(Done) == 0
    assert bench.time.timers_count == 0


def test_a_method_decides_what_a_read_gives() -> None:
    bench = Bench(Slow())
    bench.time.advance(123)

    assert bench.read(Now) == bench.time.now_ns()


def test_a_subclass_may_override_what_a_write_does() -> None:
    class Quick(Slow):
        @on_write(Delay)
        def delay_written(self, write: Write) -> None:
            self.finish()

    bench = Bench(Quick())
    bench.write(Delay, 100)

    assert bench.read(Done) == 1


def test_deciding_a_register_that_is_nowhere_is_refused() -> None:
    class Wrong(Slow):
        @on_write(Elsewhere)
        def never(self, write: Write) -> None: ...

    with pytest.raises(DeclarationError, match="Wrong decides ELSEWHERE, which is in none of its BARs"):
        Wrong()


def test_an_endpoint_without_identity_is_refused() -> None:
    class Nobody(Endpoint):
        pass

    with pytest.raises(DeclarationError, match="Nobody declares no identity"):
        Nobody()


def test_needing_a_clock_without_one_says_so() -> None:
    bench = Bench(Slow())
    slow = Slow()
    slow.connect(bench.port)

    with pytest.raises(DeclarationError, match="Slow needs a clock"):
        slow.region_read(0, 8, 8)
    with pytest.raises(DeclarationError, match="Slow needs a scheduler"):
        slow.region_write(0, 0, 4, 1)


def test_options_reach_the_function() -> None:
    endpoint = StreamEndpoint.build({"no_soft_reset": True, "serial_number": 5})

    assert set(endpoint.capability_offsets) == {"PM", "MSIX", "EXP", "AER", "ACS", "DSN"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 1}, "Slow has no option 'speed'; it has no_soft_reset, serial_number"),
        ({"serial_number": "x"}, "Slow: option serial_number is 'x', which is no int"),
        ({"no_soft_reset": 1}, "Slow: option no_soft_reset is 1, which is no bool"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        Slow.build(options)
