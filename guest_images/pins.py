# SPDX-License-Identifier: MIT
"""`images.toml` as values: which packages, in which version range, from which suites."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent / "images.toml"


@dataclass(frozen=True, slots=True)
class Suites:
    """Where Debian's packages are looked for."""

    base: str
    backports: str
    older: tuple[str, ...]

    def for_host(self, codename: str, configured: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield sets of suites in the order in which they are tried.

        Args:
            codename: the host's release, "" where it has none.
            configured: the suites that the host's own Debian source names.
        """
        if codename not in (*self.older, self.base):
            own = codename if codename in configured else next(iter(configured), None)
            if own is not None and own not in (*self.older, self.base):
                yield (own,)
        yield (self.base, self.backports)


@dataclass(frozen=True, slots=True)
class Pin:
    """Packages and the half-open range of upstream versions that will do.

    `room_mib` is the space that getting them takes. For a kernel built here `fragments` are files of
    `guest_images/kernel`, in order; one that is `based_on` another has the other's source, fragments and
    patches first. `overlay` names folders of `guest_images` and where in the tree their files are copied.
    """

    names: tuple[str, ...]
    at_least: str
    below: str | None
    room_mib: int
    fragments: tuple[str, ...] = ()
    based_on: str | None = None
    overlay: tuple[tuple[str, str], ...] = ()

    @property
    def is_built(self) -> bool:
        """Whether it is a kernel that is built here, and not fetched."""
        return bool(self.fragments) or self.based_on is not None


def suites() -> Suites:
    """Return the suites of `images.toml`."""
    table = _table()["debian"]
    return Suites(table["base"], table["backports"], tuple(table["older"]))


def package(name: str) -> Pin:
    """Return the pin `[packages.NAME]`."""
    return _pin(_table()["packages"][name])


def kernel(name: str) -> Pin:
    """Return the pin `[kernels.NAME]`."""
    return _pin(_table()["kernels"][name])


def kernel_names() -> tuple[str, ...]:
    """Return the names of the kernels that `images.toml` knows."""
    return tuple(_table()["kernels"])


def _pin(table: Mapping[str, Any]) -> Pin:
    return Pin(
        names=tuple(table.get("names", ())),
        at_least=table.get("at_least", "0"),
        below=table.get("below"),
        room_mib=table["room_mib"],
        fragments=tuple(table.get("fragments", ())),
        based_on=table.get("based_on"),
        overlay=tuple(table.get("overlay", {}).items()),
    )


def _table() -> Mapping[str, Any]:
    return tomllib.loads(_FILE.read_text())
