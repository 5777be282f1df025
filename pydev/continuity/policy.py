# SPDX-License-Identifier: MIT
"""Which rules hold, and which of them have to have examined something."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydev.continuity.catalogue import rule, rules
from pydev.errors import PolicyError

RECORD_RULE: Final = "RECORD-COMPLETE"
"""Part of every policy, and required: nothing can be judged from an incomplete record."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rule ids and whether each is required. An optional rule's VACUOUS does not count."""

    name: str
    required: Mapping[str, bool]


OPTIONAL: Final = frozenset(
    {
        "POWER-STATE", "MSIX-TAKEOVER",  # what an endpoint need not have
        "ACS-CONTROL", "ARI-FORWARDING",  # what has to be set first to be seen kept
        "CATCH-UP",  # what only a driver does
        "CONTROL-CLEARED",  # where an endpoint that is not preserved is used at all
    }
)  # fmt: skip
"""Rules whose VACUOUS does not count in `series`."""

SERIES: Final = Policy(
    "series",
    # What the PCI core series promises, and what it needs to be of use.
    {entry.id: entry.id not in OPTIONAL for entry in rules()},
)
_SHIPPED: Final = {SERIES.name: SERIES}


def policies() -> Mapping[str, Policy]:
    """The policies that come with this project."""
    return dict(_SHIPPED)


def load_policy(name: str | Path) -> Policy:
    """The shipped policy of that name, or the TOML file at that path; PolicyError where there is neither.

    A file holds `name = "…"` and `[rules]` with `RULE-ID = "required"` or `"optional"`.
    """
    if str(name) in _SHIPPED:
        return _SHIPPED[str(name)]
    path = Path(name)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        shipped = ", ".join(_SHIPPED)
        raise PolicyError(
            f"{name}: neither a shipped policy ({shipped}) nor a file: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: not TOML: {error}") from error
    return _parse(document, path)


def _parse(document: Mapping[str, Any], path: Path) -> Policy:
    unknown = set(document) - {"name", "rules"}
    if unknown:
        raise PolicyError(f"{path}: unknown keys: {', '.join(sorted(unknown))}; there are name and [rules]")
    table = document.get("rules")
    if not isinstance(table, dict) or not table:
        raise PolicyError(f'{path}: [rules] is missing, with lines like BME-ENDPOINT = "required"')
    required = {RECORD_RULE: True}
    for rule_id, value in table.items():
        try:
            rule(rule_id)
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}") from error
        if value not in ("required", "optional"):
            raise PolicyError(f'{path}: {rule_id} is {value!r}, and has to be "required" or "optional"')
        required[rule_id] = value == "required" or rule_id == RECORD_RULE
    return Policy(str(document.get("name", path.stem)), required)
