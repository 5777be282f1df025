# SPDX-License-Identifier: MIT
"""What an experiment's author said would come out, and whether it did."""

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydev.continuity.catalogue import rule
from pydev.continuity.guest import GUESTS
from pydev.continuity.outcome import Outcome
from pydev.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Expectation:
    """An experiment's `[expect]`. Nothing said means PASS and updated; PolicyError for what does not exist.

    `failing_rules` is the exact set, and is not empty where the outcome is FAIL.
    """

    outcome: str = "PASS"
    failing_rules: Sequence[str] = ()
    guest: str = "updated"
    errno: str | int | None = None
    """A name such as "EBUSY", or its number."""
    console: Sequence[str] = ()
    """Regular expressions, each of which some console line has to match."""
    user_rules: Sequence[str] = ()
    """The ids of the policy's own rules, which `failing_rules` may name as well as the catalogue's."""

    def __post_init__(self) -> None:
        if self.outcome not in list(Outcome):
            raise PolicyError(f"expected outcome {self.outcome!r} is none of {', '.join(Outcome)}")
        if self.guest not in GUESTS:
            raise PolicyError(f"expected guest {self.guest!r} is none of {', '.join(GUESTS)}")
        for rule_id in self.failing_rules:
            if rule_id not in self.user_rules:
                rule(rule_id)
        if (self.outcome == Outcome.FAIL) != bool(self.failing_rules):
            raise PolicyError(
                f"expected outcome {self.outcome} with failing_rules {list(self.failing_rules)}: "
                "rules fail in a FAIL and in nothing else"
            )
        self.errno_number()
        for pattern in self.console:
            try:
                re.compile(pattern)
            except re.error as error:
                raise PolicyError(f"console pattern {pattern!r}: {error}") from error

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Expectation":
        """The expectation of a TOML table; PolicyError for an unknown key or value."""
        known = ("outcome", "failing_rules", "guest", "errno", "console")
        unknown = set(table) - set(known)
        if unknown:
            raise PolicyError(
                f"[expect]: unknown keys {', '.join(sorted(unknown))}; there are {', '.join(known)}"
            )
        return cls(**table)

    def errno_number(self) -> int | None:
        """The errno expected, as a number."""
        if self.errno is None or isinstance(self.errno, int):
            return self.errno
        number = getattr(errno, self.errno, None)
        if not isinstance(number, int):
            raise PolicyError(f"expected errno {self.errno!r} does not exist")
        return number

    def is_met(
        self,
        *,
        outcome: Outcome,
        failing: Sequence[str],
        guest: str,
        errno_seen: int | None,
        console: Sequence[str],
    ) -> bool:
        """Whether everything that was said has come true."""
        return (
            outcome == self.outcome
            and set(failing) == set(self.failing_rules)
            and guest == self.guest
            and (self.errno is None or errno_seen == self.errno_number())
            and all(any(re.search(pattern, line) for line in console) for pattern in self.console)
        )

    def describe(self) -> dict[str, Any]:
        """As verdict.json has it; errno and console only where they were said."""
        described: dict[str, Any] = {
            "outcome": self.outcome,
            "failing_rules": list(self.failing_rules),
            "guest": self.guest,
        }
        if self.errno is not None:
            described["errno"] = self.errno
        if self.console:
            described["console"] = list(self.console)
        return described
