# SPDX-License-Identifier: MIT
"""What a run needs, examined one by one; and the set-up that provides all of it.

Nothing is fetched, built or changed by an examination.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guest_images import apt_sources, build, build_tools, cache, pins, prerequisites
from guest_images.errors import ImageError
from guest_images.progress import Progress
from qemu_plugin.errors import LuscopeError
from qemu_plugin.machine import plugin_trial, runtime

_SET_UP = "luscope setup"
_KVM_DEVICE = Path("/dev/kvm")
_KVM_TRIAL_S = 3.0
_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs: whether it is there, what was found, and what to do if it is not."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def checks() -> list[Check]:
    """Examine everything; an examination that fails in an unforeseen way is a check that is not ok."""
    return [check for examine in _EXAMINATIONS for check in _guarded(examine)]


def setup(progress: Progress) -> None:
    """Make everything ready that a run takes from the cache: QEMU, the kernels, the initial file system.

    Raises:
        ImageError, BenchError, UsageError: something cannot be made ready; what was made before it stays.
    """
    build_tools.require(prerequisites.guest_needs(), "the set-up", progress)
    found = runtime.find_or_install(progress)
    initramfs = build.initramfs(progress)
    images = [build.kernel(name, progress) for name in ("debian", "luo", "luo-pci")]  # quick ones first
    progress.done(f"QEMU {found.version} ({found.origin})")
    progress.done(f"initial file system {initramfs}")
    for image in images:
        progress.done(f"kernel {image.name}, {image.release} ({image.image})")


def _guarded(examine: Callable[[], Iterator[Check]]) -> list[Check]:
    try:
        return list(examine())
    except (LuscopeError, ImageError, OSError) as error:
        name = examine.__name__.strip("_").replace("_", " ")
        return [Check(name, False, str(error))]


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, _PYTHON))
    yield Check(
        "Python", sys.version_info >= _PYTHON, version, f"install Python {needed} or newer, then make setup"
    )


def _core_module() -> Iterator[Check]:
    found = importlib.util.find_spec("qemu_plugin.native._core")
    detail = str(found.origin) if found is not None else "qemu_plugin.native._core is not compiled"
    yield Check("C core", found is not None, detail, "make setup")


def _compiler() -> Iterator[Check]:
    absent = build_tools.missing(build_tools.AGENT)
    packages = dict.fromkeys(build_tools.AGENT[need] for need in absent)
    detail = f"missing: {', '.join(absent)}" if absent else str(shutil.which("gcc"))
    yield Check("compiler", not absent, detail, build_tools.install_command(packages))


def _kernel_build_tools() -> Iterator[Check]:
    absent = build_tools.missing(build_tools.KERNEL)
    packages = dict.fromkeys(build_tools.KERNEL[need] for need in absent)
    if not absent:
        yield Check("kernel build tools", True, ", ".join(build_tools.KERNEL))
    elif build.cached_kernel("luo") is not None:
        yield Check("kernel build tools", True, f"missing: {', '.join(absent)}; the cached kernel needs none")
    else:
        remedy = build_tools.install_command(packages)
        yield Check("kernel build tools", False, f"missing: {', '.join(absent)}", remedy)


def _qemu() -> Iterator[Check]:
    found = runtime.find()
    if found is None:
        yield Check("QEMU", False, f"none that is {pins.package('qemu').at_least} or newer", _SET_UP)
        yield Check("vfio-user-pci", False, "no QEMU", _SET_UP)
        return
    yield Check("QEMU", True, f"{found.version} ({found.origin})")
    seen = runtime.probe(found.argv, found.origin)
    yield Check("vfio-user-pci", True, f"in QEMU {seen.version}")


def _attribution() -> Iterator[Check]:
    """Informational but for the installation: without it config writes have no function and no stack."""
    compiled = importlib.util.find_spec("qemu_plugin.attribution._plugin")
    qemu = runtime.find()
    if compiled is None or compiled.origin is None:
        yield Check("attribution", False, "QEMU's plugin is not compiled", "make setup")
    elif qemu is None:
        yield Check("attribution", True, f"whether QEMU loads the plugin can be tried after {_SET_UP}")
    elif (refusal := plugin_trial.attempt(qemu.argv, Path(compiled.origin))) is not None:
        yield Check("attribution", True, f"not with QEMU {qemu.version}, runs have no stacks: {refusal}")
    else:
        yield Check("attribution", True, f"QEMU {qemu.version} loads {compiled.origin}")


def _kernels() -> Iterator[Check]:
    for name in build.KERNELS:
        tree = os.environ.get("LUSCOPE_LINUX_SOURCE")
        if name == "luo" and tree:
            detail = f"built from LUSCOPE_LINUX_SOURCE={tree} at each run"
            yield Check(
                f"kernel {name}", Path(tree).is_dir(), detail, "set LUSCOPE_LINUX_SOURCE to a kernel tree"
            )
            continue
        image = build.cached_kernel(name)
        detail = f"{image.release} ({image.image})" if image is not None else "not in the cache"
        yield Check(f"kernel {name}", image is not None, detail, _SET_UP)


def _initial_file_system() -> Iterator[Check]:
    archive = build.cached_initramfs()
    detail = str(archive) if archive is not None else "not in the cache, or older than the agent"
    yield Check("agent and initial file system", archive is not None, detail, _SET_UP)


def _apt() -> Iterator[Check]:
    try:
        source = apt_sources.mirror()
    except ImageError as error:
        is_needed = any(
            not check.ok for examine in (_qemu, _kernels, _initial_file_system) for check in examine()
        )
        detail = (
            str(error) if is_needed else f"{error} (everything is in the cache, so that it is not needed)"
        )
        yield Check("apt", not is_needed, detail)
        return
    yield Check("apt", True, f"Debian is taken from {source.shown}")


def _disk_space() -> Iterator[Check]:
    needed_mib = sum(pin.room_mib for pin in _missing_pins())
    free_mib = cache.free_space_bytes() >> 20
    detail = f"{free_mib} MiB free in {cache.root()}, {needed_mib} MiB needed"
    yield Check(
        "disk space", free_mib >= needed_mib, detail, "free some, or set LUSCOPE_CACHE to another directory"
    )


def _missing_pins() -> Iterator[pins.Pin]:
    if runtime.find() is None:
        yield pins.package("qemu")
    yield from (pins.kernel(name) for name in build.KERNELS if build.cached_kernel(name) is None)


def _kvm() -> Iterator[Check]:
    """Informational: machines run on TCG unless told otherwise."""
    yield Check("KVM", True, _kvm_state())


def _kvm_state() -> str:
    if not os.access(_KVM_DEVICE, os.R_OK | os.W_OK):
        state = "not for this user" if _KVM_DEVICE.exists() else "absent"
        return f"{_KVM_DEVICE} is {state}; TCG is used"
    qemu, kernel = runtime.find(), build.cached_kernel("luo")
    if qemu is None or kernel is None:
        return f"{_KVM_DEVICE} is there; whether it runs a guest can be tried after {_SET_UP}"
    # The device file alone says little: some nested hosts have it, and their guests hang before their first
    # line.
    options = [
        "-accel",
        "kvm",
        "-m",
        "256M",
        "-nodefaults",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
    ]
    kernel_options = ["-kernel", str(kernel.image), "-append", "console=ttyS0 panic=-1"]
    try:
        output = subprocess.run(
            [*qemu.argv, *options, *kernel_options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_KVM_TRIAL_S,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
    if b"Linux version" in output:
        return "runs a guest; TCG is used unless an experiment asks for KVM"
    return f"{_KVM_DEVICE} is there, but a guest said nothing for {_KVM_TRIAL_S:g} s; TCG is used"


_EXAMINATIONS: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _core_module,
    _compiler,
    _kernel_build_tools,
    _qemu,
    _attribution,
    _kernels,
    _initial_file_system,
    _apt,
    _disk_space,
    _kvm,
)
