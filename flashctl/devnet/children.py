"""The child processes of a devnet: started together, watched, stopped together.

Each child is the ordinary subcommand of its role. It signals readiness through a pipe, its stderr is kept
(the last lines in memory, all of it in a log file), and it never outlives the parent: it has a session of its
own, so that Ctrl-C reaches only the parent, and on Linux the kernel ends it when the parent dies in any way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from flashctl.core.service.parent_death import end_with_parent
from flashctl.errors import Failed

__all__ = ["ChildDied", "ChildProcess", "Family"]

_KEPT_LINES = 12
"""Last log lines shown when a child dies."""

_LINE_LIMIT = 64 * 1024
_STOP_GRACE_S = 5.0
"""The time every role has to drain after SIGTERM, before SIGKILL."""


class ChildDied(Failed):
    """A child exited on its own; the run ends with it."""

    def __init__(self, name: str, code: int, last_lines: Sequence[str]) -> None:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        super().__init__(f"{name} {how}")
        self.name = name
        self.code = code
        self.last_lines = tuple(last_lines)


@dataclass(slots=True)
class ChildProcess:
    """One role's process."""

    name: str
    process: asyncio.subprocess.Process
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))

    @classmethod
    async def start(
        cls, name: str, arguments: Sequence[str], log_file: Path
    ) -> tuple[ChildProcess, asyncio.Task[None]]:
        """Start `flashctl <arguments>`; the task ends with the process, after its last log line was read."""
        read_fd, write_fd = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "flashctl",
                *arguments,
                "--ready-fd",
                str(write_fd),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(write_fd,),
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signal.SIGTERM),
                limit=_LINE_LIMIT,
            )
        finally:
            os.close(write_fd)
        child = cls(name, process)
        return child, asyncio.create_task(child._follow(read_fd, log_file), name=f"child {name}")

    async def _follow(self, ready_fd: int, log_file: Path) -> None:
        waiting = asyncio.create_task(self._wait_ready(ready_fd))
        try:
            with log_file.open("ab") as log:
                await self._copy_log(log)
            await self.process.wait()
        finally:
            waiting.cancel()

    async def _copy_log(self, log: BinaryIO) -> None:
        assert self.process.stdout is not None
        while True:
            try:
                line = await self.process.stdout.readline()
            except ValueError:  # a line longer than the buffer: drop its start, keep following
                continue
            if not line:
                return
            log.write(line)
            log.flush()
            self.last_lines.append(line.decode("utf-8", "replace").rstrip())

    async def _wait_ready(self, ready_fd: int) -> None:
        """Set `ready` at the first byte; a pipe closed without one means that the child is ending."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(ready_fd, readable.set)
        try:
            await readable.wait()
            if os.read(ready_fd, 1):
                self.ready.set()
        finally:
            loop.remove_reader(ready_fd)
            os.close(ready_fd)

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still running."""
        if self.running:
            try:
                self.process.send_signal(number)
            except ProcessLookupError:
                pass


class Family:
    """All children of a run. The first that exits on its own ends the run."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._children: dict[str, ChildProcess] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def start(self, name: str, arguments: Sequence[str]) -> ChildProcess:
        """Start one role; returns before it is ready."""
        child, task = await ChildProcess.start(name, arguments, self._log_folder / f"{name}.log")
        self._children[name] = child
        self._tasks[name] = task
        return child

    def child(self, name: str) -> ChildProcess:
        """The latest child of that name."""
        return self._children[name]

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: child.process.pid for name, child in self._children.items()}

    async def wait_ready(self, *names: str) -> None:
        """Wait until every named child is ready.

        Raises:
            ChildDied: If one exited instead.
        """
        died = asyncio.create_task(self.first_death())
        try:
            for name in names:
                ready = asyncio.create_task(self._children[name].ready.wait())
                await asyncio.wait({ready, died}, return_when=asyncio.FIRST_COMPLETED)
                ready.cancel()
                if died.done():
                    died.result()
        finally:
            died.cancel()

    async def first_death(self) -> None:
        """Wait for the first child that exits on its own, and raise it.

        Raises:
            ChildDied: Always, unless cancelled or stopped before.
        """
        await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for name, child in self._children.items():
            if self._tasks[name].done() and not self._stopping:
                code = child.process.returncode
                raise ChildDied(name, code if code is not None else -signal.SIGKILL, child.last_lines)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all running children."""
        for child in self._children.values():
            child.signal(number)

    async def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those still running after the grace; returns when none is left."""
        self._stopping = True
        for child in self._children.values():
            child.signal(signal.SIGTERM)
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=_STOP_GRACE_S)
        if late:
            for child in self._children.values():
                child.signal(signal.SIGKILL)
            await asyncio.wait(late)
