# SPDX-License-Identifier: MIT
"""Virtual functions of preserved endpoints.

QEMU hides the capability of a vfio-user device from the guest's kernel: only user space can set it up there.
"""

from typing import Final

from pydev.continuity.check import judge_checks
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule

_ON: Final = ("SRIOV_CTRL", "vf_enable")
_KEPT: Final = (
    Kept(*_ON, at_every_moment=True, zero_shows_nothing=True),
    *(
        Kept(register, field, at_every_moment=True, only_while=_ON)
        for register, field in (
            ("SRIOV_CTRL", "vf_memory_space"),
            ("SRIOV_CTRL", "ari_hierarchy"),
            ("SRIOV_NUM_VFS", None),
            ("SRIOV_SYSTEM_PAGE_SIZE", None),
            *((f"SRIOV_VF_BAR{index}", None) for index in range(6)),
        )
    ),
)

SRIOV: Final = Rule(
    id="SRIOV",
    title="The virtual functions of a preserved endpoint go on existing, where they are",
    hazards=(32,),
    severity="D",
    why="VF Enable clear destroys every virtual function at once: their DMA stops and their state is gone, for all "
    "guests that use them. Another page size or address moves their memory; another hierarchy bit their IDs.",
    acceptable="No virtual function was enabled when frozen. The series refuses to preserve one, so that a physical "
    "function whose virtual ones are in use is not preserved either.",
    source="PCIe 6.0 9.3.3.3, 9.3.3.7, 9.3.3.13, 9.3.3.14; linux drivers/pci/iov.c sriov_init, sriov_enable, "
    "sriov_disable",
    planted_fault="SRIOV_CTRL of a preserved endpoint with virtual functions written 0",
    judge=lambda evidence: judge_checks(evidence, evidence.preserved, _KEPT, "SR-IOV"),
    registers=tuple(one.label for one in _KEPT),
    writers=(
        "pci_init_capabilities -> pci_iov_init -> sriov_init (drivers/pci/iov.c)",
        "pci_restore_state -> pci_restore_iov_state -> sriov_restore_state (drivers/pci/iov.c)",
        "pci_disable_sriov -> sriov_disable (drivers/pci/iov.c)",
    ),
    examines="preserved endpoints that had virtual functions when frozen",
    vacuous_when="no preserved endpoint has the capability, or no virtual function was enabled",
)
