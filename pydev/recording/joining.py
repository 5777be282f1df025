# SPDX-License-Identifier: MIT
"""Joins the witnesses of the guest's config writes: QEMU's TCG plugin, its trace, and the endpoints' server.

Each write has to be in the account of every witness that can see it, in the same order: endpoints' in all three,
bridges' and foreign functions' in the plugin's and the trace's. Without a plugin there are the other two. QEMU's
own writes to an endpoint have neither a plugin record nor a trace line: they are expected before the machine runs
and inside a reset sequence (interrupts disabled, COMMAND and PMCSR, DEVICE_RESET, BARs zeroed), nowhere else.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pydev.recording.alignment import Alignment, align
from pydev.recording.attribution import Attribution, accessor_width
from pydev.recording.format import PluginWay
from pydev.recording.names import RegisterNames, bytes_text
from pydev.recording.plugin import PluginWrite
from pydev.units import bdf_text

CLOCK_SLACK_NS: Final = 2_000_000
"""A witness may seem to precede one that comes after it by no more than this: two clocks, joined."""
LATE_NS: Final = 50_000_000
"""Two accounts of one write lie no further apart, unless the bench itself was that late."""


class Witness(StrEnum):
    """Who has seen a config write."""

    PLUGIN = "plugin"
    TRACE = "trace"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Write:
    """One config write, as one witness saw it."""

    t_ns: int
    slot: int
    """Index into the timeline's records; of the plugin's, its slot in the file."""
    offset: int
    value: int
    width: int | None = None
    """None in the trace."""
    bdf: int | None = None
    """None for the server, which is told no numbers."""
    is_qemus: bool = False
    """QEMU itself may have made it."""
    attribution: Attribution | None = None

    @property
    def access(self) -> tuple[int, int]:
        """What every witness knows of it."""
        return self.offset, self.value

    @property
    def request(self) -> tuple[int | None, int, int]:
        """What the plugin and the trace know of it."""
        return self.bdf, self.offset, self.value


@dataclass(frozen=True, slots=True)
class Row:
    """One write of the guest: its position in each witness's account, None for one that lacks it."""

    plugin: int | None = None
    trace: int | None = None
    server: int | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """One write of the guest, with the record that each witness has of it; None where one has none."""

    plugin: PluginWrite | None
    trace: int | None
    """Index into the timeline's records."""
    server: int | None
    """Index into the timeline's records."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A write that not every witness has, or not in the same way."""

    function: int | None
    """None: a function that is not the experiment's."""
    write: Write
    access: str
    """The registers, by name, and the offset."""
    registers: tuple[str, ...]
    """Their names; none where the header declares none there."""
    having: tuple[Witness, ...]
    lacking: tuple[Witness, ...]
    what: str
    is_ambiguous: bool = False
    """Which of several equal writes in a row it is, nobody can say."""

    @property
    def message(self) -> str:
        """One sentence, without BDF, time and author."""
        doubt = " (ambiguous: one of several equal writes)" if self.is_ambiguous else ""
        width = bytes_text(self.write.width)
        return f"write of {self.access} <- {self.write.value:#x}{width}: {self.what}{doubt}"


@dataclass(slots=True)
class FunctionAgreement:
    """How the witnesses of one function's writes agree."""

    function: int | None
    counts: dict[Witness, int] = field(default_factory=dict)
    """Writes in each account, QEMU's own left out."""
    writes: list[Joined] = field(default_factory=list)
    """Every write of the guest, in order."""
    leads_ns: list[int] = field(default_factory=list)
    """Server's time minus trace's, for each write that both saw."""
    port_lags_ns: list[int] = field(default_factory=list)
    """Trace's time minus plugin's, of writes through the ports: not negative on one clock."""
    window_lags_ns: list[int] = field(default_factory=list)
    """The same of writes through the memory-mapped window, which the plugin stamps afterwards: not positive."""
    problems: list[Disagreement] = field(default_factory=list)

    def authors(self) -> dict[int, Attribution]:
        """Who made the writes that the server recorded, by the index of its record, where the plugin saw that."""
        found: dict[int, Attribution] = {}
        for write in self.writes:
            if write.server is not None and write.plugin is not None and write.plugin.attribution is not None:
                found[write.server] = write.plugin.attribution
        return found


@dataclass(frozen=True, slots=True)
class Accounts:
    """What each witness says about one function, in its own order."""

    function: int | None
    names: RegisterNames
    has_server: bool
    plugin: Sequence[PluginWrite] | None
    """None: the run had none."""
    trace: Sequence[Write]
    server: Sequence[Write] = ()
    clock_slack_ns: int = CLOCK_SLACK_NS
    """The trace's clock may be off by so much."""
    is_untraced: Mapping[int, bool] = field(default_factory=dict)
    """Of a foreign function's writes, those (by position) that QEMU does not trace."""


def agree(accounts: Accounts) -> FunctionAgreement:
    """The accounts side by side, and every write that is not in all of them."""
    return _Join(accounts).result()


class _Join:
    """The steps of `agree`."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.plugin = [_of_plugin(write) for write in accounts.plugin or ()]
        self.trace, self.server = list(accounts.trace), list(accounts.server)
        self.guests = [n for n, write in enumerate(self.server) if not write.is_qemus]
        self.ambiguous: set[tuple[Witness, int]] = set()
        self.moved: set[Row] = set()
        """Those that some witness has elsewhere: reported."""
        has_plugin = accounts.plugin is not None
        self.expected = tuple(
            witness
            for witness, is_there in (
                (Witness.PLUGIN, has_plugin), (Witness.TRACE, True), (Witness.SERVER, accounts.has_server)
            )
            if is_there
        )  # fmt: skip
        self.result_ = FunctionAgreement(accounts.function)

    def result(self) -> FunctionAgreement:
        rows = self._with_plugin() if self.accounts.plugin is not None else self._without_plugin()
        rows = self._in_another_order(rows)
        found = self.result_
        found.counts = {
            witness: count
            for witness, count in (
                (Witness.PLUGIN, len(self.plugin)), (Witness.TRACE, len(self.trace)),
                (Witness.SERVER, len(self.guests)),
            )
            if witness in self.expected
        }  # fmt: skip
        for row in rows:
            found.writes.append(self._joined(row))
            self._compare(row)
        found.problems.sort(key=lambda problem: problem.write.t_ns)
        return found

    def _with_plugin(self) -> list[Row]:
        traced = align([w.request for w in self.plugin], [w.request for w in self.trace])
        in_trace, in_server = dict(traced.pairs), dict(self._to_server(self.plugin))
        rows = [Row(n, in_trace.get(n), in_server.get(n)) for n in range(len(self.plugin))]
        self._note(traced, Witness.PLUGIN, Witness.TRACE)
        # What the plugin lacks may still be in both of the others.
        left = [self.trace[n] for n in traced.only_right]
        taken = set(in_server.values())
        alone = [n for n in self.guests if n not in taken]
        both = align([w.access for w in left], [self.server[n].access for n in alone])
        rows += [Row(None, traced.only_right[a], alone[b]) for a, b in both.pairs]
        rows += [Row(None, traced.only_right[a], None) for a in both.only_left]
        rows += [Row(None, None, alone[b]) for b in both.only_right]
        return self._sorted(rows)

    def _without_plugin(self) -> list[Row]:
        if not self.accounts.has_server:
            return [Row(None, n, None) for n in range(len(self.trace))]
        in_server = dict(self._to_server(self.trace))
        rows = [Row(None, n, in_server.get(n)) for n in range(len(self.trace))]
        taken = set(in_server.values())
        rows += [Row(None, None, n) for n in self.guests if n not in taken]
        return self._sorted(rows)

    def _to_server(self, spine: Sequence[Write]) -> list[tuple[int, int]]:
        """The server's record of each write of a spine; one that QEMU may have made only where it has to be."""
        if not self.accounts.has_server:
            return []
        found = align([w.access for w in spine], [self.server[n].access for n in self.guests])
        which = Witness.PLUGIN if self.accounts.plugin is not None else Witness.TRACE
        self._note(found, which, Witness.SERVER, self.guests)
        pairs = [(a, self.guests[b]) for a, b in found.pairs]
        for position in found.only_left:
            at = bisect_left(pairs, (position, -1))
            after = pairs[at - 1][1] if at else -1
            before = pairs[at][1] if at < len(pairs) else len(self.server)
            own = self._qemus_like(spine[position], after + 1, before)
            if own is not None:
                pairs.insert(at, (position, own))
        return pairs

    def _qemus_like(self, write: Write, begin: int, end: int) -> int | None:
        """An equal record, near in time, among those that QEMU may have made itself."""
        for n in range(begin, end):
            other = self.server[n]
            is_near = -CLOCK_SLACK_NS <= other.t_ns - write.t_ns <= LATE_NS
            if other.is_qemus and other.access == write.access and is_near:
                return n
        return None

    def _note(
        self, found: Alignment, left: Witness, right: Witness, right_positions: Sequence[int] | None = None
    ) -> None:
        """Remember which unmatched writes could as well be their neighbours."""
        self.ambiguous |= {(left, n) for n in found.ambiguous_left}
        at = right_positions
        self.ambiguous |= {(right, n if at is None else at[n]) for n in found.ambiguous_right}

    def _sorted(self, rows: Iterable[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: self._first(row).t_ns)

    def _first(self, row: Row) -> Write:
        """The row's write in the words of the witness that knows most."""
        if row.plugin is not None:
            return self.plugin[row.plugin]
        if row.server is not None and row.trace is not None:
            return replace(self.trace[row.trace], width=self.server[row.server].width)
        if row.trace is not None:
            return self.trace[row.trace]
        assert row.server is not None
        return self.server[row.server]

    def _joined(self, row: Row) -> Joined:
        plugin = self.accounts.plugin
        return Joined(
            plugin[row.plugin] if plugin is not None and row.plugin is not None else None,
            self.trace[row.trace].slot if row.trace is not None else None,
            self.server[row.server].slot if row.server is not None else None,
        )

    def _has(self, row: Row) -> tuple[Witness, ...]:
        places = ((Witness.PLUGIN, row.plugin), (Witness.TRACE, row.trace), (Witness.SERVER, row.server))
        return tuple(witness for witness, place in places if place is not None)

    def _in_another_order(self, rows: list[Row]) -> list[Row]:
        """A write that one witness lacks here and has alone elsewhere is out of order: named once."""
        alone: dict[tuple[Witness, tuple[int, int]], list[int]] = {}
        for number, row in enumerate(rows):
            has = self._has(row)
            if len(has) == 1 and len(self.expected) > 1:
                alone.setdefault((has[0], self._first(row).access), []).append(number)
        gone: set[int] = set()
        for number, row in enumerate(rows):
            if number in gone or row in self.moved:
                continue
            has = self._has(row)
            for witness in (one for one in self.expected if one not in has):
                others = alone.get((witness, self._first(row).access), [])
                other = next((n for n in others if n not in gone and n != number), None)
                if other is not None:
                    gone.add(other)
                    self.moved.add(row)
                    self._report(row, self._moved(row, rows[other], witness))
        return [row for number, row in enumerate(rows) if number not in gone]

    def _moved(self, row: Row, other: Row, witness: Witness) -> str:
        """What is different about an account that has the same write, and has it alone."""
        numbers = self._first(row).bdf, self._first(other).bdf
        if None not in numbers and numbers[0] != numbers[1]:
            return f"the {witness} has it for {bdf_text(numbers[1] or 0)}"
        return f"the {witness} has it in another place of the order"

    def _compare(self, row: Row) -> None:
        has = self._has(row)
        lacking = tuple(witness for witness in self.expected if witness not in has)
        is_untraced = row.plugin is not None and self.accounts.is_untraced.get(row.plugin, False)
        if lacking == (Witness.TRACE,) and is_untraced:
            return
        if lacking and row not in self.moved:
            self._report(row, _who(has, lacking))
        self._compare_times(row)
        self._compare_widths(row)

    def _compare_widths(self, row: Row) -> None:
        if row.plugin is None:
            return
        write = self.plugin[row.plugin]
        by = None if write.attribution is None else accessor_width(write.attribution.frames)
        if by is not None and by[1] != write.width:
            self._report(row, f"the plugin saw {write.width} bytes, {by[0]} writes {by[1]}")
        if row.server is not None:
            widths = self.plugin[row.plugin].width, self.server[row.server].width
            if widths[0] != widths[1]:
                self._report(row, f"the plugin saw {widths[0]} bytes, the server {widths[1]}")

    def _compare_times(self, row: Row) -> None:
        found = self.result_
        traced = None if row.trace is None else self.trace[row.trace].t_ns
        if traced is not None and row.server is not None:
            lead = self.server[row.server].t_ns - traced
            found.leads_ns.append(lead)
            if lead < -self.accounts.clock_slack_ns:
                self._report(row, f"the server recorded it {-lead / 1e6:.3f} ms before the trace")
        if row.plugin is None or self.accounts.plugin is None:
            return
        # The plugin's stamp is before a port write and after one through the window.
        is_window = self.accounts.plugin[row.plugin].way == PluginWay.ECAM
        stamp = self.plugin[row.plugin].t_ns
        if row.server is not None:  # these two have one clock
            served = self.server[row.server].t_ns
            if served > stamp if is_window else served < stamp:
                self._report(row, f"the server recorded it {'after' if is_window else 'before'} it was made")
        if traced is None:
            return
        lag = traced - stamp
        (found.window_lags_ns if is_window else found.port_lags_ns).append(lag)
        late = -lag if is_window else lag
        if not -self.accounts.clock_slack_ns <= late <= LATE_NS:
            self._report(row, f"the plugin and the trace saw it {abs(lag) / 1e6:.3f} ms apart")

    def _report(self, row: Row, what: str) -> None:
        has = self._has(row)
        write = self._first(row)
        places = ((Witness.PLUGIN, row.plugin), (Witness.TRACE, row.trace), (Witness.SERVER, row.server))
        problem = Disagreement(
            self.accounts.function,
            write,
            self.accounts.names.access(write.offset, write.width),
            tuple(entry.name for entry in self.accounts.names.covered(write.offset, write.width or 1)),
            has,
            tuple(witness for witness in self.expected if witness not in has),
            what,
            any((witness, place) in self.ambiguous for witness, place in places),
        )
        self.result_.problems.append(problem)


def _of_plugin(write: PluginWrite) -> Write:
    return Write(
        write.t_ns,
        write.slot,
        write.offset,
        write.value,
        write.width,
        write.bdf,
        attribution=write.attribution,
    )


def _who(having: Sequence[Witness], lacking: Sequence[Witness]) -> str:
    """`the server has no record of it, the plugin and the trace have`."""
    words = {
        Witness.PLUGIN: "the plugin did not see it",
        Witness.TRACE: "the trace has no line for it",
        Witness.SERVER: "the server did not record it",
    }
    missing = " and ".join(words[witness] for witness in lacking)
    seen = " and ".join(f"the {witness}" for witness in having)
    return f"{missing}; {seen} {'has' if len(having) == 1 else 'have'} it"
