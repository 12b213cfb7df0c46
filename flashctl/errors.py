"""The errors flashctl raises on purpose, and the exit codes they end a process with.

Every layer subclasses one of the trees below next to its subject, so a module lists its own failures and
this one stays short:

    FlashctlError
    ├── Failed          1    the operation ran and the answer is no
    ├── UsageError      2    a flag, an argument, a profile or a configuration file is wrong
    ├── DataError      65    bytes or text could not be decoded (InvalidParams: a caller's)
    ├── UnavailableError 69  a peer does not answer
    ├── IoError        74    a file cannot be read or written
    ├── ProtocolError  76    the peer speaks, but not what was expected
    ├── AuthError      77    credentials are missing, unreadable or refused
    └── TimedOut      124    a limit the caller set has passed

An error formats itself: `str(error)` is one line for a person, `error.hint` is the next step to try, and
whatever the line was made of stays available as attributes. Nothing else in flashctl decides what a failure
is worth as an exit code: `exit_code_for` does. The numbers are those of sysexits.h and coreutils `timeout`,
which scripts already know.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

__all__ = [
    "AuthError",
    "DataError",
    "ExitCode",
    "Failed",
    "FlashctlError",
    "InvalidParams",
    "IoError",
    "ProtocolError",
    "Terminated",
    "TimedOut",
    "UnavailableError",
    "UsageError",
    "exit_code_for",
]


class ExitCode(IntEnum):
    """What a flashctl process ends with; part of the documented interface."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DATA = 65
    UNAVAILABLE = 69
    IO = 74
    PROTOCOL = 76
    AUTH = 77
    TIMEOUT = 124
    INTERRUPTED = 130
    """SIGINT forced the end: 128 + 2."""
    PIPE = 141
    """The reader of our output went away: 128 + SIGPIPE."""
    TERMINATED = 143
    """SIGTERM forced the end: 128 + 15."""


class FlashctlError(Exception):
    """A failure flashctl foresaw; its text is one line that needs no traceback to be understood."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    hint: str | None
    """What to try next, printed on a line of its own; None when there is nothing useful to say."""

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Failed(FlashctlError):
    """The operation ran to its end and the answer is no."""


class UsageError(FlashctlError):
    """The command line, a profile or a configuration file asks for something that does not exist."""

    exit_code = ExitCode.USAGE


class DataError(FlashctlError):
    """Input could not be decoded."""

    exit_code = ExitCode.DATA


class InvalidParams(DataError):
    """A caller's parameters do not fit: the one kind of undecodable input whose text goes back to its
    sender. Layers subclass it for what they read of a request, and for nothing else."""


class UnavailableError(FlashctlError):
    """A peer cannot be reached or refuses."""

    exit_code = ExitCode.UNAVAILABLE


class IoError(FlashctlError):
    """A file cannot be read or written."""

    exit_code = ExitCode.IO


class ProtocolError(FlashctlError):
    """The peer answered with something other than the protocol that was asked of it."""

    exit_code = ExitCode.PROTOCOL


class AuthError(FlashctlError):
    """Credentials are missing, unreadable or refused."""

    exit_code = ExitCode.AUTH


class TimedOut(FlashctlError):
    """A limit that the caller set has passed."""

    exit_code = ExitCode.TIMEOUT


class Terminated(BaseException):
    """SIGTERM before a service had anything to drain; raised wherever it was, so that files made for the run
    are removed."""


def exit_code_for(error: BaseException) -> ExitCode:
    """The code flashctl exits with, having failed with `error`.

    Unforeseen errors count as FAILED, except the few of the standard library whose meaning is
    unmistakable.
    """
    match error:
        case FlashctlError():
            return error.exit_code
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case BrokenPipeError():
            return ExitCode.PIPE
        case TimeoutError():
            return ExitCode.TIMEOUT
        case ConnectionError():
            return ExitCode.UNAVAILABLE
        case OSError():
            return ExitCode.IO
        case _:
            return ExitCode.FAILED
