# SPDX-License-Identifier: MIT
"""What DMA left in memory: what the guest finds is what the record says was written, and nowhere else.

The ring is rebuilt from the record (`pydev.endpoints.payload`) and compared with the agent's own reading of
the retrieved pages: slot by slot, and page by page through their CRC-32.
"""

import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pydev.continuity.evidence import Evidence
from pydev.continuity.outcome import Finding, Judgement, Result
from pydev.continuity.preserved import Buffer, Frames, buffers, frames_of, retrieved
from pydev.continuity.rule import Rule
from pydev.continuity.streams import stream_facts
from pydev.endpoints.payload import (
    PAGE_BYTES,
    SLOT_BYTES,
    SLOT_WORDS,
    SLOTS_PER_PAGE,
    slot_checksums,
    slot_words,
)
from pydev.recording.format import Flag, Kind
from pydev.recording.functions import FunctionEntry
from pydev.recording.messages import AgentMessage
from pydev.recording.phases import Blackout
from pydev.recording.timeline import Slots, Timeline

_PAGE_SHIFT: Final = np.uint64(12)
_NOWHERE: Final = -1
_PIECE: Final = 1 << 18
"""Slots that are rebuilt in one go: eight words each."""


def _judge(evidence: Evidence) -> Result:
    judgement = Judgement()
    for blackout in evidence.blackouts:
        for function in evidence.preserved:
            _judge_function(evidence, judgement, blackout, function)
        for function in evidence.endpoints:
            if not function.preserve:
                _judge_stray(evidence, judgement, blackout, function)
    nothing = "nothing is preserved" if evidence.blackouts else "the guest was never frozen"
    is_lost = any(evidence.failed("PRESERVED-SET", function) for function in evidence.preserved)
    return judgement.result(caused_by="PRESERVED-SET" if is_lost else None, nothing=nothing)


def _judge_function(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    held = buffers(evidence, function, blackout)
    if not held:
        judgement.doubt(Finding(f"{name} is declared preserved, and the guest reported no preserve for it"))
        return
    frames = [buffer.frames for buffer in held]
    if any(part is None for part in frames):
        judgement.doubt(Finding(f"the preserve report of {name} has no readable page ranges"))
        return
    _judge_addresses(evidence, judgement, blackout, function, held)
    if blackout.refusal is not None or blackout.panic is not None:
        if _check_report(evidence, function, blackout) is None:
            return  # nobody had to retrieve, nor to look at the pages
    else:
        _judge_retrieved(evidence, judgement, blackout, function, held)
    _judge_memory(evidence, judgement, blackout, function, held)


# ------------------------------------------------------------------ addresses


def written(evidence: Evidence, function: FunctionEntry, begin_ns: int, end_ns: int) -> Slots:
    """The writes of a function that reached memory after one moment and not after another."""
    writes = evidence.timeline.transactions(Kind.DMA_WRITE, function.index)
    found: Slots = writes.slots[~writes.is_blocked & (writes.t_ns > begin_ns) & (writes.t_ns <= end_ns)]
    return found


def outside(evidence: Evidence, slots: Slots, frames: Frames) -> Slots:
    """Those writes of which a byte is not in one of the page frames."""
    address, size = evidence.timeline.columns(("address", "size"), slots)
    page = address >> _PAGE_SHIFT
    address += np.maximum(size.astype(np.uint64), np.uint64(1)) - np.uint64(1)
    is_inside = np.isin(page, frames)
    crosses = np.flatnonzero(address >> _PAGE_SHIFT != page)
    is_inside[crosses] &= np.isin(address[crosses] >> _PAGE_SHIFT, frames)
    return slots[~is_inside]


def misdirected(evidence: Evidence) -> int:
    """How many transactions went where they must not, over all blackouts."""
    count = 0
    for blackout in evidence.blackouts:
        for function in evidence.timeline.functions:
            if function.is_endpoint:
                count += len(_misdirected(evidence, blackout, function))
    return count


def _misdirected(evidence: Evidence, blackout: Blackout, function: FunctionEntry) -> Slots:
    key = ("misdirected", blackout.update, function.index)
    return evidence.timeline.remember(key, lambda: _find_misdirected(evidence, blackout, function))


def _find_misdirected(evidence: Evidence, blackout: Blackout, function: FunctionEntry) -> Slots:
    held = [b for b in buffers(evidence, function, blackout) if b.frames is not None]
    if held:
        frames = np.concatenate([b.frames for b in held if b.frames is not None])
        begin_ns = max(buffer.t_ns for buffer in held)
        return outside(evidence, written(evidence, function, begin_ns, blackout.end_ns), frames)
    # Nothing of its memory is handed over: what it writes once the outgoing kernel is gone is stray.
    sweep, updated = blackout.start_of("enumeration"), blackout.start_of("updated")
    if sweep is None:
        return np.empty(0, dtype=np.intp)
    return written(evidence, function, sweep, blackout.end_ns if updated is None else updated)


def _judge_addresses(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    held: tuple[Buffer, ...],
) -> None:
    begin_ns = max(buffer.t_ns for buffer in held)
    judgement.examined += len(written(evidence, function, begin_ns, blackout.end_ns))
    wrong = _misdirected(evidence, blackout, function)
    if len(wrong):
        judgement.fail(_address_finding(evidence, function, wrong, "outside the preserved pages"))


def _judge_stray(
    evidence: Evidence, judgement: Judgement, blackout: Blackout, function: FunctionEntry
) -> None:
    wrong = _misdirected(evidence, blackout, function)
    if len(wrong) and not buffers(evidence, function, blackout):
        what = "into the incoming kernel's memory, nothing of theirs being preserved"
        judgement.fail(_address_finding(evidence, function, wrong, what))


def _address_finding(evidence: Evidence, function: FunctionEntry, slots: Slots, what: str) -> Finding:
    timeline = evidence.timeline
    t_ns = int(timeline.t_ns[slots[0]])
    address = int(timeline.column("address", slots[:1])[0])
    name = evidence.name(function, t_ns)
    return Finding(
        f"{len(slots)} DMA writes of {name} {what}, the first to {address:#x}",
        t_ns=t_ns,
        phase=timeline.phase_at(t_ns),
        bdf=timeline.bdf_at(function.index, t_ns),
        count=len(slots),
    )


# ------------------------------------------------------------------- retrieve


def _judge_retrieved(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    held: tuple[Buffer, ...],
) -> None:
    reports = {report.number("token"): report for report in retrieved(evidence, function, blackout)}
    name = evidence.name(function, blackout.begin.t_ns)
    for buffer in held:
        report = reports.get(buffer.token)
        if report is None:
            judgement.doubt(Finding(f"no retrieve report for token {buffer.token} of {name}"))
            continue
        frames = frames_of(report)
        if frames is None:
            judgement.doubt(Finding(f"the retrieve report of {name} has no readable page ranges"))
        elif not np.array_equal(frames, buffer.frames if buffer.frames is not None else []):
            judgement.fail(
                Finding(
                    f"token {buffer.token} of {name} was retrieved with other pages than were preserved",
                    t_ns=report.t_ns,
                    phase=evidence.timeline.phase_at(report.t_ns),
                    bdf=evidence.timeline.bdf_at(function.index, report.t_ns),
                )
            )


# --------------------------------------------------------------------- memory


def _judge_memory(
    evidence: Evidence,
    judgement: Judgement,
    blackout: Blackout,
    function: FunctionEntry,
    held: tuple[Buffer, ...],
) -> None:
    name = evidence.name(function, blackout.begin.t_ns)
    slots = written(evidence, function, held[0].t_ns, blackout.end_ns)
    if not len(slots):
        judgement.vacuous(f"{name} wrote nothing into its preserved pages")
        return
    report = _check_report(evidence, function, blackout)
    if report is None:
        judgement.doubt(Finding(f"the guest never reported what it found in the pages of {name}"))
        return
    if any(facts.run_at(report.t_ns) is not None for facts in stream_facts(evidence.timeline, function)):
        judgement.doubt(Finding(f"{name} was streaming while the guest looked at its pages"))
        return
    if len(held) != 1 or held[0].frames is None:
        judgement.doubt(
            Finding(f"{name} has {len(held)} preserved buffers, and one report of what is in them")
        )
        return
    ring = _rebuild(evidence, judgement, function, held[0], report.t_ns, name)
    if ring is not None:
        _compare(evidence, judgement, function, report, ring, name)


def _check_report(evidence: Evidence, function: FunctionEntry, blackout: Blackout) -> AgentMessage | None:
    later = [b.begin.t_ns for b in evidence.blackouts if b.update > blackout.update]
    end_ns = later[0] if later else evidence.timeline.last_ns
    reports = [
        report
        for report in evidence.timeline.reports("check")
        if blackout.begin.t_ns < report.t_ns <= end_ns and evidence.function_of(report) is function
    ]
    return reports[0] if reports else None


def _rebuild(
    evidence: Evidence,
    judgement: Judgement,
    function: FunctionEntry,
    buffer: Buffer,
    end_ns: int,
    name: str,
) -> npt.NDArray[np.uint64] | None:
    """What the ring's slots hold by the record, shape (slots, 8); None, with a doubt, if it cannot tell."""
    frames = buffer.frames if buffer.frames is not None else np.empty(0, dtype=np.uint64)
    slots = written(evidence, function, buffer.zeroed_ns, end_ns)
    ring = np.zeros((len(frames) * SLOTS_PER_PAGE, SLOT_WORDS), dtype=np.uint64)
    for begin in range(0, len(slots), _PIECE):
        problem = _replay(evidence.timeline, slots[begin : begin + _PIECE], frames, ring)
        if problem is not None:
            judgement.doubt(Finding(f"{name}{problem}"))
            return None
    return ring


def _replay(timeline: Timeline, slots: Slots, frames: Frames, ring: npt.NDArray[np.uint64]) -> str | None:
    """Write some transactions, in their order, into the ring; what keeps the record from telling, if anything."""
    names = ("address", "flags", "size", "t_ns", "extra", "value", "aux")
    columns = timeline.columns(names, slots)
    order = np.argsort(frames)
    frame = columns[0] >> _PAGE_SHIFT
    page = np.minimum(np.searchsorted(frames[order], frame), len(frames) - 1)
    is_ours = frames[order][page] == frame
    address, flags, size, t_ns, extra, sequence, checksum = (column[is_ours] for column in columns)
    if ((flags & np.uint16(int(Flag.STREAM))) == 0).any():
        return " wrote into its pages what the record does not hold"
    in_page = (address & np.uint64(PAGE_BYTES - 1)).astype(np.int64)
    if (in_page % SLOT_BYTES).any() or (size != SLOT_BYTES).any():
        return " wrote something else than whole slots into its pages"
    if (slot_checksums(t_ns, extra, address, sequence, len(ring)) != checksum).any():
        return ": a transaction's checksum is not that of the slot in the record"
    # Repeated places: the last write stays (numpy assigns in order).
    last = np.full(len(ring), _NOWHERE)
    last[order[page][is_ours] * SLOTS_PER_PAGE + in_page // SLOT_BYTES] = np.arange(len(sequence))
    filled = np.flatnonzero(last != _NOWHERE)
    own = last[filled]
    ring[filled] = slot_words(t_ns[own], extra[own], address[own], sequence[own], len(ring))
    return None


def _compare(
    evidence: Evidence,
    judgement: Judgement,
    function: FunctionEntry,
    report: AgentMessage,
    ring: npt.NDArray[np.uint64],
    name: str,
) -> None:
    timeline = evidence.timeline
    found = reported_sequences(report.members, len(ring))
    crcs = report.members.get("page_crc32")
    bad_count = report.number("bad_count")
    if found is None or bad_count is None or not isinstance(crcs, list):
        judgement.doubt(Finding(f"the check report of {name} cannot be read"))
        return

    def fail(message: str, count: int) -> None:
        bdf = timeline.bdf_at(function.index, report.t_ns)
        phase = timeline.phase_at(report.t_ns)
        judgement.fail(Finding(message, t_ns=report.t_ns, phase=phase, bdf=bdf, count=count))

    if bad_count:
        fail(f"the guest found {bad_count} slots of {name} that are not what a stream writes", bad_count)
    expected = ring[:, 7].astype(np.int64)
    wrong = np.flatnonzero((found != expected) & (found != _NOWHERE))
    if len(wrong):
        at = int(wrong[0])
        fail(
            f"{len(wrong)} slots of {name} differ: slot {at} holds sequence {int(found[at])}, "
            f"the record says {int(expected[at])}",
            len(wrong),
        )
    missing = int((found == _NOWHERE).sum())
    if missing != bad_count:
        judgement.doubt(Finding(f"the check report of {name} says nothing about {missing - bad_count} slots"))
    pages = ring.astype("<u8").reshape(-1, SLOTS_PER_PAGE * SLOT_WORDS)
    rebuilt = [f"{zlib.crc32(page.tobytes()):08x}" for page in pages]
    if len(crcs) != len(rebuilt):
        judgement.doubt(Finding(f"the check report of {name} has {len(crcs)} pages, not {len(rebuilt)}"))
    differ = [number for number, (a, b) in enumerate(zip(crcs, rebuilt, strict=False)) if a != b]
    if differ:
        words = f"{len(differ)} pages of {name} differ from what the record says was written"
        fail(f"{words}: page {differ[0]}", len(differ))


def reported_sequences(members: dict[str, Any], slot_count: int) -> npt.NDArray[np.int64] | None:
    """A check report's run-length `slots`, one sequence number for each slot; -1 where it has none.

    None where the runs cannot be read, overlap or do not fit.
    """
    runs = members.get("slots")
    if not isinstance(runs, list):
        return None
    found = np.full(slot_count, _NOWHERE, dtype=np.int64)
    for run in runs:
        if not (isinstance(run, list) and len(run) == 3 and all(_is_count(n) for n in run)):
            return None
        first, count, sequence = run
        if first + count > slot_count or (found[first : first + count] != _NOWHERE).any():
            return None
        found[first : first + count] = np.arange(sequence, sequence + count) if sequence else 0
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


DMA_INTEGRITY: Final = Rule(
    id="DMA-INTEGRITY",
    title="Preserved memory holds what the device wrote, and the device wrote nowhere else",
    hazards=(1, 10, 13, 25, 45),
    severity="D",
    why="A device that writes into pages no longer its own destroys the incoming kernel in silence.",
    acceptable="Never: every transaction that reached memory has to be in the preserved pages.",
    source="linux Documentation/core-api/kho; kernel/liveupdate/luo_session.c",
    planted_fault="one DMA write to a page that was not preserved, or one slot that the guest finds changed",
    judge=_judge,
    examines="every write of each preserved endpoint that reached memory since its pages were preserved, "
    "and what the guest found in them, slot by slot and by CRC-32",
    unknown_when="where the guest never reported what it found, or looked while the stream went on",
    vacuous_when="nothing is preserved, or nothing was written into its pages",
)
