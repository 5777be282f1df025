# SPDX-License-Identifier: MIT
"""What a server process is told to serve: one JSON object, from the runner."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qemu_plugin.errors import UsageError

REFERENCE_PERIOD_US: Final = 1000


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """One endpoint: its index in the recording's function table, model, options and socket."""

    index: int
    model: str
    options: Mapping[str, Any]
    socket: Path


@dataclass(frozen=True, slots=True)
class Specification:
    """All endpoints of a server process, and the recording that they append to."""

    recording: Path | None
    endpoints: tuple[ServedEndpoint, ...]
    reference_period_us: int = REFERENCE_PERIOD_US


def read_specification(path: Path) -> Specification:
    """The specification in a file; UsageError, one line, where it is none."""
    try:
        data = json.loads(path.read_text())
        recording = data["recording"]
        return Specification(
            recording=None if recording is None else Path(recording),
            endpoints=tuple(_endpoint(item) for item in data["endpoints"]),
            reference_period_us=int(data.get("reference_period_us", REFERENCE_PERIOD_US)),
        )
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is not a server specification: {error!r}") from error


def _endpoint(item: Mapping[str, Any]) -> ServedEndpoint:
    return ServedEndpoint(
        index=int(item["index"]),
        model=str(item["model"]),
        options=dict(item.get("options") or {}),
        socket=Path(item["socket"]),
    )
