# SPDX-License-Identifier: MIT
"""The three kinds of wrong, as exceptions of the side that touches QEMU."""


class LuscopeError(Exception):
    """Base of everything that is reported to the user as one line, without a traceback."""


class UsageError(LuscopeError):
    """The user's command or file is wrong; exit status 2."""


class BenchError(LuscopeError):
    """The bench failed before the guest was in normal operation; exit status 3."""


class RemoteProtocolError(LuscopeError):
    """The peer broke the protocol; `errno` is what the reply carries."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno
