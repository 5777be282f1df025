# SPDX-License-Identifier: MIT
"""A recording's header: who is who on the bus, what their registers are called, what is going to be tried."""

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pydev.endpoints import load as load_model
from pydev.pci import type1
from qemu_plugin.experiment.images import Images
from qemu_plugin.experiment.spec import EndpointSpec, Experiment
from qemu_plugin.machine.commandline import PORT_CAPABILITIES, Port


def header(experiment: Experiment, images: Images) -> dict[str, Any]:
    """The header of the recording of `experiment`; everything a verifier may know beside the events."""
    return {
        "schema": 1,
        "luscope": version("luscope"),
        "started_ns": time.monotonic_ns(),
        "functions": functions(experiment),
        "experiment": {
            "name": experiment.name,
            "description": experiment.description,
            "policy": experiment.policy,
            "updates": experiment.update.count,
            "expect_guest": experiment.expect.guest,
            "accelerator": experiment.guest.accelerator,
            "iommu": experiment.guest.iommu,
        },
        "kernels": {
            "outgoing": _kernel(images.kernel),
            "incoming": _kernel(images.next_kernel),
        },
        "qemu": {
            "version": images.qemu.version,
            "package": images.qemu.package,
            "origin": images.qemu.origin,
        },
        "attribution": _attribution(experiment, images),
        "host": {"system": platform.release(), "machine": platform.machine(), "cpus": os.cpu_count()},
    }


def _attribution(experiment: Experiment, images: Images) -> dict[str, Any]:
    plugin = images.plugin
    if plugin.library is None:
        return {"plugin": False, "reason": plugin.reason}
    return {"accelerator": experiment.guest.accelerator, "plugin": True}


def functions(experiment: Experiment) -> list[dict[str, Any]]:
    """The function table: endpoints first, in the experiment's order (the server's indexes), then the ports."""
    first_port = len(experiment.endpoints)
    ports = {port.id: first_port + number for number, port in enumerate(experiment.ports)}
    table = [_endpoint(index, endpoint, ports) for index, endpoint in enumerate(experiment.endpoints)]
    return [*table, *(_port(port, ports) for port in experiment.ports)]


def _port(port: Port, indexes: Mapping[str, int]) -> dict[str, Any]:
    return {
        "index": indexes[port.id],
        "id": port.id,
        "role": port.kind,
        "parent": indexes[port.parent] if port.parent else None,
        "devfn": port.devfn,
        "bus": None if port.parent else 0,
        "preserve": False,
        "registers": type1.describe(PORT_CAPABILITIES[port.kind]),
    }


def _endpoint(index: int, spec: EndpointSpec, ports: Mapping[str, int]) -> dict[str, Any]:
    function = load_model(spec.model).build(spec.options)
    return {
        **function.describe(),
        "index": index,
        "id": spec.id,
        "role": "endpoint",
        "model": spec.model,
        "parent": ports[spec.port],
        "devfn": 0,
        "bus": None,
        "preserve": spec.preserve,
        "stream": None
        if spec.stream is None
        else {"pages": spec.stream.pages, "period_ns": round(spec.stream.period_us * 1000)},
    }


def _kernel(image: Any) -> dict[str, Any]:
    return {
        "name": image.name,
        "release": image.release,
        "package": image.package,
        "identity": dict(image.identity),
    }
