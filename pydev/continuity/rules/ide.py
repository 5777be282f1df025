# SPDX-License-Identifier: MIT
"""Encrypted links: streams of Integrity and Data Encryption on a preserved path."""

from collections.abc import Iterator
from typing import Final

from pydev.continuity.check import judge_checks, path
from pydev.continuity.kept import Kept
from pydev.continuity.rule import Rule

_LINK: Final = ("IDE_LINK_CTL", "enable")
_SELECTIVE: Final = ("IDE_SELECTIVE_CTL", "enable")


def _kept() -> Iterator[Kept]:
    for register, field in (_LINK, _SELECTIVE):
        yield Kept(register, field, at_every_moment=True, zero_shows_nothing=True)
        yield Kept(register, at_every_moment=True, only_while=(register, field))
    for register in ("IDE_RID_LIMIT", "IDE_RID_BASE", "IDE_ADDRESS_1", "IDE_ADDRESS_2", "IDE_ADDRESS_3"):
        yield Kept(register, at_every_moment=True, only_while=_SELECTIVE)
    yield Kept("IDE_CTL", "flow_through", at_every_moment=True, zero_shows_nothing=True)


_KEPT: Final = tuple(_kept())

IDE: Final = Rule(
    id="IDE",
    title="Streams of an encrypted link stay enabled as they are, at every moment",
    hazards=(42,),
    severity="D",
    why="A stream that is disabled forgets its keys and goes to Insecure: its packets are no longer sent, those that "
    "arrive are dropped, and only a new key exchange brings it back. With another ID, algorithm or address range "
    "packets belong to no stream.",
    acceptable="The stream was not enabled when frozen: a kernel gives an idle one the reserved stream ID.",
    source="PCIe 6.0 6.33.3, 6.33.4, 7.9.26.4, 7.9.26.5; linux drivers/pci/ide.c pci_ide_init, "
    "pci_ide_stream_disable",
    planted_fault="IDE_SELECTIVE_CTL of a preserved endpoint with an enabled stream written 0",
    judge=lambda evidence: judge_checks(evidence, path(evidence), _KEPT, "an encrypted link"),
    registers=tuple(dict.fromkeys(one.label for one in _KEPT)),
    writers=(
        "pci_init_capabilities -> pci_ide_init (drivers/pci/ide.c)",
        "pci_ide_stream_setup, pci_ide_stream_enable (drivers/pci/ide.c)",
        "pci_ide_stream_disable, pci_ide_stream_teardown (drivers/pci/ide.c)",
    ),
    examines="functions of the path with a stream enabled when frozen",
    vacuous_when="nothing on the path has the capability, or no stream was enabled",
)
