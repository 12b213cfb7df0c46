"""Reasons of the system are told in its own words, however they are wrapped."""

from __future__ import annotations

import errno
import socket

import pytest

from flashctl.core.net.system_reason import system_reason

CALLED = "Connect call failed ('127.0.0.1', 1)"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ECONNREFUSED, CALLED), "Connection refused"),
        (OSError(f"Multiple exceptions: [Errno 111] {CALLED}, [Errno 111] {CALLED}"), "Connection refused"),
        (OSError(f"[Errno 111] {CALLED}, [Errno 101] x"), "Network is unreachable, Connection refused"),
        (RuntimeError("[Errno 111] Connection refused"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("no port"), "no port"),
    ],
)
def test_what_is_told(error: BaseException, told: str) -> None:
    assert system_reason(error) == told
