# SPDX-License-Identifier: MIT
"""Exchanges of data objects that were under way when the guest was frozen."""

from dataclasses import dataclass
from typing import Final

from pydev.continuity.check import Case, judge_checks, path
from pydev.continuity.evidence import watch
from pydev.continuity.kept import Kept
from pydev.continuity.outcome import Finding
from pydev.continuity.rule import Rule
from pydev.continuity.written import ConfigWrite, blackout_writes, config_writes, finding_of
from pydev.recording.config import known
from pydev.recording.functions import RegisterEntry

_MAILBOX: Final = ("DOE_WRITE", "DOE_READ")
_BEGINS: Final = "go"
_ENDS: Final = "abort"


@dataclass(frozen=True, slots=True)
class _Undisturbed:
    """An exchange that began before the freeze, and that nobody else may touch."""

    def judge(self, case: Case) -> bool:
        states = [
            watch(case.evidence, case.function, case.blackout, "DOE_STATUS", field)
            for field in ("busy", "data_object_ready")
        ]
        if any(state is None for state in states) or "DOE_CTRL" not in case.function.registers:
            return False
        held = [known(state.initial) for state in states if state is not None]
        is_begun = _request_is_begun(case)
        if not is_begun and held == [0, 0]:
            case.notes.append(f"no exchange with {case.name} was under way when frozen")
            return False
        is_sure = is_begun or 1 in held
        for write, is_at_edge in blackout_writes(case.evidence, case.function, case.blackout):
            what = _disturbs(case, write)
            if what is None:
                continue
            is_certain = is_sure and not is_at_edge
            finding = finding_of(
                case.evidence,
                case.function,
                write,
                what,
                None,
                f"written with {write.value:#x}, which ends an exchange of the outgoing kernel's"
                + ("" if is_certain else " (not certain)"),
            )
            if is_certain:
                case.judgement.fail(finding)
                return True
            case.judgement.doubt(finding)
            break
        if not is_sure:
            case.judgement.doubt(Finding(f"DOE_STATUS of {case.name} is not known when frozen"))
        return True


def _request_is_begun(case: Case) -> bool:
    """Whether dwords of a request were written and neither sent nor forgotten, when frozen."""
    registers = case.function.registers
    control, mailbox = registers["DOE_CTRL"], registers.get("DOE_WRITE")
    count = 0
    for write in config_writes(case.evidence, case.function):
        if write.t_ns > case.blackout.begin.t_ns:
            break
        if mailbox is not None and write.touches(mailbox):
            count += 1
        elif any(_has_one(write, control, field) for field in (_BEGINS, _ENDS)):
            count = 0
    return count > 0


def _disturbs(case: Case, write: ConfigWrite) -> RegisterEntry | None:
    """The register by which a write ends, or mixes up, an exchange under way."""
    registers = case.function.registers
    control = registers["DOE_CTRL"]
    if any(_has_one(write, control, field) for field in (_BEGINS, _ENDS)):
        return control
    return next(
        (registers[name] for name in _MAILBOX if name in registers and write.touches(registers[name])), None
    )


def _has_one(write: ConfigWrite, register: RegisterEntry, field: str) -> bool:
    entry = register.fields.get(field)
    written = None if entry is None else write.field(register, entry)
    return written is not None and bool(written[0])


DOE: Final = Rule(
    id="DOE",
    title="An exchange of data objects that was under way when frozen is not aborted",
    hazards=(41,),
    severity="T",
    why="An abort throws away request and response: a session that was being set up (SPDM: who the device is, and "
    "its keys) breaks off, and the device may refuse the next one. A new request over an old one mixes both up.",
    acceptable="No exchange was under way: then an abort ends nothing, and each kernel's scan issues one.",
    source="PCIe 6.0 6.30.2, 7.9.24.3; linux drivers/pci/doe.c pci_doe_create_mb, pci_doe_abort, pci_doe_send_req",
    planted_fault="DOE_CTRL.abort of a preserved endpoint written with 1 while a response waits to be read",
    judge=lambda evidence: judge_checks(
        evidence,
        path(evidence),
        (_Undisturbed(), Kept("DOE_CTRL", "interrupt", zero_shows_nothing=True)),
        "a mailbox for data objects",
    ),
    registers=(
        "DOE_CTRL.abort", "DOE_CTRL.go", "DOE_CTRL.interrupt", "DOE_STATUS.busy", "DOE_STATUS.data_object_ready",
        "DOE_WRITE", "DOE_READ",
    ),
    writers=(
        "pci_init_capabilities -> pci_doe_init -> pci_doe_create_mb -> pci_doe_abort (drivers/pci/doe.c)",
        "pci_doe_cache_features -> pci_doe_discovery -> pci_doe_send_req, pci_doe_recv_resp (drivers/pci/doe.c)",
    ),
    examines="mailboxes of the path with a request begun, busy, or with a response to be read, when frozen",
    unknown_when="DOE_STATUS was never seen, and the mailbox was written",
    vacuous_when="nothing on the path has a mailbox, or no exchange was under way",
)  # fmt: skip
