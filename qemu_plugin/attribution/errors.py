# SPDX-License-Identifier: MIT
"""What can keep a write from being attributed."""

from qemu_plugin.errors import LuscopeError


class AttributionError(LuscopeError):
    """One line: which image or table cannot be used, and why. A run goes on without the names."""
