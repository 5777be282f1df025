# SPDX-License-Identifier: MIT
import json

import pytest

from pydev.errors import DeclarationError
from pydev.pci import CONFIG_REGION, Bar, Function, Identity, Msix
from pydev.pci.aer import Aer, CorrectableMask, CorrectableStatus, UncorrectableStatus
from pydev.pci.express import DeviceControl, DeviceStatus, Express, LinkControl
from pydev.pci.header import Command, Status
from pydev.pci.msix import MsixControl
from pydev.pci.power_management import Pmcsr, PowerManagement, PowerState
from pydev.ports import Gate, ResetKind
from pydev.registers import Field, Register
from pydev.testkit import FakePort, ManualTime, Memory

OFF = Gate.BUS_MASTER_OFF | Gate.INTERRUPTS_OFF


class Value(Register, offset=0x00):
    value = Field(0, 32, reset=7)


class Plain(Function):
    def __init__(self, *, no_soft_reset: bool = False, is_flr_capable: bool = True) -> None:
        super().__init__(
            Identity(vendor_id=0x1DE5, device_id=1),
            [Bar(0, size_bytes=0x1000, registers=(Value,))],
            [
                PowerManagement(no_soft_reset=no_soft_reset),
                Msix(vectors=3, table=(0, 0x800), pba=(0, 0xC00)),
                Express(is_flr_capable=is_flr_capable),
                Aer(),
            ],
        )
        self.gate_port = FakePort(ManualTime(), Memory())
        self.connect(self.gate_port)
        self.resets: list[ResetKind] = []

    def before_reset(self, kind: ResetKind) -> None:
        self.resets.append(kind)

    def write(self, register: type[Register], value: int) -> None:
        self.region_write(CONFIG_REGION, self.config.offset_of(register), register.width, value)


@pytest.fixture
def function() -> Plain:
    return Plain()


def enable(function: Plain) -> None:
    function.write(Command, 0b110)
    function.write(MsixControl, MsixControl.compose(enable=1))


# -- gate -----------------------------------------------------------------------------------------------


def test_at_power_on_neither_dma_nor_interrupts_pass(function: Plain) -> None:
    assert function.gate == OFF
    assert function.gate_port.gate == OFF


def test_the_port_has_the_gate_before_the_write_is_answered(function: Plain) -> None:
    seen: list[Gate] = []
    for register, value in (
        (Command, 0b100),
        (MsixControl, MsixControl.compose(enable=1, function_mask=1)),
        (MsixControl, MsixControl.compose(enable=1)),
        (Command, 0),
    ):
        function.write(register, value)
        seen.append(function.gate_port.gate)

    assert seen == [Gate.INTERRUPTS_OFF, Gate.FUNCTION_MASKED, Gate(0), Gate.BUS_MASTER_OFF]


def test_a_dword_write_over_command_and_status_moves_the_gate_too(function: Plain) -> None:
    function.region_write(CONFIG_REGION, 4, 4, 0xFFFF_0004)

    assert function.gate_port.gate == Gate.INTERRUPTS_OFF
    assert function.config.get(Status.capabilities_list) == 1


def test_a_byte_write_of_the_upper_half_of_command_leaves_bus_mastering(function: Plain) -> None:
    function.write(Command, 0b110)

    function.region_write(CONFIG_REGION, 5, 1, 0x04)

    assert function.config.get(Command.bus_master) == 1
    assert function.config.get(Command.intx_disable) == 1


def test_writes_that_leave_the_gate_as_it_is_do_not_tell_the_port(function: Plain) -> None:
    function.write(Command, 0b100)
    count = len(function.gate_port.gate_changes)

    function.write(Command, 0b100 | 1 << 10)

    assert len(function.gate_port.gate_changes) == count


def test_a_function_without_msix_has_no_interrupts() -> None:
    plain = Function(Identity(1, 2), [], [])
    plain.region_write(CONFIG_REGION, 4, 2, 4)

    assert plain.gate == Gate.INTERRUPTS_OFF
    assert (plain.msix_vectors, plain.msix_pba) == (0, None)


# -- power states ---------------------------------------------------------------------------------------


def test_in_d3hot_bars_answer_with_ones_and_drop_writes(function: Plain) -> None:
    enable(function)
    function.write(Pmcsr, PowerState.D3HOT)

    function.region_write(0, 0, 4, 1)

    assert function.region_read(0, 0, 4) == 0xFFFFFFFF
    assert function.region_read(CONFIG_REGION, 0, 2) == 0x1DE5
    assert function.gate_port.gate == Gate.POWER_STATE
    assert function.regions[0].get(Value) == 7


def test_waking_from_d3hot_resets_the_function(function: Plain) -> None:
    enable(function)
    function.region_write(0, 0, 4, 99)
    function.write(Pmcsr, PowerState.D3HOT)
    function.write(Pmcsr, PowerState.D0)

    assert function.resets == [ResetKind.POWER_STATE]
    assert function.region_read(0, 0, 4) == 7
    assert function.gate_port.gate == OFF


def test_waking_with_no_soft_reset_keeps_everything() -> None:
    function = Plain(no_soft_reset=True)
    enable(function)
    function.region_write(0, 0, 4, 99)
    function.write(Pmcsr, PowerState.D3HOT)
    function.write(Pmcsr, PowerState.D0)

    assert function.resets == []
    assert function.region_read(0, 0, 4) == 99
    assert function.gate_port.gate == Gate(0)


@pytest.mark.parametrize("state", [PowerState.D1, PowerState.D2])
@pytest.mark.parametrize("start", [PowerState.D0, PowerState.D3HOT])
def test_an_unsupported_power_state_is_discarded(
    function: Plain, start: PowerState, state: PowerState
) -> None:
    function.write(Pmcsr, start)
    function.write(Pmcsr, state)

    assert function.config.get(Pmcsr.power_state) == start
    assert function.resets == []


def test_writing_pme_status_clears_it_and_leaves_the_power_state(function: Plain) -> None:
    function.config.set(Pmcsr.pme_status, 1)

    function.write(Pmcsr, 0x8000)

    assert function.config.get(Pmcsr) == 0


# -- resets ---------------------------------------------------------------------------------------------


def flr(function: Plain) -> None:
    value = DeviceControl.initiate_flr.insert(function.config.get(DeviceControl), 1)
    function.write(DeviceControl, value)


def test_a_function_level_reset_restores_registers_and_shuts_the_gate(function: Plain) -> None:
    enable(function)
    function.region_write(CONFIG_REGION, 0x10, 4, 0xFEBF0000)
    function.region_write(0, 0, 4, 99)

    flr(function)

    assert function.resets == [ResetKind.FUNCTION_LEVEL]
    assert function.region_read(CONFIG_REGION, 0x10, 4) == 0
    assert function.region_read(0, 0, 4) == 7
    assert function.gate_port.gate == OFF


def test_the_gate_is_shut_for_reset_before_anything_changes(function: Plain) -> None:
    enable(function)
    count = len(function.gate_port.gate_changes)

    flr(function)

    assert [change.after for change in function.gate_port.gate_changes[count:]] == [Gate.IN_RESET, OFF]


def test_initiate_flr_reads_as_zero(function: Plain) -> None:
    flr(function)

    assert function.config.get(DeviceControl.initiate_flr) == 0


def test_a_function_that_cannot_reset_itself_ignores_initiate_flr() -> None:
    function = Plain(is_flr_capable=False)
    enable(function)

    flr(function)

    assert function.resets == []
    assert function.gate == Gate(0)


def test_a_function_level_reset_leaves_sticky_and_exempt_state(function: Plain) -> None:
    function.config.set(UncorrectableStatus.completion_timeout, 1)
    function.write(CorrectableMask, 0xC0)
    function.write(DeviceControl, DeviceControl.compose(max_payload_size=1, unsupported_request_reporting=1))
    function.write(LinkControl, LinkControl.compose(common_clock=1))

    flr(function)

    assert function.config.get(UncorrectableStatus.completion_timeout) == 1
    assert function.config.get(CorrectableMask) == 0xC0
    assert function.config.get(DeviceControl.max_payload_size) == 1
    assert function.config.get(LinkControl.common_clock) == 1
    assert function.config.get(DeviceControl.unsupported_request_reporting) == 0


def test_a_bus_reset_leaves_sticky_state_alone_and_nothing_else(function: Plain) -> None:
    function.config.set(CorrectableStatus.bad_tlp, 1)
    function.write(DeviceControl, DeviceControl.compose(max_payload_size=1))

    function.reset(ResetKind.DEVICE)

    assert function.config.get(CorrectableStatus.bad_tlp) == 1
    assert function.config.get(DeviceControl) == DeviceControl.compose()


def test_power_on_forgets_sticky_state(function: Plain) -> None:
    function.config.set(CorrectableStatus.bad_tlp, 1)

    function.reset(ResetKind.POWER_ON)

    assert bytes(function.config.image) == function.config.power_on_image()


def test_device_status_bits_are_cleared_by_ones(function: Plain) -> None:
    function.config.set(DeviceStatus.unsupported_request, 1)
    function.config.set(DeviceStatus.fatal_error, 1)

    function.write(DeviceStatus, DeviceStatus.compose(unsupported_request=1))

    assert function.config.get(DeviceStatus) == DeviceStatus.compose(fatal_error=1)


# -- the rest -------------------------------------------------------------------------------------------


def test_a_region_that_does_not_exist_answers_with_ones(function: Plain) -> None:
    function.region_write(3, 0, 4, 1)

    assert function.region_read(3, 0, 2) == 0xFFFF


def test_pending_bits_show_in_the_region_that_the_capability_names(function: Plain) -> None:
    function.set_pending(2, True)
    assert function.msix_pba == (0, 0xC00)
    assert function.region_read(0, 0xC00, 8) == 0b100

    function.set_pending(2, False)
    assert function.region_read(0, 0xC00, 8) == 0
    with pytest.raises(DeclarationError, match="vector 3 of a function that has 3"):
        function.set_pending(3, True)


def test_registers_may_not_lie_in_the_vector_table() -> None:
    class Inside(Register, offset=0x808):
        pass

    with pytest.raises(DeclarationError, match=r"BAR0: VECTOR_DATA at 0x808..0x80c overlaps INSIDE"):
        Function(
            Identity(1, 2),
            [Bar(0, size_bytes=0x1000, registers=(Inside,))],
            [Msix(vectors=1, table=(0, 0x800), pba=(0, 0xC00))],
        )


def test_vectors_in_a_bar_that_does_not_exist_are_refused() -> None:
    with pytest.raises(DeclarationError, match="MSI-X table is in BAR4, which the function has not"):
        Function(Identity(1, 2), [], [Msix(vectors=1, table=(4, 0), pba=(4, 0x800))])


def test_using_a_port_before_connecting_one_says_so() -> None:
    with pytest.raises(DeclarationError, match="Function is used before it is connected to a port"):
        _ = Function(Identity(1, 2)).port


def test_the_description_names_what_rules_ask_for(function: Plain) -> None:
    described = json.loads(json.dumps(function.describe()))
    names = {
        register["name"]: {field["name"] for field in register["fields"]}
        for register in described["registers"]
    }

    assert {"memory_space", "bus_master", "intx_disable"} <= names["COMMAND"]
    assert {f"BAR{index}" for index in range(6)} | {"ROM"} <= set(names)
    assert "power_state" in names["PMCSR"]
    assert {"enable", "function_mask"} <= names["MSIX_CONTROL"]
    assert "initiate_flr" in names["DEVCTL"]
    assert len(bytes.fromhex(described["config"])) == 4096
    assert described["bars"] == {"0": 0x1000}
    assert described["bar_registers"]["0"][0]["name"] == "VALUE"


def test_no_two_registers_of_a_function_share_a_name(function: Plain) -> None:
    names = [register["name"] for register in function.describe()["registers"]]

    assert len(names) == len(set(names))
