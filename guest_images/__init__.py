# SPDX-License-Identifier: MIT
"""Recipes for what the guest runs: kernels, the agent, the initial file system."""
