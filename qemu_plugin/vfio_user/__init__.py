# SPDX-License-Identifier: MIT
"""vfio-user's messages for both roles, without I/O; `client` has a small blocking client for tests.

VFIOU is QEMU 11.1 `docs/interop/vfio-user.rst`; a quoted word behind it is its heading.
"""

from qemu_plugin.vfio_user.header import Command as Command
from qemu_plugin.vfio_user.header import Header as Header
from qemu_plugin.vfio_user.header import HeaderFlag as HeaderFlag
