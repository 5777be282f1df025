# SPDX-License-Identifier: MIT
"""Who made a config write: the TCG plugin inside QEMU, and the names of what it saw."""
