# SPDX-License-Identifier: MIT
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from pydev.endpoints.stream import StreamEndpoint
from pydev.ports import Gate, ResetKind
from pydev.recording.format import Flag, Kind
from qemu_plugin.native.recording import RecordingWriter
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client

Events = Callable[[Kind], npt.NDArray[Any]]
CONFIG, COMMAND, BAR0_REGISTER = 7, 0x04, 0x10
DEVCTL, INITIATE_FLR = 0x08, 0x8000
PMCSR, D3HOT = 0x04, 3


def test_a_device_reset_is_recorded_with_all_that_it_changed(client: Client, events: Events) -> None:
    client.write(CONFIG, COMMAND, 6, 2)
    client.write(CONFIG, BAR0_REGISTER, 0xFEBF0000)

    client.reset()

    assert events(Kind.RESET)["value"].tolist() == [ResetKind.DEVICE]
    updates = events(Kind.CONFIG_UPDATE)
    changed = {int(e["address"]): (int(e["extra"]), int(e["aux"])) for e in updates}
    assert changed[COMMAND][0] & 0xFFFF == 6
    assert changed[COMMAND][1] & 0xFFFF == 0
    assert changed[BAR0_REGISTER] == (0xFEBF0000, 0)
    assert client.read(CONFIG, COMMAND, 2) == 0


def test_a_function_level_reset_is_recorded_behind_the_write_that_asked_for_it(
    client: Client, endpoint: StreamEndpoint, recording: RecordingWriter
) -> None:
    control = endpoint.capability_offsets["EXP"] + DEVCTL
    client.write(CONFIG, BAR0_REGISTER, 0xFEBF0000)
    client.write(CONFIG, COMMAND, 6, 2)
    first = recording.head

    client.write(CONFIG, control, INITIATE_FLR, 2)

    records = recording.view(first, recording.head)
    records = records[records["kind"] != Kind.GATE]
    assert [Kind(k) for k in records["kind"][:2]] == [Kind.REGION_WRITE, Kind.RESET]
    assert all(records["kind"][2:] == Kind.CONFIG_UPDATE)
    assert records[0]["flags"] == Flag.TRAPPED
    assert records[1]["value"] == ResetKind.FUNCTION_LEVEL
    assert {COMMAND, BAR0_REGISTER} <= set(records["address"][2:].tolist())
    assert control not in records["address"][2:].tolist()


def test_waking_from_d3hot_resets_and_sleeping_gates(
    client: Client, endpoint: StreamEndpoint, server: EndpointServer, events: Events
) -> None:
    status = endpoint.capability_offsets["PM"] + PMCSR
    client.write(CONFIG, COMMAND, 6, 2)
    client.write(CONFIG, status, D3HOT, 2)
    asleep = Gate(server.engine.counts().gate)
    client.write(CONFIG, status, 0, 2)

    assert asleep & Gate.POWER_STATE
    assert not Gate(server.engine.counts().gate) & Gate.POWER_STATE
    assert events(Kind.RESET)["value"].tolist() == [ResetKind.POWER_STATE]


def test_the_gate_is_shut_during_a_reset_and_what_the_registers_say_after_it(
    client: Client, events: Events
) -> None:
    client.write(CONFIG, COMMAND, 6, 2)
    client.reset()
    gates = [(Gate(int(e["extra"])), Gate(int(e["aux"]))) for e in events(Kind.GATE)]
    assert any(after & Gate.IN_RESET for _, after in gates)
    assert gates[-1][1] == Gate.BUS_MASTER_OFF | Gate.INTERRUPTS_OFF


def test_the_devices_state_outlives_its_client(server: EndpointServer) -> None:
    with Client(server.socket_path) as first:
        first.write(0, 0x58, 77)
        first.write(CONFIG, COMMAND, 6, 2)
    with Client(server.socket_path) as second:
        assert second.read(0, 0x58) == 77
        assert second.read(CONFIG, COMMAND, 2) == 6
        assert Gate(server.engine.counts().gate) == Gate.INTERRUPTS_OFF


def test_without_a_client_the_gate_says_so(server: EndpointServer, events: Events) -> None:
    with Client(server.socket_path) as client:
        client.read(0, 0)
    with Client(server.socket_path) as client:
        client.read(0, 0)
    after = [Gate(int(e["aux"])) for e in events(Kind.GATE)]
    assert [bool(gate & Gate.NO_CLIENT) for gate in after[:4]] == [True, False, True, False]
