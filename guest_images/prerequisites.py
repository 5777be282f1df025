# SPDX-License-Identifier: MIT
"""`python3 -m guest_images.prerequisites`: the system packages that `make setup` needs before anything else.

Installs them when it is run by root; otherwise prints one line that names all of them. Needs Python 3.11 and
nothing else.
"""

import os
import sys

from guest_images import build_tools, source_kernel
from guest_images.errors import ImageError
from guest_images.progress import PlainProgress


def guest_needs() -> dict[str, str]:
    """Return what building the guest needs: kernel tools only while there is a kernel to build."""
    has_kernel = source_kernel.cached("luo") is not None and not os.environ.get("LUSCOPE_LINUX_SOURCE")
    return {**build_tools.AGENT, **({} if has_kernel else build_tools.KERNEL)}


def main() -> int:
    """Make sure that they are here; return an exit status."""
    try:
        build_tools.require({**build_tools.PYTHON, **guest_needs()}, "the set-up", PlainProgress())
    except ImageError as error:
        for line in error.details:
            print(f"  {line}", file=sys.stderr)
        print(f"luscope: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
