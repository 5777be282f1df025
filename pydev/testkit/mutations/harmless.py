# SPDX-License-Identifier: MIT
"""Mutations that may pass, each with its reason: what they change nobody judges, or is as good a guest's doing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydev.testkit.mutations.mutation import Mutation


@dataclass(frozen=True)
class Excuse:
    """Why some mutations are no wrong PASS."""

    id: str
    reason: str
    covers: Callable[[Mutation], bool]


EXCUSES: Final[tuple[Excuse, ...]] = ()


def excuse_of(mutation: Mutation) -> Excuse | None:
    """The first excuse that covers a mutation."""
    return next((excuse for excuse in EXCUSES if excuse.covers(mutation)), None)
