# SPDX-License-Identifier: MIT
"""Figures, printed and never asserted: `python -m bench`, from a checkout."""
