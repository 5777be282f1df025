# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

import guest_images
from guest_images import debian, pins
from guest_images.pins import Suites

SUITES = Suites("trixie", "trixie-backports", ("bullseye", "bookworm"))
PINNED = ("trixie", "trixie-backports")


@pytest.mark.parametrize("codename", ["bullseye", "bookworm"])
def test_an_older_host_borrows_the_pinned_suites(codename: str) -> None:
    assert list(SUITES.for_host(codename, [codename, f"{codename}-updates"])) == [PINNED]


def test_a_host_of_the_base_release_uses_its_own_suite_with_backports() -> None:
    assert list(SUITES.for_host("trixie", ["trixie", "trixie-updates"])) == [PINNED]


def test_a_newer_host_uses_its_own_suite_before_the_pinned_ones() -> None:
    assert list(SUITES.for_host("forky", ["forky", "forky-updates"])) == [("forky",), PINNED]


def test_a_host_that_follows_sid_uses_sid() -> None:
    assert list(SUITES.for_host("forky", ["sid"])) == [("sid",), PINNED]


def test_a_host_whose_mirror_names_no_suite_uses_the_pinned_ones() -> None:
    assert list(SUITES.for_host("noble", [])) == [PINNED]


def test_every_range_of_the_shipped_pins_holds_something() -> None:
    every = [pins.package("qemu"), pins.package("busybox"), *map(pins.kernel, pins.kernel_names())]
    for pin in every:
        assert pin.below is None or debian.compare(pin.at_least, "lt", pin.below)
        assert pin.room_mib > 0


def test_the_ranges_take_what_they_were_made_for_and_nothing_beside_it() -> None:
    luo, qemu = pins.kernel("luo"), pins.package("qemu")
    assert luo.below is not None
    for version, is_wanted in {
        "7.3": True,
        "7.3.4": True,
        "7.3.99": True,
        "7.4": False,
        "7.4~rc1": False,
    }.items():
        in_range = debian.compare(version, "ge", luo.at_least) and debian.compare(version, "lt", luo.below)
        assert in_range == is_wanted, version
    assert debian.compare("10.1.0+ds", "ge", qemu.at_least)
    assert not debian.compare("10.0.13+ds", "ge", qemu.at_least)


def test_every_fragment_that_a_kernel_names_is_shipped() -> None:
    folder = Path(guest_images.__file__).parent / "kernel"
    for name in pins.kernel_names():
        for fragment in pins.kernel(name).fragments:
            assert (folder / fragment).is_file()
