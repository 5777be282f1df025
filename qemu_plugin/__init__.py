# SPDX-License-Identifier: MIT
"""The vfio-user server, and everything else that touches QEMU."""
