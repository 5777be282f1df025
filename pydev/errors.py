# SPDX-License-Identifier: MIT
"""What can be wrong on the side that does not know QEMU."""


class PydevError(Exception):
    """Base of everything this package raises on purpose; its text is one line for the user."""


class DeclarationError(PydevError):
    """A register, capability, endpoint or rule is declared wrongly: our mistake or an author's."""


class RecordingError(PydevError):
    """A file is not a recording, or one of another version, or damaged beyond reading."""


class PolicyError(PydevError):
    """A policy or an expectation names something that does not exist."""
