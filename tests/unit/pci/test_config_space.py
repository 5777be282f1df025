# SPDX-License-Identifier: MIT
from itertools import pairwise

import pytest

from pydev.errors import DeclarationError
from pydev.pci import Bar, ConfigSpace, Identity, Msix, capability_offsets
from pydev.pci.acs import Acs
from pydev.pci.aer import Aer
from pydev.pci.capability import Capability
from pydev.pci.dsn import DeviceSerialNumber
from pydev.pci.express import Express
from pydev.pci.power_management import PowerManagement

IDENTITY = Identity(vendor_id=0x1DE5, device_id=0x1234, class_code=0x010802, revision_id=3)
ALL: list[Capability] = [
    PowerManagement(),
    Msix(vectors=4, table=(0, 0x2000), pba=(0, 0x3000)),
    Express(),
    Aer(),
    Acs(),
    DeviceSerialNumber(0x1122334455667788),
]


def image(capabilities: list[Capability] | None = None, bars: tuple[Bar, ...] = ()) -> bytes:
    return ConfigSpace(IDENTITY, bars, ALL if capabilities is None else capabilities).bank.power_on_image()


def test_the_identity_is_where_the_specification_puts_it() -> None:
    config = image()

    assert config[0:4] == bytes.fromhex("e51d3412")
    assert config[8:12] == bytes.fromhex("03020801")  # revision, interface, subclass, class
    assert config[0x2C:0x30] == config[0:4]


def test_command_is_zero_at_power_on() -> None:
    assert image()[4:6] == b"\0\0"


def test_every_capability_is_found_by_walking_the_chains() -> None:
    space = ConfigSpace(IDENTITY, (), ALL)

    assert capability_offsets(space.bank.power_on_image()) == space.offsets
    assert set(space.offsets) == {"PM", "MSIX", "EXP", "AER", "ACS", "DSN"}


def test_capabilities_do_not_touch_and_are_aligned() -> None:
    offsets = ConfigSpace(IDENTITY, (), ALL).offsets
    places = sorted((offsets[capability.name], capability.size_bytes) for capability in ALL)

    assert all(offset % 4 == 0 for offset, _ in places)
    assert all(a + size <= b for (a, size), (b, _) in pairwise(places))


def test_without_capabilities_the_status_says_so() -> None:
    config = image([])

    assert (config[0x34], config[6] & 0x10, config[0x100:0x104]) == (0, 0, bytes(4))
    assert image()[6] & 0x10 == 0x10


def test_the_same_capability_twice_is_refused() -> None:
    with pytest.raises(DeclarationError, match="the capability EXP is there twice"):
        image([Express(), Express()])


def test_too_many_capabilities_are_refused() -> None:
    class Huge(Capability):
        name = "HUGE"
        registers = ()
        size_bytes = 0xC4

    with pytest.raises(DeclarationError, match="the capabilities HUGE end at 0x104"):
        image([Huge()])


def test_a_chain_in_a_circle_ends() -> None:
    config = bytearray(256)
    config[0x34] = 0x40
    config[0x40:0x42] = bytes([0x01, 0x48])
    config[0x48:0x4A] = bytes([0x11, 0x40])

    assert capability_offsets(bytes(config)) == {"PM": 0x40, "MSIX": 0x48}


@pytest.mark.parametrize(
    ("bar", "low", "high"),
    [
        (Bar(0, size_bytes=0x4000), 0xFFFFC000, 0),
        (Bar(0, size_bytes=0x80), 0xFFFFFF80, 0),
        (Bar(0, size_bytes=1 << 20, is_64bit=True), 0xFFF00004, 0xFFFFFFFF),
        (Bar(0, size_bytes=1 << 33, is_64bit=True, is_prefetchable=True), 0x0000000C, 0xFFFFFFFE),
    ],
)
def test_writing_ones_to_a_bar_shows_its_size(bar: Bar, low: int, high: int) -> None:
    bank = ConfigSpace(IDENTITY, (bar,), []).bank

    bank.write(0x10, 4, 0xFFFFFFFF)
    bank.write(0x14, 4, 0xFFFFFFFF)

    assert (bank.read(0x10, 4), bank.read(0x14, 4)) == (low, high)


def test_a_bar_keeps_the_address_that_was_written() -> None:
    bank = ConfigSpace(IDENTITY, (Bar(2, size_bytes=0x4000),), []).bank

    bank.write(0x18, 4, 0xFEBF1234)

    assert bank.read(0x18, 4) == 0xFEBF0000


def test_the_rom_does_not_exist() -> None:
    bank = ConfigSpace(IDENTITY, (), []).bank

    bank.write(0x30, 4, 0xFFFFF800)

    assert bank.read(0x30, 4) == 0


def test_two_regions_in_one_bar_are_refused() -> None:
    bars = (Bar(0, size_bytes=0x1000, is_64bit=True), Bar(1, size_bytes=0x1000))

    with pytest.raises(DeclarationError, match="BAR1 and another region both use BAR1"):
        image([], bars)


def test_sizes_that_are_no_power_of_two_are_refused() -> None:
    with pytest.raises(DeclarationError, match="BAR0 of 0x1800 bytes: sizes are powers of two"):
        Bar(0, size_bytes=0x1800)
    with pytest.raises(DeclarationError, match="has to be 64-bit"):
        Bar(0, size_bytes=1 << 32)
