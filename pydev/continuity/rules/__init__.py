# SPDX-License-Identifier: MIT
"""The rules, by family."""
