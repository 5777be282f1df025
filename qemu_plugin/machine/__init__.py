# SPDX-License-Identifier: MIT
"""The machine: QEMU's runtime, command line, process, QMP, consoles, agent channel and trace."""
