"""What went wrong with a socket or a file, in the system's own words and nothing else."""

from __future__ import annotations

import os
import re
import socket
from typing import Final

__all__ = ["system_reason"]

_NUMBERS: Final = re.compile(r"\[Errno (\d+)\]")


def system_reason(error: BaseException) -> str:
    """ "Connection refused", where Python says "[Errno 111] Connect call failed ('127.0.0.1', 1)".

    Event loops and HTTP libraries wrap the reason in addresses and words of theirs, or put several in one,
    for a name with several addresses; equal ones are given once.
    """
    import ssl  # 10 ms to import, so only when there is such an error

    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)  # its numbers are not those of errno
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)  # nor are these
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    text = getattr(error, "strerror", None) or str(error)
    numbers = {int(number) for number in _NUMBERS.findall(text)}
    if numbers:
        return ", ".join(os.strerror(number) for number in sorted(numbers))
    return text or type(error).__name__
