# SPDX-License-Identifier: MIT
"""Endpoints, recordings and their judgement. Nothing here knows that QEMU exists."""
