# SPDX-License-Identifier: MIT
"""Guest memory for tests: ranges that exist, and nothing between them."""

from pydev.units import Iova


class Memory:
    """Mapped ranges by bus address. An access that leaves its range hits nothing, as on the real bus."""

    def __init__(self) -> None:
        self._ranges: dict[int, bytearray] = {}

    def map(self, iova: int, size_bytes: int) -> Iova:
        """Make `size_bytes` of zeros exist at `iova`; ValueError where something is there already."""
        for start, data in self._ranges.items():
            if start < iova + size_bytes and iova < start + len(data):
                raise ValueError(
                    f"{iova:#x}+{size_bytes:#x} overlaps what is mapped at {start:#x}+{len(data):#x}"
                )
        self._ranges[iova] = bytearray(size_bytes)
        return Iova(iova)

    def unmap(self, iova: int) -> None:
        """Take a range away again."""
        del self._ranges[iova]

    def _find(self, iova: int, size_bytes: int) -> tuple[bytearray, int] | None:
        for start, data in self._ranges.items():
            if start <= iova and iova + size_bytes <= start + len(data):
                return data, iova - start
        return None

    def read(self, iova: int, size_bytes: int) -> bytes | None:
        """The bytes, or None where they are not all in one mapped range."""
        found = self._find(iova, size_bytes)
        return None if found is None else bytes(found[0][found[1] : found[1] + size_bytes])

    def write(self, iova: int, data: bytes) -> bool:
        """Store the bytes; False, and nothing stored, where they are not all in one mapped range."""
        found = self._find(iova, len(data))
        if found is None:
            return False
        found[0][found[1] : found[1] + len(data)] = data
        return True
