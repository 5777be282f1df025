# SPDX-License-Identifier: MIT
import pytest

from pydev.recording.attribution import Attribution

# Stacks as kernels leave them: Linux 7.3.4 and Debian's 6.12, both unwound by ORC.
SHUTDOWN = ("pci_device_shutdown", "device_shutdown", "kernel_restart_prepare", "kernel_kexec")


def written_by(*frames: str) -> str | None:
    return Attribution("outgoing", frames, 0, 0).function


@pytest.mark.parametrize(
    ("frames", "function"),
    [
        (
            ("pci_conf1_write", "pci_write_config_word", "__pci_set_master", "pci_clear_master"),
            "pci_clear_master",
        ),
        (("pci_conf1_write", "pci_write_config_word", "pci_clear_master"), "pci_clear_master"),
        (
            ("pci_conf1_write", "raw_pci_write", "pci_write", "pci_bus_write_config_word", "pci_intx"),
            "pci_intx",
        ),
    ],
)
def test_the_function_that_cleared_bus_mastering_is_named_whatever_was_inlined(
    frames: tuple[str, ...], function: str
) -> None:
    assert written_by(*frames, *SHUTDOWN) == function


def test_a_worker_whose_caller_is_not_known_keeps_its_own_name() -> None:
    assert written_by("pci_conf1_write", "__pci_set_master", "device_shutdown") == "__pci_set_master"
    assert written_by("pci_conf1_write", "__pci_pme_active", "pci_pm_init") == "__pci_pme_active"


def test_a_function_with_two_underscores_is_named_by_its_public_face() -> None:
    assert (
        written_by("pci_conf1_write", "__pci_pme_active", "pci_pme_active", "pci_pm_init") == "pci_pme_active"
    )


def test_a_write_through_sysfs_is_named_by_sysfs() -> None:
    frames = ("pci_conf1_write", "pci_user_write_config_word", "pci_write_config", "kernfs_fop_write_iter")
    assert written_by(*frames) == "pci_write_config"


def test_a_capability_accessor_is_not_the_reason() -> None:
    frames = ("pci_conf1_write", "pcie_capability_write_word", "pcie_capability_clear_and_set_word_locked")
    assert written_by(*frames, "pcie_pme_remove", "pcie_port_bus_remove") == "pcie_pme_remove"


def test_functions_that_only_begin_like_an_accessor_are_reasons() -> None:
    assert (
        written_by("pci_conf1_write", "pci_write_msi_msg", "msi_domain_set_affinity") == "pci_write_msi_msg"
    )


def test_what_a_compiler_or_a_module_adds_is_no_part_of_the_name() -> None:
    assert written_by("pci_conf1_write", "aer_enable_rootport.isra.0", "aer_probe") == "aer_enable_rootport"
    assert written_by("pci_conf1_write", "pci_setup_device.cold") == "pci_setup_device"
    assert written_by("pci_conf1_write", "nvme_reset_work [nvme]") == "nvme_reset_work"


def test_where_there_are_only_accessors_the_innermost_is_named() -> None:
    assert written_by("pci_conf1_write", "raw_pci_write") == "pci_conf1_write"
    assert written_by() is None
