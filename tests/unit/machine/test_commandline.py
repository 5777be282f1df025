# SPDX-License-Identifier: MIT
"""QEMU is told the topology as it is, and nothing that a live update could mistake for a reset."""

import itertools
import json
from pathlib import Path

from qemu_plugin.experiment.spec import DEFAULT_PORTS
from qemu_plugin.machine.commandline import Attachment, Machine, arguments


def options(plugin: str | None = None) -> list[str]:
    return arguments(
        Machine(
            ports=DEFAULT_PORTS,
            attachments=[Attachment("ep0", "dn1", Path("/run/x y/ep0.sock"))],
            memory_mib=256,
            cpus=1,
            kernel=Path("/k"),
            initrd=Path("/i"),
            command_line="console=ttyS0 quiet",
            console_chardev="socket,id=console,path=/c",
            agent_chardev="socket,id=agent,path=/a",
            qmp_socket=Path("/q"),
            trace_log=Path("/t"),
            plugin=plugin,
        )
    )


def values(name: str) -> list[str]:
    words = options()
    return [value for key, value in itertools.pairwise(words) if key == name]


def test_guest_memory_is_shared_so_that_endpoints_can_map_it() -> None:
    assert values("-object") == ["memory-backend-memfd,id=ram0,size=256M,share=on"]
    assert "memory-backend=ram0" in values("-machine")[0]


def test_every_bridge_sits_where_the_function_table_says() -> None:
    assert values("-device")[:4] == [
        "pcie-root-port,id=rp1,bus=pcie.0,addr=0x1.0,chassis=1,slot=1",
        "x3130-upstream,id=up1,bus=rp1,addr=0x0.0",
        "xio3130-downstream,id=dn1,bus=up1,addr=0x0.0,chassis=3,slot=3",
        "xio3130-downstream,id=dn2,bus=up1,addr=0x1.0,chassis=4,slot=4",
    ]


def test_an_endpoint_is_given_in_json_so_that_any_path_will_do() -> None:
    device = json.loads(values("-device")[-1])
    assert device["socket"] == {"type": "unix", "path": "/run/x y/ep0.sock"}
    assert (device["driver"], device["bus"]) == ("vfio-user-pci", "dn1")
    assert device["x-msg-timeout"] > 60_000


def test_a_machine_reset_ends_the_machine() -> None:
    assert values("-action") == ["reboot=shutdown"]


def test_the_serial_ports_come_in_the_order_that_the_guest_counts_them() -> None:
    assert values("-serial") == ["chardev:console", "chardev:agent"]


def test_the_trace_has_stamps() -> None:
    assert values("-trace") == ["pci_cfg_*"]
    assert values("-msg") == ["timestamp=on"]


def test_a_plugin_is_loaded_where_there_is_one() -> None:
    words = options("/p.so,recording=/r")
    assert words[words.index("-plugin") + 1] == "/p.so,recording=/r"
    assert "-plugin" not in options()
