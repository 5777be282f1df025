# SPDX-License-Identifier: MIT
"""Capabilities that an endpoint is given by name, and what their registers do."""

import pytest

from pydev.endpoints import load
from pydev.errors import DeclarationError
from pydev.pci.ats import AtsControl
from pydev.pci.dpc import DpcControl
from pydev.pci.express import DeviceCapabilities2, DeviceControl2, LtrDeviceControl2
from pydev.pci.ide import IdeSelectiveControl
from pydev.pci.l1ss import L1ssControl1
from pydev.pci.ltr import LtrMaxSnoop
from pydev.pci.pasid import PasidControl
from pydev.pci.pri import PriAllocation, PriCapacity, PriControl, PriStatus
from pydev.pci.sriov import SriovControl, SriovVfBar0
from pydev.ports import ResetKind
from pydev.testkit.bench import Bench


def bench(*capabilities: str) -> Bench:  # type: ignore[type-arg]
    return Bench(load("stream").build({"capabilities": list(capabilities)}))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DeclarationError, match="no capability is called 'vpd'; there are ats, pri, pasid"):
        bench("vpd")


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(DeclarationError, match="the capability ATS is there twice"):
        bench("ats", "ats")


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(DeclarationError, match="option capabilities is 'ats', which is no list"):
        load("stream").build({"capabilities": "ats"})


def test_ltr_can_be_enabled_only_where_it_was_asked_for() -> None:
    with_ltr, without = bench("ltr"), bench()

    with_ltr.write(LtrDeviceControl2.ltr, 1)
    without.write(DeviceControl2.ltr, 1)

    assert LtrDeviceControl2(with_ltr.read(LtrDeviceControl2)).ltr == 1
    assert DeviceControl2(without.read(DeviceControl2)).ltr == 0
    assert DeviceCapabilities2(with_ltr.read(DeviceCapabilities2)).ltr == 1
    assert DeviceCapabilities2(without.read(DeviceCapabilities2)).ltr == 0


def test_address_spaces_need_prefixes_and_bring_them() -> None:
    assert DeviceCapabilities2(bench("pasid").read(DeviceCapabilities2)).end_end_tlp_prefix == 1
    assert DeviceCapabilities2(bench("ats").read(DeviceCapabilities2)).end_end_tlp_prefix == 0


def test_page_requests_are_stopped_while_they_are_off() -> None:
    pri = bench("pri")
    stopped = [PriStatus(pri.read(PriStatus)).stopped]
    for value in (1, 0):
        pri.write(PriControl.enable, value)
        stopped.append(PriStatus(pri.read(PriStatus)).stopped)

    assert stopped == [1, 0, 1]


def test_a_reset_stops_page_requests() -> None:
    pri = bench("pri")
    pri.write(PriControl.enable, 1)
    pri.write(PriAllocation, 8)

    pri.function_level_reset()

    assert PriStatus(pri.read(PriStatus)).stopped == 1
    assert (pri.read(PriControl), pri.read(PriAllocation)) == (0, 0)


def test_the_capacity_for_page_requests_is_fixed() -> None:
    pri = bench("pri")
    held = pri.read(PriCapacity)

    pri.write(PriCapacity, 1)

    assert pri.read(PriCapacity) == held > 0


def test_pri_reset_reads_0() -> None:
    pri = bench("pri")

    pri.write(PriControl, PriControl.compose(reset=1))

    assert pri.read(PriControl) == 0


@pytest.mark.parametrize(
    ("name", "register", "value"),
    [
        ("ats", AtsControl, AtsControl.compose(enable=1, smallest_translation_unit=3)),
        ("pasid", PasidControl, PasidControl.compose(enable=1, privileged_mode=1)),
        ("l1ss", L1ssControl1, L1ssControl1.compose(aspm_l1_2=1, ltr_l1_2_threshold_value=7)),
        ("ltr", LtrMaxSnoop, LtrMaxSnoop.compose(latency=5, scale=2)),
        ("ide", IdeSelectiveControl, IdeSelectiveControl.compose(enable=1, stream_id=4)),
        ("sriov", SriovControl, SriovControl.compose(vf_enable=1, vf_memory_space=1)),
        ("dpc", DpcControl, DpcControl.compose(trigger=1, interrupt=1)),
    ],
)
def test_what_is_written_is_kept_until_a_reset(name, register, value) -> None:  # type: ignore[no-untyped-def]
    endpoint = bench(name)

    endpoint.write(register, value)
    held = endpoint.read(register)
    endpoint.endpoint.reset(ResetKind.DEVICE)

    assert held == value
    assert endpoint.read(register) == register.compose()


def test_the_software_trigger_of_containment_reads_0() -> None:
    dpc = bench("dpc")

    dpc.write(DpcControl, DpcControl.compose(software_trigger=1))

    assert dpc.read(DpcControl) == 0


def test_virtual_functions_bars_can_be_sized() -> None:
    sriov = bench("sriov")

    sriov.write(SriovVfBar0, 0xFFFFFFFF)

    assert sriov.read(SriovVfBar0) == 0xFFFFF000
