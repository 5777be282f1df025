# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from guest_images.headers import AGENT_ABI, DRIVER_ABI, STREAM_HEADERS, stream_header

REMEDY = "run: python -m guest_images.headers"


@pytest.mark.parametrize("header", STREAM_HEADERS, ids=lambda header: header.parent.name)
def test_the_header_that_is_checked_in_is_what_the_declaration_says(header: Path) -> None:
    assert header.read_text(encoding="ascii") == stream_header(), REMEDY


def test_the_agent_asks_the_driver_for_what_the_driver_offers() -> None:
    assert AGENT_ABI.read_bytes() == DRIVER_ABI.read_bytes(), REMEDY
