# SPDX-License-Identifier: MIT
"""Configuration space: a header, and the capabilities chained behind it. Also finds them in foreign bytes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from pydev.errors import DeclarationError
from pydev.pci.bar import Bar, bar_registers
from pydev.pci.capability import Capability, CapabilityHeader, ExtendedCapabilityHeader, Resets
from pydev.pci.header import (
    CONFIG_BYTES,
    CONVENTIONAL_BYTES,
    CapabilityList,
    ClassDevice,
    ClassProg,
    DeviceId,
    RevisionId,
    Status,
    VendorId,
)
from pydev.pci.ids import CapabilityId, ExtendedCapabilityId, Identity
from pydev.pci.type0 import TYPE0_REGISTERS, SubsystemId, SubsystemVendorId
from pydev.registers import RegisterBank

_FIRST_CAPABILITY: Final = 0x40
_FIRST_EXTENDED: Final = CONVENTIONAL_BYTES
_CAPABILITY_NAMES: Final[Mapping[int, str]] = {
    CapabilityId.POWER_MANAGEMENT: "PM",
    CapabilityId.MSI: "MSI",
    CapabilityId.SUBSYSTEM: "SSVID",
    CapabilityId.EXPRESS: "EXP",
    CapabilityId.MSIX: "MSIX",
}
_EXTENDED_NAMES: Final[Mapping[int, str]] = {
    ExtendedCapabilityId.AER: "AER",
    ExtendedCapabilityId.DEVICE_SERIAL_NUMBER: "DSN",
    ExtendedCapabilityId.ACS: "ACS",
    ExtendedCapabilityId.ATS: "ATS",
    ExtendedCapabilityId.SRIOV: "SRIOV",
    ExtendedCapabilityId.PRI: "PRI",
    ExtendedCapabilityId.LTR: "LTR",
    ExtendedCapabilityId.PASID: "PASID",
    ExtendedCapabilityId.DPC: "DPC",
    ExtendedCapabilityId.L1_PM_SUBSTATES: "L1SS",
    ExtendedCapabilityId.DOE: "DOE",
    ExtendedCapabilityId.IDE: "IDE",
}


class ConfigSpace:
    """The 4096 bytes of an endpoint, as a register bank: `bank`; `offsets` says where each capability is."""

    def __init__(self, identity: Identity, bars: Sequence[Bar], capabilities: Sequence[Capability]) -> None:
        self.bank = RegisterBank("config space", CONFIG_BYTES)
        self.offsets: dict[str, int] = {}
        plain = [capability for capability in capabilities if not capability.is_extended]
        extended = [capability for capability in capabilities if capability.is_extended]
        first = self._place_chain(plain, _FIRST_CAPABILITY, CONVENTIONAL_BYTES)
        self._place_chain(extended, _FIRST_EXTENDED, CONFIG_BYTES)
        resets = _header_resets(identity, first)
        for register in TYPE0_REGISTERS:
            self.bank.place(register, **resets.get(register, {}))
        for register in bar_registers(bars):
            self.bank.place(register)

    def _place_chain(self, capabilities: Sequence[Capability], start: int, end: int) -> int:
        """Place and link these; gives the offset of the first, 0 where there is none."""
        if not capabilities:
            return 0
        lengths = [-(-capability.size_bytes // 4) * 4 for capability in capabilities]
        places = list(accumulate(lengths, initial=start))
        if places[-1] > end:
            names = ", ".join(capability.name for capability in capabilities)
            raise DeclarationError(f"the capabilities {names} end at {places[-1]:#x}, past {end:#x}")
        links = [*places[1:-1], 0]
        for capability, place, following in zip(capabilities, places[:-1], links, strict=True):
            self._place(capability, place, following)
        return start

    def _place(self, capability: Capability, place: int, following: int) -> None:
        if capability.name in self.offsets:
            raise DeclarationError(f"the capability {capability.name} is there twice")
        self.offsets[capability.name] = place
        resets = capability.resets()
        for register in capability.registers:
            values = dict(resets.get(register, {}))
            if issubclass(register, CapabilityHeader | ExtendedCapabilityHeader):
                values["next_pointer"] = following
            self.bank.place(register, place, **values)


def _header_resets(identity: Identity, first_capability: int) -> Resets:
    def or_own(value: int | None, own: int) -> int:
        return own if value is None else value

    return {
        VendorId: {"value": identity.vendor_id},
        DeviceId: {"value": identity.device_id},
        RevisionId: {"value": identity.revision_id},
        ClassProg: {"value": identity.class_code & 0xFF},
        ClassDevice: {"subclass": identity.class_code >> 8 & 0xFF, "base_class": identity.class_code >> 16},
        SubsystemVendorId: {"value": or_own(identity.subsystem_vendor_id, identity.vendor_id)},
        SubsystemId: {"value": or_own(identity.subsystem_id, identity.device_id)},
        Status: {"capabilities_list": int(first_capability != 0)},
        CapabilityList: {"pointer": first_capability},
    }


def capability_chain(config: bytes) -> Iterator[tuple[int, int, bool]]:
    """Each capability in a function's configuration bytes (256 or 4096): offset, id, whether it is extended.

    A chain that runs in a circle ends where it began to repeat.
    """
    seen: set[int] = set()
    at = config[CapabilityList.offset or 0] & 0xFC
    while _FIRST_CAPABILITY <= at < CONVENTIONAL_BYTES and at not in seen:
        seen.add(at)
        header = CapabilityHeader(int.from_bytes(config[at : at + 2], "little"))
        yield at, header.capability_id, False
        at = header.next_pointer & 0xFC
    at = _FIRST_EXTENDED
    while _FIRST_EXTENDED <= at <= len(config) - 4 and at not in seen:
        seen.add(at)
        extended = ExtendedCapabilityHeader(int.from_bytes(config[at : at + 4], "little"))
        if extended.capability_id:
            yield at, extended.capability_id, True
        at = extended.next_pointer & 0xFFC


def capability_offsets(config: bytes) -> dict[str, int]:
    """Where the capabilities are in a function's configuration bytes (256 or 4096), by this project's names.

    Ones without a name here are left out.
    """
    found: dict[str, int] = {}
    for at, number, is_extended in capability_chain(config):
        if name := (_EXTENDED_NAMES if is_extended else _CAPABILITY_NAMES).get(number):
            found.setdefault(name, at)
    return found
