# SPDX-License-Identifier: MIT
"""Clean recordings changed in one place, whole files again: every verdict has to notice (`python -m` prints how)."""
