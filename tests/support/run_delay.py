"""Where processor time goes: what the threads of processes ran, and how long they were ready and did not run.

Linux counts both for every thread (/proc/PID/task/TID/schedstat, nanoseconds; Documentation/scheduler/
sched-stats.rst). A service that is late with little waiting was busy itself; one that waited was late by what
others took.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "usage"]

_NANO = 1e9


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds since the start of the threads that there are now."""

    ran: float = 0.0
    """Of all threads."""
    loop_ran: float = 0.0
    """Of the first thread, which has the event loop."""
    loop_waited: float = 0.0
    """That the first thread was ready to run and another one had the processor."""
    workers_ran: float = 0.0
    """Of the processes below it."""

    def since(self, before: Usage) -> Usage:
        """The difference."""
        return Usage(
            self.ran - before.ran,
            self.loop_ran - before.loop_ran,
            self.loop_waited - before.loop_waited,
            self.workers_ran - before.workers_ran,
        )


def usage(pid: int) -> Usage:
    """Of a process so far; zeros for one that is gone, or where the system does not tell."""
    threads = _threads(pid)
    loop_ran, loop_waited = threads.get(pid, (0.0, 0.0))
    below = sum(ran for child in _children(pid) for ran, _ in _threads(child).values())
    return Usage(sum(ran for ran, _ in threads.values()), loop_ran, loop_waited, below)


def _threads(pid: int) -> dict[int, tuple[float, float]]:
    """Seconds run and waited, by thread."""
    found: dict[int, tuple[float, float]] = {}
    with contextlib.suppress(OSError):
        for folder in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                ran, waited, _ = (folder / "schedstat").read_text().split()
                found[int(folder.name)] = int(ran) / _NANO, int(waited) / _NANO
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for folder in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(word) for word in (folder / "children").read_text().split()]
    return found
