"""Any role as an operator runs it: a process that says when it is ready, with all that it says kept."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.waiting import wait_until

__all__ = ["RoleProcess", "free_port", "role_process"]

START_S = 60.0
"""Patience with a start; a busy machine takes several seconds."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RoleProcess:
    """A running one."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, ready_fd: int) -> None:
        self.process = process
        self._output = output
        self._ready_fd = ready_fd

    def wait_ready(self) -> None:
        """Wait until it serves."""
        readable, _, _ = select.select([self._ready_fd], [], [], START_S)
        assert readable and os.read(self._ready_fd, 6) == b"ready\n", self.said()

    def said(self) -> str:
        """Standard output and error so far."""
        return self._output.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: text in self.said() or self.process.poll() is not None, explain=self.said)
        assert text in self.said(), self.said()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(START_S)


@contextmanager
def role_process(
    folder: Path, *arguments: str, is_service: bool = True, **environment: str
) -> Iterator[RoleProcess]:
    """Start `flashctl <arguments>`; killed at the end if it still runs."""
    read_end, write_end = os.pipe()
    ready = ("--ready-fd", str(write_end)) if is_service else ()
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flashctl", *arguments, *ready],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(write_end,),
            env={**os.environ, **environment},
        )
    os.close(write_end)
    try:
        yield RoleProcess(process, Path(output.name), read_end)
    finally:
        process.kill()
        process.wait()
        os.close(read_end)


def get(url: str) -> tuple[int, str]:
    """Status and body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def post(url: str, method: str, *params: Any) -> str:
    """The body that answers a JSON-RPC call."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    data, headers = json.dumps(request).encode(), {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
