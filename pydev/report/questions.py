# SPDX-License-Identifier: MIT
"""The questions that reviewers of the first kernel series asked, answered from the record with events and names.

In which exact state each device is when the old kernel jumps; in which state its interrupts are; whether it could
raise any in between, did it, and what became of them; what the new kernel believes against what the hardware holds.
Preserved endpoints come first, then the bridges above them, then everything else in one line each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydev.continuity.beliefs import state_reports
from pydev.continuity.evidence import Evidence
from pydev.recording.functions import FunctionEntry, upstream_path
from pydev.recording.phases import Blackout, Phase
from pydev.recording.timeline import Timeline
from pydev.report import device_state, interrupt_state, kernel_beliefs
from pydev.report.lines import moment, wrapped


def questions(timeline: Timeline) -> list[str]:
    """The whole section. Never raises for what is in the recording: a report of a damaged one is a report still."""
    try:
        return _answered(timeline)
    except Exception as error:  # as the verifier does with its rules
        return wrapped(f"the reviewers' questions could not be answered: {type(error).__name__}: {error}")


def _answered(timeline: Timeline) -> list[str]:
    evidence = Evidence(timeline)
    sections: list[str] = []
    for blackout in timeline.blackouts:
        about = _About(evidence, blackout, _ordered(evidence))
        for section in (_device_states, _interrupt_states, _interrupt_fates):
            sections += [*section(about), ""]
    return [*sections, *_beliefs(evidence)]


@dataclass(frozen=True, slots=True)
class _Order:
    preserved: tuple[FunctionEntry, ...]
    bridges: tuple[FunctionEntry, ...]
    others: tuple[FunctionEntry, ...]

    @property
    def on_path(self) -> tuple[FunctionEntry, ...]:
        """What an update has to keep."""
        return (*self.preserved, *self.bridges)


@dataclass(frozen=True, slots=True)
class _About:
    evidence: Evidence
    blackout: Blackout
    order: _Order

    @property
    def jump(self) -> Phase | None:
        return self.blackout.phases.get("jump")

    def heading(self, text: str, when: str = "") -> list[str]:
        many = len(self.evidence.blackouts) > 1
        return wrapped(f"{text}{f' (update #{self.blackout.update + 1})' if many else ''}{when}")


def _ordered(evidence: Evidence) -> _Order:
    functions = evidence.timeline.functions
    above: list[FunctionEntry] = []
    for endpoint in evidence.preserved:
        above += [port for port in upstream_path(functions, endpoint.index) if port not in above]
    named = {function.index for function in (*evidence.preserved, *above)}
    return _Order(evidence.preserved, tuple(above), tuple(f for f in functions if f.index not in named))


def _at_jump(about: _About, text: str) -> Iterator[str]:
    jump = about.jump
    if jump is None:
        yield from about.heading(text, ": no jump was seen")
        return
    timeline = about.evidence.timeline
    inexact = f" ±{jump.uncertainty_ns / 1e6:.3f} ms" if jump.uncertainty_ns else ""
    yield from about.heading(text, f": at {moment(timeline, jump.t_ns)}{inexact}, {jump.source}")


def _device_states(about: _About) -> Iterator[str]:
    yield from _at_jump(about, "in which state was each device at the jump")
    if about.jump is None:
        return
    for function in about.order.on_path:
        yield from device_state.state_at_jump(about.evidence, function, about.blackout, about.jump)
    for function in about.order.others:
        yield from wrapped(device_state.state_in_short(about.evidence, function, about.jump), "  ", "    ")


def _interrupt_states(about: _About) -> Iterator[str]:
    yield from _at_jump(about, "in which state were its interrupts")
    if about.jump is None:
        return
    for function in (*about.order.on_path, *about.order.others):
        yield from interrupt_state.state_at_jump(about.evidence, function, about.jump)


def _interrupt_fates(about: _About) -> Iterator[str]:
    yield from about.heading("could it raise interrupts from frozen on, did it, and what became of them")
    for function in about.order.preserved:
        yield from interrupt_state.became_of(about.evidence, function, about.blackout)
    for function in about.order.others:
        if function.is_endpoint:
            words = interrupt_state.became_of_in_short(about.evidence, function, about.blackout)
            yield from wrapped(words, "  ", "    ")
    yield from wrapped("what ports raise for themselves never leaves QEMU, and is not on record", "  ")


def _beliefs(evidence: Evidence) -> Iterator[str]:
    reports = state_reports(evidence.timeline)
    yield "what does the kernel believe against what the hardware holds"
    order = [function.index for function in _ordered(evidence).on_path]
    before: dict[int, str] = {}
    for report in reports:
        yield from kernel_beliefs.told(evidence, report, order, before)
    if not reports:
        yield "  nobody asked it"
