# SPDX-License-Identifier: MIT
"""A System.map: `nm` of a vmlinux, one symbol a line (linux scripts/mksysmap)."""

from pathlib import Path

from qemu_plugin.attribution.errors import AttributionError


def read(path: Path) -> tuple[list[str], list[int], str]:
    """Names, addresses and type letters, in the file's order; AttributionError where it is no such file."""
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise AttributionError(f"cannot read {path}: {error.strerror}") from error
    names, addresses, types = [], [], []
    for number, line in enumerate(lines, start=1):
        try:
            address, letter, name = line.split()
            addresses.append(int(address, 16))
        except ValueError:
            raise AttributionError(
                f"{path} line {number} is not 'address type name': {line[:60]!r}"
            ) from None
        names.append(name)
        types.append(letter[0])
    return names, addresses, "".join(types)
