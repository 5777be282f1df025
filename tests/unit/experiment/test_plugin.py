# SPDX-License-Identifier: MIT
"""Who says no to attribution is named, and the run goes on without it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from guest_images.kernel_image import KernelImage
from guest_images.testkit import RememberingProgress
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.plugin import UNKNOWN, KernelAddresses
from qemu_plugin.experiment import plugin, spec
from qemu_plugin.experiment.plugin import Plugin
from qemu_plugin.experiment.spec import Experiment, Guest
from qemu_plugin.machine.runtime import QemuRuntime

QEMU = QemuRuntime(("/q",), "11.1.3", None, "test")
KERNEL = KernelImage("luo", Path("/k/bzImage"), None, "7.3.4", None, {})
LIBRARY = Path("/plugin.so")
RANGES = {"pci_conf1_write": (1, 2), "machine_kexec": (5, 9)}


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that loads the plugin, and a kernel with two of the three names."""
    monkeypatch.setattr("qemu_plugin.attribution.plugin.library", lambda: LIBRARY)
    monkeypatch.setattr("qemu_plugin.machine.plugin_trial.refusal", lambda argv, library, progress: None)
    symbols = SimpleNamespace(address_range=RANGES.get)
    monkeypatch.setattr("qemu_plugin.experiment.plugin.load_symbols", lambda image, system_map: symbols)


def chosen(guest: Guest) -> Plugin:
    return plugin.choose(guest, QEMU, [KERNEL, KERNEL], RememberingProgress())


def test_the_plugin_is_told_of_each_kernel_once() -> None:
    found = chosen(Guest())
    assert found == Plugin(LIBRARY, None, (KernelAddresses((1, 2), (0, 0), 5),))
    assert found.option(Path("/r")) == "/plugin.so,recording=/r,kernel=1-2:0-0:5"


def test_a_kernel_without_names_is_told_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: Path, system_map: Path | None) -> None:
        raise AttributionError(f"{image}: no names")

    monkeypatch.setattr("qemu_plugin.experiment.plugin.load_symbols", refuse)
    assert chosen(Guest()).kernels == (UNKNOWN,)


@pytest.mark.parametrize(
    ("guest", "reason"),
    [
        (Guest(attribution=False), "switched off"),
        (Guest(accelerator="kvm"), "accelerator kvm: only TCG runs plugins"),
    ],
)
def test_a_guest_that_cannot_or_will_not_have_it_has_none(guest: Guest, reason: str) -> None:
    found = chosen(guest)
    assert (found.library, found.reason) == (None, reason)
    assert found.option(Path("/r")) is None


def test_a_qemu_that_does_not_load_it_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qemu_plugin.machine.plugin_trial.refusal", lambda *_: "no plugins here")
    assert chosen(Guest()).reason == "QEMU 11.1.3 does not load the plugin: no plugins here"


def test_an_installation_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qemu_plugin.attribution.plugin.library", lambda: None)
    assert "not compiled" in (chosen(Guest()).reason or "")


def test_the_command_line_can_only_take_attribution_away() -> None:
    def override(experiment: Experiment, *, attribution: bool) -> Experiment:
        return spec.override(experiment, kernel=None, next_kernel=None, policy=None, attribution=attribution)

    given = spec.load("live-update")
    assert given.guest.attribution
    assert override(given, attribution=True) == given
    without = override(given, attribution=False)
    assert without == replace(given, guest=replace(given.guest, attribution=False))
    assert override(without, attribution=True) == without
