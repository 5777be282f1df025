# SPDX-License-Identifier: MIT
"""The guest's C headers that are made: `python -m guest_images.headers` writes them.

The stream endpoint's registers are declared in Python; what the driver offers is declared beside the driver. Agent and
driver have each a copy of what they need, so that a C compiler alone builds either; a test holds the copies to it.
"""

from pathlib import Path
from typing import Final

from pydev.endpoints import stream_registers
from pydev.endpoints.stream_registers import STREAM_REGISTERS
from pydev.registers import c_header

_AGENT: Final = Path(__file__).parent / "agent"
_DRIVER: Final = Path(__file__).parent / "driver"
STREAM_HEADERS: Final = (_AGENT / "stream_regs.h", _DRIVER / "stream_regs.h")
DRIVER_ABI: Final = _DRIVER / "luscope_stream.h"
AGENT_ABI: Final = _AGENT / "luscope_stream.h"


def stream_header() -> str:
    """The text that each of STREAM_HEADERS has to have."""
    constants = {
        "ID_VALUE": stream_registers.Id.fields["value"].reset,
        "SIZE_BYTES": stream_registers.BAR_BYTES,
    }
    return c_header("STREAM", STREAM_REGISTERS, source=stream_registers.__name__, constants=constants)


def main() -> None:
    """Write them anew."""
    for header in STREAM_HEADERS:
        header.write_text(stream_header(), encoding="ascii")
    AGENT_ABI.write_bytes(DRIVER_ABI.read_bytes())


if __name__ == "__main__":
    main()
