# SPDX-License-Identifier: MIT
from guest_images.headers import STREAM_HEADER, stream_header


def test_the_header_that_is_checked_in_is_what_the_declaration_says() -> None:
    assert STREAM_HEADER.read_text(encoding="ascii") == stream_header(), "run: python -m guest_images.headers"
