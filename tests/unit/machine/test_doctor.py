# SPDX-License-Identifier: MIT
from pathlib import Path
from types import SimpleNamespace

import pytest

from guest_images.errors import ImageError
from guest_images.kernel_image import KernelImage
from guest_images.testkit import RememberingProgress
from qemu_plugin.errors import UsageError
from qemu_plugin.machine import doctor
from qemu_plugin.machine.doctor import Check
from qemu_plugin.machine.runtime import QemuRuntime

QEMU = QemuRuntime(("/q",), "11.1.3", "1:11.1.3", "cache: /c")


def kernel(name: str) -> KernelImage:
    return KernelImage(name, Path(f"/c/{name}/bzImage"), None, f"release-of-{name}", None, {})


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which everything is there; no test here reads the user's cache or starts QEMU."""
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LUSCOPE_LINUX_SOURCE", raising=False)
    monkeypatch.setattr("qemu_plugin.machine.runtime.find", lambda: QEMU)
    monkeypatch.setattr("qemu_plugin.machine.runtime.probe", lambda argv, origin: QEMU)
    monkeypatch.setattr("qemu_plugin.machine.plugin_trial.attempt", lambda argv, plugin: None)
    monkeypatch.setattr("guest_images.build.cached_kernel", kernel)
    monkeypatch.setattr("guest_images.build.cached_initramfs", lambda: Path("/c/initramfs.cpio"))
    monkeypatch.setattr("guest_images.build_tools.missing", lambda needs: [])
    monkeypatch.setattr(
        "guest_images.apt_sources.mirror", lambda: SimpleNamespace(shown="http://mirror.example/debian")
    )
    monkeypatch.setattr(doctor, "_KVM_DEVICE", tmp_path / "no-kvm")


def by_name() -> dict[str, Check]:
    return {check.name: check for check in doctor.checks()}


def test_a_machine_with_everything_is_well() -> None:
    checks = by_name()
    checks.pop("C core")  # says how this checkout was installed
    assert [check.name for check in checks.values() if not check.ok] == []
    assert "11.1.3 (cache: /c)" in checks["QEMU"].detail
    assert "release-of-luo" in checks["kernel luo"].detail
    assert "release-of-debian" in checks["kernel debian"].detail
    assert "http://mirror.example/debian" in checks["apt"].detail


def test_every_check_that_is_not_ok_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qemu_plugin.machine.runtime.find", lambda: None)
    monkeypatch.setattr("guest_images.build.cached_kernel", lambda name: None)
    monkeypatch.setattr("guest_images.build.cached_initramfs", lambda: None)
    monkeypatch.setattr("guest_images.build_tools.missing", list)
    bad = {name: check for name, check in by_name().items() if not check.ok}
    assert set(bad) - {"C core"} == {
        "compiler",
        "kernel build tools",
        "QEMU",
        "vfio-user-pci",
        "kernel luo",
        "kernel luo-pci",
        "kernel debian",
        "agent and initial file system",
    }
    assert all(check.remedy for check in bad.values())
    assert "apt-get install" in bad["kernel build tools"].remedy
    assert "flex" in bad["kernel build tools"].detail
    assert bad["QEMU"].remedy == "luscope setup"


def test_a_qemu_that_does_not_load_the_plugin_is_said_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "QEMU 11.1.3 loads" in by_name()["attribution"].detail
    monkeypatch.setattr(
        "qemu_plugin.machine.plugin_trial.attempt", lambda argv, plugin: "version 8 is needed"
    )
    check = by_name()["attribution"]
    assert check.ok
    assert "no stacks: version 8 is needed" in check.detail


def test_a_plugin_that_is_not_compiled_is_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check = by_name()["attribution"]
    assert not check.ok
    assert check.remedy == "make setup"


def test_build_tools_are_not_missed_when_the_kernel_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest_images.build_tools.missing", lambda needs: ["flex"] if "flex" in needs else [])
    assert by_name()["kernel build tools"].ok
    monkeypatch.setattr("guest_images.build.cached_kernel", lambda name: None)
    assert not by_name()["kernel build tools"].ok


def test_a_qemu_that_the_user_chose_wrongly_is_a_check_and_not_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise UsageError("LUSCOPE_QEMU=/x will not do: it is QEMU 7.2.0")

    monkeypatch.setattr("qemu_plugin.machine.runtime.find", refuse)
    checks = by_name()
    assert not checks["qemu"].ok
    assert "LUSCOPE_QEMU=/x" in checks["qemu"].detail
    assert checks["kernel debian"].ok


def test_a_mirror_is_needed_only_while_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise ImageError("apt's configuration here names no Debian mirror: set LUSCOPE_DEBIAN_MIRROR")

    monkeypatch.setattr("guest_images.apt_sources.mirror", none)
    assert by_name()["apt"].ok
    monkeypatch.setattr("guest_images.build.cached_kernel", lambda name: None)
    without = by_name()["apt"]
    assert not without.ok
    assert "LUSCOPE_DEBIAN_MIRROR" in without.detail


def test_space_is_needed_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest_images.cache.free_space_bytes", lambda: 100 << 20)
    assert by_name()["disk space"].ok
    monkeypatch.setattr("guest_images.build.cached_kernel", lambda name: None)
    full = by_name()["disk space"]
    assert not full.ok
    assert "100 MiB free" in full.detail


def test_a_kernel_from_the_users_tree_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUSCOPE_LINUX_SOURCE", str(tmp_path))
    assert str(tmp_path) in by_name()["kernel luo"].detail
    monkeypatch.setenv("LUSCOPE_LINUX_SOURCE", str(tmp_path / "absent"))
    assert not by_name()["kernel luo"].ok


def qemu_that_prints(directory: Path, text: str, then: str = "") -> QemuRuntime:
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\necho '{text}'\n{then}\n")
    path.chmod(0o755)
    return QemuRuntime((str(path),), "11.1.3", None, "test")


def test_kvm_counts_only_if_a_guest_says_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(doctor, "_KVM_DEVICE", tmp_path / "kvm")
    monkeypatch.setattr(doctor, "_KVM_TRIAL_S", 0.3)
    talking = qemu_that_prints(tmp_path, "[    0.000000] Linux version 7.3.4")
    monkeypatch.setattr("qemu_plugin.machine.runtime.find", lambda: talking)
    assert "runs a guest" in by_name()["KVM"].detail
    hanging = qemu_that_prints(tmp_path, "", "exec sleep 60")
    monkeypatch.setattr("qemu_plugin.machine.runtime.find", lambda: hanging)
    silent = by_name()["KVM"]
    assert "said nothing" in silent.detail
    assert silent.ok  # machines run without it


def test_the_set_up_makes_everything_ready_the_slowest_last(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(name: str, value: object) -> object:
        made.append(name)
        return value

    monkeypatch.setattr("qemu_plugin.machine.runtime.find_or_install", lambda progress: make("qemu", QEMU))
    monkeypatch.setattr("guest_images.build.initramfs", lambda progress: make("initramfs", Path("/i")))
    monkeypatch.setattr("guest_images.build.kernel", lambda name, progress: make(name, kernel(name)))
    progress = RememberingProgress()
    doctor.setup(progress)
    assert made == ["qemu", "initramfs", "debian", "luo", "luo-pci"]
    assert any("release-of-luo" in end for end in progress.ends)


def test_the_set_up_asks_for_every_tool_before_it_fetches_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest_images.source_kernel.cached", lambda name: None)
    monkeypatch.setattr(
        "guest_images.build_tools.missing", lambda needs: [need for need in needs if need != "gcc"]
    )
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    progress = RememberingProgress()
    with pytest.raises(
        ImageError, match=r"the set-up needs libc\.a, make, .*flex.*: run as root: apt-get install "
    ):
        doctor.setup(progress)
    assert progress.steps == []
