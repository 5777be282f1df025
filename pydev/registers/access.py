# SPDX-License-Identifier: MIT
"""How software may touch a field: the register attributes of PCIe 6.0 7.4, as one type."""

from enum import Enum


class Access(Enum):
    """Attribute of a field. The value is the spelling in a recording's header."""

    RO = "ro"
    """Read only: writes are ignored."""
    HWINIT = "hwinit"
    """Read only, set by firmware or wiring; no reset but power-on touches it."""
    RW = "rw"
    """Read and write."""
    RW1C = "rw1c"
    """Status: a written one clears, a zero leaves."""
    WO = "wo"
    """A written one or number has an effect, and reads give 0."""
    ROS = "ros"
    """As RO; sticky: no reset but power-on touches it."""
    RWS = "rws"
    """As RW; sticky."""
    RW1CS = "rw1cs"
    """As RW1C; sticky."""

    @property
    def is_writable(self) -> bool:
        """Whether a write stores the written bits."""
        return self in (Access.RW, Access.RWS)

    @property
    def is_write_one_clear(self) -> bool:
        """Whether written ones clear."""
        return self in (Access.RW1C, Access.RW1CS)

    @property
    def is_sticky(self) -> bool:
        """Whether the value lives through every reset but power-on (PCIe 6.0 7.4, 6.6.2)."""
        return self in (Access.HWINIT, Access.ROS, Access.RWS, Access.RW1CS)
