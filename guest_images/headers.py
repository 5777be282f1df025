# SPDX-License-Identifier: MIT
"""The stream endpoint's registers as a C header: `python -m guest_images.headers` writes it.

It is checked in, so that the agent can be built by a C compiler alone; a test holds it to the declaration.
"""

from pathlib import Path
from typing import Final

from pydev.endpoints import stream_registers
from pydev.endpoints.stream_registers import STREAM_REGISTERS
from pydev.registers import c_header

STREAM_HEADER: Final = Path(__file__).parent / "agent" / "stream_regs.h"


def stream_header() -> str:
    """The text that STREAM_HEADER has to have."""
    constants = {
        "ID_VALUE": stream_registers.Id.fields["value"].reset,
        "SIZE_BYTES": stream_registers.BAR_BYTES,
    }
    return c_header("STREAM", STREAM_REGISTERS, source=stream_registers.__name__, constants=constants)


def main() -> None:
    """Write the header anew."""
    STREAM_HEADER.write_text(stream_header(), encoding="ascii")


if __name__ == "__main__":
    main()
