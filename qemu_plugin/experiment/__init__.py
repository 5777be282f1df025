# SPDX-License-Identifier: MIT
"""Experiments: a guest, its endpoints, an update, an expectation; and the runner that performs them."""
