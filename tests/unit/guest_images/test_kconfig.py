# SPDX-License-Identifier: MIT
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import guest_images
from guest_images import kconfig

values = st.one_of(st.sampled_from(["y", "m", "n"]), st.integers(-1, 99).map(str), st.just('"text"'))
symbols = st.dictionaries(st.from_regex(r"CONFIG_[A-Z0-9_]{1,8}", fullmatch=True), values, max_size=6)


def test_a_configuration_is_read_with_its_unset_symbols() -> None:
    text = '#\n# Generated\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="a=b"\nCONFIG_D=-1\n# end of A\n'
    assert kconfig.parse(text) == {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": '"a=b"', "CONFIG_D": "-1"}


@given(symbols)
def test_what_was_asked_for_and_got_is_not_refused(asked: dict[str, str]) -> None:
    assert kconfig.refused(asked, asked) == []
    written = "\n".join(f"{name}={value}" for name, value in asked.items())
    assert kconfig.parse(written) == asked


@given(asked=symbols, got=symbols)
def test_every_symbol_with_another_value_is_named(asked: dict[str, str], got: dict[str, str]) -> None:
    named = {line.split()[0] for line in kconfig.refused(asked, got)}
    assert named == {name for name, value in asked.items() if got.get(name, "n") != value}


def test_a_dropped_symbol_is_named_with_both_values() -> None:
    assert kconfig.refused({"CONFIG_LIVEUPDATE": "y"}, {}) == ["CONFIG_LIVEUPDATE is n, asked for y"]
    assert kconfig.refused({"CONFIG_VFIO": "y"}, {"CONFIG_VFIO": "m"}) == ["CONFIG_VFIO is m, asked for y"]


def test_a_symbol_that_is_asked_to_be_off_may_be_absent() -> None:
    assert kconfig.refused({"CONFIG_VT": "n"}, {}) == []


def test_the_shipped_fragment_asks_for_what_a_live_update_needs() -> None:
    asked = kconfig.parse((Path(guest_images.__file__).parent / "kernel" / "luo.config").read_text())
    for name in (
        "LIVEUPDATE",
        "LIVEUPDATE_MEMFD",
        "KEXEC_FILE",
        "KEXEC_HANDOVER",
        "PROC_PAGE_MONITOR",
        "DEVMEM",
    ):
        assert asked[f"CONFIG_{name}"] == "y"
    assert asked["CONFIG_STRICT_DEVMEM"] == "n"
    assert asked["CONFIG_RANDOMIZE_BASE"] == "n"  # System.map is the guest's layout
