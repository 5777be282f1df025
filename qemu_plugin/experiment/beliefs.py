# SPDX-License-Identifier: MIT
"""Has the guest say what its kernel believes of the topology's functions, for the record.

What the registers hold at that time is in the record already; who compares both is `pydev.continuity.beliefs`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydev.units import bdf_text
from qemu_plugin.experiment.bench import Bench
from qemu_plugin.experiment.snapshot import locations

Command = Callable[..., Awaitable[Mapping[str, Any]]]


async def ask(bench: Bench, command: Command) -> None:
    """Have one `state` report put on record, of the functions where QEMU says that they are now.

    `command` is `Script.command`, and what it raises is raised: an agent that cannot read sysfs cannot do
    anything else either.
    """
    found = sorted(bdf for _, bdf in locations(await bench.qmp("query-pci")))
    await command("state", bdfs=" ".join(f"0000:{bdf_text(bdf)}" for bdf in found))
