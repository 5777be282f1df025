# SPDX-License-Identifier: MIT
"""How errors are reported on a preserved path, and what is left of those that happened.

Everything here is harmless to traffic. What an enable bit that is 0 shows is nothing: a kernel that keeps it and
one that never set it look the same.
"""

from typing import Final

from pydev.continuity.check import judge_checks, path
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule
from pydev.continuity.written import Erased

_REPORTING: Final = tuple(
    Kept(register, field, zero_shows_nothing=True)
    for register, field in (
        ("COMMAND", "parity_error_response"),
        ("COMMAND", "serr_enable"),
        ("BRIDGE_CONTROL", "parity_error_response"),
        ("BRIDGE_CONTROL", "serr_enable"),
        ("DEVCTL", "correctable_error_reporting"),
        ("DEVCTL", "non_fatal_error_reporting"),
        ("DEVCTL", "fatal_error_reporting"),
        ("DEVCTL", "unsupported_request_reporting"),
        ("AER_UNCOR_MASK", None),
        ("AER_UNCOR_SEVERITY", None),
        ("AER_COR_MASK", None),
        ("AER_CONTROL", "ecrc_generation"),
        ("AER_CONTROL", "ecrc_check"),
        ("AER_CONTROL", "multiple_header"),
        ("AER_ROOT_COMMAND", None),
    )
)
_CONVENTIONAL: Final = (
    "master_data_parity_error", "signaled_target_abort", "received_target_abort", "received_master_abort",
    "detected_parity_error",
)  # fmt: skip
_UNCORRECTABLE: Final = (
    "data_link_protocol", "surprise_down", "poisoned_tlp", "flow_control", "completion_timeout", "completer_abort",
    "unexpected_completion", "receiver_overflow", "malformed_tlp", "ecrc", "unsupported_request", "acs_violation",
    "internal", "multicast_blocked", "atomic_op_blocked", "tlp_prefix_blocked", "poisoned_tlp_blocked",
    "dmwr_blocked",
)  # fmt: skip
_CORRECTABLE: Final = (
    "receiver", "bad_tlp", "bad_dllp", "replay_rollover", "replay_timeout", "advisory_non_fatal",
    "corrected_internal", "header_log_overflow",
)  # fmt: skip
_ROOT: Final = (
    "correctable", "multiple_correctable", "uncorrectable", "multiple_uncorrectable", "first_is_fatal", "non_fatal",
    "fatal",
)  # fmt: skip
_STATUS: Final = (
    Erased("STATUS", (*_CONVENTIONAL, "signaled_system_error")),
    Erased("SEC_STATUS", (*_CONVENTIONAL, "received_system_error")),
    Erased("DEVSTA", ("correctable_error", "non_fatal_error", "fatal_error", "unsupported_request")),
    Erased("AER_UNCOR_STATUS", _UNCORRECTABLE),
    Erased("AER_COR_STATUS", _CORRECTABLE),
    Erased("AER_ROOT_STATUS", _ROOT),
)
_MASTER_ABORT: Final = Kept(
    "BRIDGE_CONTROL", "master_abort_mode", at_every_moment=True, zero_shows_nothing=True
)

ERROR_REPORTING: Final = Rule(
    id="ERROR-REPORTING",
    title="What reports errors on a preserved path ends as it began",
    hazards=(7, 47, 57),
    severity="H",
    why="An error that is masked, not forwarded or not told to the root port is an error that nobody sees: the "
    "device goes on with bad data. One that is reported and was not before starts a recovery, which resets.",
    acceptable="A moment of another value: error reporting is off from the outgoing kernel's shutdown until the "
    "incoming one has set it up, and what happens in between stays in the status registers (ERROR-EVIDENCE). The "
    "same values written again.",
    source="PCIe 6.0 6.2, 7.5.1.1.3, 7.5.1.3.13, 7.5.3.4, 7.8.4; linux drivers/pci/probe.c pci_configure_serr; "
    "pci-acpi.c program_hpx_type0, program_hpx_type2; pcie/aer.c pci_enable_pcie_error_reporting, "
    "aer_enable_rootport, aer_disable_rootport",
    planted_fault="AER's uncorrectable mask of a preserved endpoint left with another value",
    judge=lambda evidence: judge_checks(
        evidence, path(evidence), _REPORTING, "error reporting that could have been lost"
    ),
    registers=tuple(one.label for one in _REPORTING),
    writers=(
        "pci_configure_device -> pci_configure_serr (drivers/pci/probe.c)",
        "pci_acpi_program_hp_params -> program_hpx_type0, program_hpx_type2 (drivers/pci/pci-acpi.c)",
        "pci_aer_init -> pci_enable_pcie_error_reporting (drivers/pci/pcie/aer.c)",
        "pcie_portdrv_shutdown -> aer_remove -> aer_disable_rootport (drivers/pci/pcie/aer.c)",
        "aer_probe -> aer_enable_rootport (drivers/pci/pcie/aer.c)",
        "pci_aer_unmask_internal_errors (drivers/pci/pcie/aer.c)",
    ),
    examines="preserved endpoints and bridges above them that report, mask or grade some error when frozen",
    vacuous_when="every such register is 0 throughout, or was never seen",
)
ERROR_EVIDENCE: Final = Rule(
    id="ERROR-EVIDENCE",
    title="Error bits that were set when frozen are still there at finish",
    hazards=(24, 47, 57),
    severity="H",
    why="A status bit is the only trace of an error that happened while nobody listened. Erased by a scan, it is "
    "evidence lost: the next kernel begins with a clean sheet for a device that has lost data. Master-Abort Mode, "
    "off for a moment, turns reads that nobody answers into ones without an error.",
    acceptable="No bit was set. A kernel that reads the bits before it clears them has its evidence; the wire does "
    "not show whether it looked.",
    source="PCIe 6.0 7.5.1.1.4, 7.5.1.3.7, 7.5.3.5, 7.8.4.2, 7.8.4.5, 7.8.4.10; PCI-to-PCI Bridge 1.2 3.2.5.18; "
    "linux drivers/pci/probe.c pci_scan_bridge_extend; pcie/aer.c pci_aer_clear_status, aer_enable_rootport",
    planted_fault="FFFFh written to the secondary status of the port above, in which Received Master-Abort was set",
    judge=lambda evidence: judge_checks(
        evidence, path(evidence), (*_STATUS, _MASTER_ABORT), "an error to remember"
    ),
    registers=(*(one.register for one in _STATUS), _MASTER_ABORT.label),
    writers=(
        "pci_scan_bridge_extend: SEC_STATUS <- FFFFh, Master-Abort Mode off and back (drivers/pci/probe.c)",
        "pci_aer_init -> pci_aer_clear_status -> pci_aer_raw_clear_status (drivers/pci/pcie/aer.c)",
        "aer_probe -> aer_enable_rootport: DEVSTA, root and own status (drivers/pci/pcie/aer.c)",
        "pcie_portdrv_shutdown -> aer_remove -> aer_disable_rootport: root status (drivers/pci/pcie/aer.c)",
    ),
    examines="preserved endpoints and bridges above them with an error bit set, or Master-Abort Mode on, when frozen",
    vacuous_when="no error bit was set when frozen: nothing could be erased",
)
