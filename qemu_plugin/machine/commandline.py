# SPDX-License-Identifier: MIT
"""QEMU's command line for a machine whose endpoints are vfio-user servers. Words only: nothing is started here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qemu_plugin.machine import iommu
from qemu_plugin.machine.trace import TRACE_OPTIONS

REPLY_TIMEOUT_MS: Final = 600_000
"""A reply later than this is fatal to the endpoint (QEMU's default is 5 s), so it is out of reach."""


@dataclass(frozen=True, slots=True)
class Port:
    """A bridge of QEMU's own: what a root port or a port of a switch is called and where it sits."""

    id: str
    kind: str
    """`root_port`, `upstream_port` or `downstream_port`."""
    parent: str | None
    """The id of the port above; None for a root port, which sits on bus 0."""
    devfn: int


@dataclass(frozen=True, slots=True)
class Attachment:
    """An endpoint behind a port: QEMU's client of the server that listens at `socket`."""

    id: str
    port: str
    socket: Path


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that QEMU has to be told."""

    ports: Sequence[Port]
    attachments: Sequence[Attachment]
    memory_mib: int
    cpus: int
    kernel: Path
    initrd: Path
    command_line: str
    console_chardev: str
    agent_chardev: str
    qmp_socket: Path
    trace_log: Path
    accelerator: str = "tcg"
    iommu: str | None = None
    plugin: str | None = None
    """A TCG plugin as QEMU's option has it: the file, then its arguments."""
    extra: Sequence[str] = ()


# QEMU's device models: hw/pci-bridge/{gen_pcie_root_port,xio3130_upstream,xio3130_downstream}.c
_MODELS: Final = {
    "root_port": "pcie-root-port",
    "upstream_port": "x3130-upstream",
    "downstream_port": "xio3130-downstream",
}
PORT_CAPABILITIES: Final = {
    "root_port": {"SSVID": 0x40, "MSIX": 0x48, "EXP": 0x54, "AER": 0x100, "ACS": 0x148},
    "upstream_port": {"MSI": 0x70, "SSVID": 0x80, "EXP": 0x90, "AER": 0x100},
    "downstream_port": {"MSI": 0x70, "SSVID": 0x80, "EXP": 0x90, "AER": 0x100},
}
"""Where these models have which capability (the same sources); a system test asks a running machine."""
TRACE_TYPES: Final = frozenset({*_MODELS.values(), "vfio-user-pci"})
"""The type names under which the functions of an experiment appear in the trace."""


def port_kinds() -> tuple[str, ...]:
    """The kinds of port that QEMU has models for."""
    return tuple(_MODELS)


def _port_options(port: Port, number: int) -> list[str]:
    device = [
        _MODELS[port.kind],
        f"id={port.id}",
        f"bus={port.parent or 'pcie.0'}",
        f"addr={port.devfn >> 3:#x}.{port.devfn & 7}",
    ]
    if port.kind != "upstream_port":  # a slot of its own, for its own chassis number
        device += [f"chassis={number}", f"slot={number}"]
    return ["-device", ",".join(device)]


def _endpoint_options(attachment: Attachment) -> list[str]:
    # vfio-user-pci takes its socket in JSON form only, and the server has to be listening already.
    device = {
        "driver": "vfio-user-pci",
        "id": attachment.id,
        "bus": attachment.port,
        "socket": {"type": "unix", "path": str(attachment.socket)},
        "x-msg-timeout": REPLY_TIMEOUT_MS,
    }
    return ["-device", json.dumps(device)]


def arguments(machine: Machine) -> list[str]:
    """The arguments that follow the emulator's own (`QemuRuntime.argv`).

    Guest RAM is one shared memfd, which the endpoints map. The machine ends, instead of booting again, when
    the guest resets it: a kexec never does. Source: QEMU docs/system/devices/vfio-user.rst.
    """
    split = () if machine.iommu is None else (iommu.MACHINE,)
    options = [
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        *("-name", "luscope"),
        *("-object", f"memory-backend-memfd,id=ram0,size={machine.memory_mib}M,share=on"),
        *("-machine", ",".join(["q35", "memory-backend=ram0", f"accel={machine.accelerator}", *split])),
        *("-smp", str(machine.cpus)),
        *("-m", f"{machine.memory_mib}M"),
        *("-action", "reboot=shutdown"),
        *("-kernel", str(machine.kernel)),
        *("-initrd", str(machine.initrd)),
        *("-append", machine.command_line),
        *("-chardev", machine.console_chardev, "-serial", "chardev:console"),
        *("-chardev", machine.agent_chardev, "-serial", "chardev:agent"),
        *("-qmp", f"unix:{machine.qmp_socket}"),
        *TRACE_OPTIONS,
        *("-D", str(machine.trace_log)),
    ]
    if machine.iommu is not None:  # before the devices that it stands in front of
        options += [*iommu.DEVICE, *iommu.TRACE_OPTIONS]
    if machine.plugin is not None:
        options += ["-plugin", machine.plugin]
    for number, port in enumerate(machine.ports, start=1):
        options += _port_options(port, number)
    for attachment in machine.attachments:
        options += _endpoint_options(attachment)
    return [*options, *machine.extra]
