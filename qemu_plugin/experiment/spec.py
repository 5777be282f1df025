# SPDX-License-Identifier: MIT
"""An experiment as a TOML file: what runs, what is preserved, what is done at which phase, what is expected."""

import errno
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from qemu_plugin.errors import UsageError
from qemu_plugin.experiment.tables import check_keys, from_table, nearest
from qemu_plugin.machine import iommu
from qemu_plugin.machine.commandline import Port, port_kinds

HOLDABLE_PHASES: Final = ("normal", "prepared", "frozen", "updated", "finished")
"""Phases at whose beginning the guest waits for the host, so that a step can act there."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What boots, and into what it updates itself."""

    kernel: str = "luo"
    next_kernel: str | None = None
    memory_mib: int = 256
    cpus: int = 1
    command_line: str = ""
    next_command_line: str | None = None
    accelerator: str = "tcg"
    iommu: str | None = None
    """`intel`: a VT-d remapping unit in front of everything (the kernel decides whether it translates)."""
    attribution: bool = True
    """Whether QEMU's TCG plugin records who makes each config write; with other accelerators there is none."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """The heartbeat of a stream endpoint."""

    pages: int = 64
    period_us: float = 100.0
    interrupt_every: int = 64
    interrupt: bool = True


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One endpoint: its model, where it sits, whether the update has to keep it alive."""

    id: str
    port: str
    model: str = "stream"
    preserve: bool = False
    session: str | None = None
    """The session that it is preserved in, if not the update's."""
    stream: Streaming | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Update:
    """How the guest updates itself."""

    count: int = 1
    session: str = "luscope"
    preserve_memory: bool = True
    """False: the stream's buffer is ordinary memory, which the incoming kernel knows nothing of."""
    cancel_first: bool = False
    """Preserve, un-preserve and go on, before the update."""
    retrieve: bool = True
    """False: nobody asks the incoming kernel for what was preserved."""
    finish_early: str | None = None
    """Finish the session after the first device came back; the kernel has to refuse with this errno."""
    resume_slots: int = 128
    """How many slots have to be written after the device is claimed again, before the stream is stopped."""


@dataclass(frozen=True, slots=True)
class Expect:
    """What the experiment's author says will come out."""

    outcome: str = "PASS"
    failing_rules: tuple[str, ...] = ()
    guest: str = "updated"
    errno: str | None = None
    console: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Something done when a phase has begun, while the guest waits."""

    phase: str
    agent: Mapping[str, Any] | None = None
    """`cmd` and its members; `@ID` stands for an endpoint's BDF."""
    qmp: Mapping[str, Any] | None = None
    """`execute` and `arguments`."""
    errno: str | None = None
    """The kernel has to refuse the agent's command with this."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each wait may last, in seconds. They catch a hang; they are not measurements."""

    boot_s: float = 120.0
    update_s: float = 120.0
    command_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Experiment:
    """A whole experiment, checked: every name in it exists."""

    name: str
    description: str
    guest: Guest
    ports: tuple[Port, ...]
    endpoints: tuple[EndpointSpec, ...]
    update: Update
    policy: str
    expect: Expect
    steps: tuple[Step, ...]
    deadlines: Deadlines
    source: str
    """The text it was read from, kept beside the recording."""


DEFAULT_PORTS: Final = (
    Port("rp1", "root_port", None, 1 << 3),
    Port("up1", "upstream_port", "rp1", 0),
    Port("dn1", "downstream_port", "up1", 0),
    Port("dn2", "downstream_port", "up1", 1 << 3),
    Port("rp2", "root_port", None, 2 << 3),
)
"""A root port above a switch with two downstream ports, and a second root port."""

STREAM_PAGES_MAX: Final = 512
"""Entries of the stream endpoint's page table."""

_OUTCOMES: Final = ("PASS", "FAIL", "VACUOUS", "UNKNOWN")
_GUESTS: Final = ("updated", "refused", "cancelled", "rebooted", "panic")
_TABLES: Final = (
    "name",
    "description",
    "policy",
    "guest",
    "port",
    "endpoint",
    "update",
    "expect",
    "step",
    "deadlines",
)


def shipped() -> dict[str, Path]:
    """The experiments that come with the package, by name."""
    folder = Path(str(resources.files("qemu_plugin.experiment") / "shipped"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(name_or_path: str) -> Experiment:
    """The shipped experiment of that name, or the file at that path. UsageError says what is wrong where."""
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.exists():
        known = shipped()
        if name_or_path not in known:
            raise UsageError(
                f"no experiment is called {name_or_path!r}{nearest(name_or_path, known)}; shipped: {', '.join(known)}"
            )
        path = known[name_or_path]
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    experiment = parse(text, str(path))
    beside = path.parent / experiment.policy
    return replace(experiment, policy=str(beside)) if beside.is_file() else experiment


def parse(text: str, where: str) -> Experiment:
    """The experiment that `text` describes; `where` names it in errors (UsageError)."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML: {error}") from error
    check_keys(document, _TABLES, where)
    experiment = Experiment(
        name=_string(document, "name", where, Path(where).stem),
        description=_string(document, "description", where, ""),
        guest=from_table(Guest, document.get("guest", {}), f"{where}: [guest]"),
        ports=_ports(document.get("port"), where),
        endpoints=tuple(
            from_table(EndpointSpec, entry, f"{where}: [[endpoint]] {number}")
            for number, entry in enumerate(_list(document, "endpoint", where), start=1)
        ),
        update=from_table(Update, document.get("update", {}), f"{where}: [update]"),
        policy=_string(document, "policy", where, "series"),
        expect=from_table(Expect, document.get("expect", {}), f"{where}: [expect]"),
        steps=tuple(
            from_table(Step, entry, f"{where}: [[step]] {number}")
            for number, entry in enumerate(_list(document, "step", where), start=1)
        ),
        deadlines=from_table(Deadlines, document.get("deadlines", {}), f"{where}: [deadlines]"),
        source=text,
    )
    _check(experiment, where)
    return experiment


def _string(document: Mapping[str, Any], key: str, where: str, default: str) -> str:
    value = document.get(key, default)
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} has to be a string, not {value!r}")
    return value


def _list(document: Mapping[str, Any], key: str, where: str) -> Sequence[Mapping[str, Any]]:
    value = document.get(key, [])
    if not isinstance(value, list):
        raise UsageError(f"{where}: {key} has to be written [[{key}]], once for each")
    return value


def _ports(entries: Any, where: str) -> tuple[Port, ...]:
    if entries is None:
        return DEFAULT_PORTS
    if not isinstance(entries, list):
        raise UsageError(f"{where}: port has to be written [[port]], once for each")
    written = [
        from_table(_PortEntry, entry, f"{where}: [[port]] {n}") for n, entry in enumerate(entries, start=1)
    ]
    return tuple(
        Port(entry.id, entry.kind, entry.parent, entry.device << 3 | entry.function) for entry in written
    )


@dataclass(frozen=True, slots=True)
class _PortEntry:
    id: str
    kind: str
    parent: str | None = None
    device: int = 0
    function: int = 0


_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")


def _check(experiment: Experiment, where: str) -> None:
    """UsageError for the first thing that names something that does not exist, or cannot be built."""
    _check_ports(experiment.ports, where)
    ports = {port.id: port for port in experiment.ports}
    taken: dict[str, str] = {
        port.parent: port.id for port in experiment.ports if port.parent and port.kind == "upstream_port"
    }
    if not experiment.endpoints:
        raise UsageError(f"{where}: there is no [[endpoint]]")
    for endpoint in experiment.endpoints:
        here = f"{where}: endpoint {endpoint.id!r}"
        _check_identifier(endpoint.id, where, ports)
        if endpoint.port not in ports or ports[endpoint.port].kind == "upstream_port":
            usable = [port.id for port in experiment.ports if port.kind != "upstream_port"]
            raise UsageError(
                f"{here}: no root or downstream port is called {endpoint.port!r}{nearest(endpoint.port, usable)}"
            )
        if endpoint.port in taken:
            raise UsageError(f"{here}: {endpoint.port!r} already has {taken[endpoint.port]!r} below it")
        taken[endpoint.port] = endpoint.id
        if endpoint.stream is not None:
            _check_streaming(endpoint.stream, here)
    names = [endpoint.id for endpoint in experiment.endpoints]
    if len(set(names)) != len(names):
        raise UsageError(f"{where}: two endpoints have the same id")
    _check_choices(experiment, where)


def _check_identifier(name: str, where: str, others: Iterable[str]) -> None:
    if not _IDENTIFIER.fullmatch(name):
        raise UsageError(f"{where}: {name!r} is no id: a letter, then letters, digits, - and _")
    if name in others:
        raise UsageError(f"{where}: two things are called {name!r}")


def _check_ports(ports: Sequence[Port], where: str) -> None:
    seen: dict[str, Port] = {}
    below = {
        "root_port": (None,),
        "upstream_port": ("root_port", "downstream_port"),
        "downstream_port": ("upstream_port",),
    }
    for port in ports:
        _check_identifier(port.id, where, seen)
        here = f"{where}: port {port.id!r}"
        if port.kind not in port_kinds():
            raise UsageError(
                f"{here}: kind {port.kind!r} is none of {', '.join(port_kinds())}{nearest(port.kind, port_kinds())}"
            )
        parent = seen.get(port.parent) if port.parent else None
        if (parent.kind if parent else None) not in below[port.kind] or (port.parent and not parent):
            wanted = " or ".join(kind or "nothing" for kind in below[port.kind])
            raise UsageError(
                f"{here}: a {port.kind} has {wanted} above it, declared before it; not {port.parent!r}"
            )
        if not 0 <= port.devfn <= 0xFF or (port.kind == "root_port" and port.devfn == 0):
            raise UsageError(
                f"{here}: device {port.devfn >> 3} function {port.devfn & 7} is not free on its bus"
            )
        if any(other.parent == port.parent and other.devfn == port.devfn for other in seen.values()):
            raise UsageError(f"{here}: its device number is taken by another port on the same bus")
        seen[port.id] = port


def _check_streaming(stream: Streaming, here: str) -> None:
    if not 1 <= stream.pages <= STREAM_PAGES_MAX:
        raise UsageError(f"{here}: stream.pages is 1 to {STREAM_PAGES_MAX}, not {stream.pages}")
    if not 1 <= stream.period_us <= 1_000_000:
        raise UsageError(f"{here}: stream.period_us is 1 to 1000000, not {stream.period_us:g}")
    if not 0 <= stream.interrupt_every < 1 << 32:
        raise UsageError(
            f"{here}: stream.interrupt_every is 0 (never) or a number of slots, not {stream.interrupt_every}"
        )


def _check_choices(experiment: Experiment, where: str) -> None:
    expect, guest = experiment.expect, experiment.guest
    for value, choices, key in (
        (expect.outcome, _OUTCOMES, "[expect]: outcome"),
        (expect.guest, _GUESTS, "[expect]: guest"),
        *(
            (step.phase, HOLDABLE_PHASES, f"[[step]] {n}: phase")
            for n, step in enumerate(experiment.steps, start=1)
        ),
    ):
        if value not in choices:
            raise UsageError(
                f"{where}: {key} {value!r} is none of {', '.join(choices)}{nearest(value, choices)}"
            )
    for pattern in expect.console:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{where}: [expect]: console pattern {pattern!r}: {error}") from error
    for number, step in enumerate(experiment.steps, start=1):
        if (step.agent is None) == (step.qmp is None):
            raise UsageError(f"{where}: [[step]] {number}: give either agent or qmp")
        key, action = ("agent", step.agent) if step.agent is not None else ("qmp", step.qmp)
        if step.errno is not None and (key != "agent" or step.errno not in errno.errorcode.values()):
            raise UsageError(
                f"{where}: [[step]] {number}: errno is a name such as EBUSY, of an agent's refusal"
            )
        verb = "cmd" if key == "agent" else "execute"
        if not isinstance((action or {}).get(verb), str):
            raise UsageError(f'{where}: [[step]] {number}: {key} needs {verb} = "..."')
    if not 96 <= guest.memory_mib <= 1 << 20:
        raise UsageError(f"{where}: [guest]: memory_mib is at least 96, not {guest.memory_mib}")
    if not 1 <= guest.cpus <= 64:
        raise UsageError(f"{where}: [guest]: cpus is 1 to 64, not {guest.cpus}")
    if guest.iommu is not None and guest.iommu not in iommu.KINDS:
        raise UsageError(
            f"{where}: [guest]: iommu is {' or '.join(map(repr, iommu.KINDS))}, not {guest.iommu!r}"
        )
    early = experiment.update.finish_early
    if early is not None and early not in errno.errorcode.values():
        raise UsageError(
            f"{where}: [update]: finish_early is the name of an errno such as EBUSY, not {early!r}"
        )
    if not 1 <= experiment.update.count <= 100:
        raise UsageError(f"{where}: [update]: count is 1 to 100, not {experiment.update.count}")
    for key in ("boot_s", "update_s", "command_s"):
        if not getattr(experiment.deadlines, key) > 0:
            raise UsageError(f"{where}: [deadlines]: {key} has to be more than 0 seconds")


def override(
    experiment: Experiment,
    *,
    kernel: str | None,
    next_kernel: str | None,
    policy: str | None,
    attribution: bool = True,
) -> Experiment:
    """The experiment with what a command line says instead; a new `kernel` is its own next one.

    `attribution` can only be taken away.
    """
    guest = experiment.guest
    if kernel is not None:
        guest = replace(guest, kernel=kernel, next_kernel=None)
    if next_kernel is not None:
        guest = replace(guest, next_kernel=next_kernel)
    if not attribution:
        guest = replace(guest, attribution=False)
    return replace(experiment, guest=guest, policy=policy or experiment.policy)
