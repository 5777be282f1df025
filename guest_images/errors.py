# SPDX-License-Identifier: MIT
"""What can go wrong while a guest is made ready."""

from collections.abc import Sequence


class ImageError(Exception):
    """One line that says what is missing and what to do about it, for the user to read without a traceback.

    `details` are the last lines of the program that failed, if one did.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)
