# SPDX-License-Identifier: MIT
"""The C core and its thin Python faces. Nothing here knows a device model."""
