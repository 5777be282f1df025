# SPDX-License-Identifier: MIT
"""Serves a `pydev` function to a vfio-user client."""

from qemu_plugin.server.endpoint_server import EndpointServer as EndpointServer
