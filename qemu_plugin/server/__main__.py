# SPDX-License-Identifier: MIT
"""`python -m qemu_plugin.server SPECIFICATION.json`."""

import sys

from qemu_plugin.server.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
