# SPDX-License-Identifier: MIT
"""The recording: file format, reader, timeline."""
