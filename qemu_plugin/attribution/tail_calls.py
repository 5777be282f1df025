# SPDX-License-Identifier: MIT
"""Functions that have left the stack: those that end in a jump to another (`return pci_clear_master(dev)`).

Compilers make such jumps unless frame pointers are kept, so `pci_device_shutdown` and `pci_clear_master` are
on no stack of a kernel with ORC. Which functions control has passed is told from the image: where the inner
function can have been entered from the call that is on the stack in one way only, that way is the answer;
where there are several, none is given. GDB does the same with DWARF call sites ("Tail Call Frames").
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from qemu_plugin.attribution.calls import Calls
from qemu_plugin.attribution.frames import Frame
from qemu_plugin.attribution.symbols import KernelSymbols

_JUMPS_MAX: Final = 6
_WAYS_MAX: Final = 64
"""Ways looked at before a function counts as one that can be entered from anywhere."""
_Way = tuple[tuple[int, int], ...]
"""(function, address after its jump), outermost first."""


class TailCalls:
    """Recovers the functions of one kernel's stacks that ended in a jump."""

    def __init__(self, symbols: KernelSymbols, calls: Calls) -> None:
        self._symbols, self._calls = symbols, calls
        self._pointed_at = (
            frozenset(symbols.jumps.pointed_at.tolist()) if symbols.jumps is not None else frozenset()
        )
        self._known: dict[tuple[int, int], tuple[Frame, ...]] = {}

    def between(self, inner: Frame, outer: Frame) -> tuple[Frame, ...]:
        """The functions that the call before `outer` led through to the function of `inner`, innermost first."""
        if self._symbols.jumps is None or outer.is_exact:
            return ()
        key = inner.inside, outer.address
        if key not in self._known:
            entered = self._symbols.function(inner.inside)
            self._known[key] = () if entered is None else self._between(entered, outer.address)
        return self._known[key]

    def _between(self, entered: int, return_address: int) -> tuple[Frame, ...]:
        call = self._calls.before(return_address)
        if call is None or call.callee == entered or (call.callee is None and not call.is_indirect):
            return ()
        ways = self._ways(entered)
        if call.callee is not None:
            return self._from(call.callee, entered, ways)
        complete = [way for way in ways or () if not way or way[0][0] in self._pointed_at]
        if ways is None or len(complete) != 1 or entered in self._pointed_at:
            return ()
        return _frames(complete[0])

    def _from(self, callee: int, entered: int, ways: list[_Way] | None) -> tuple[Frame, ...]:
        """The called function is certain; what follows it only where nothing can be entered by a pointer."""
        known = [way for way in ways or () if way and way[0][0] == callee]
        through = {entered, *(function for way in known for function, _ in way[1:])}
        if len(known) == 1 and not through & self._pointed_at:
            return _frames(known[0])
        return (Frame(callee, is_exact=True, is_recovered=True),)

    def _ways(self, entered: int) -> list[_Way] | None:
        """Each chain of jumps that ends at `entered`; None where there are too many."""
        found: list[_Way] = []
        for way in self._chains(entered, ()):
            found.append(way)
            if len(found) > _WAYS_MAX:
                return None
        return found

    def _chains(self, entered: int, way: _Way) -> Iterator[_Way]:
        for source, jump_end in self._sources(entered).items():
            if any(source == function for function, _ in way):
                continue  # round and round
            longer = ((source, jump_end), *way)
            yield longer
            if len(longer) < _JUMPS_MAX:
                yield from self._chains(source, longer)

    def _sources(self, target: int) -> dict[int, int]:
        """Functions that jump to `target`, with the address after the jump; with their own where there are more."""
        assert self._symbols.jumps is not None
        edges = self._symbols.jumps.edges
        begin, end = np.searchsorted(
            edges["target"], np.array([target, target + 1], dtype=np.uint64)
        ).tolist()
        sources: dict[int, int] = {}
        for _, source, jump_end in edges[begin:end].tolist():
            sources[source] = source + 1 if source in sources else jump_end
        return sources


def _frames(way: _Way) -> tuple[Frame, ...]:
    return tuple(Frame(jump_end, is_exact=False, is_recovered=True) for _, jump_end in reversed(way))
