"""The standing of a worker process in line for a processor.

A nice value orders the threads of one scheduling group. Where the kernel makes a group of every session
(CONFIG_SCHED_AUTOGROUP, the default of most distributions; sched(7), "The autogroup feature"), groups count
alike whatever the nice values in them, and a service waits for the turn of its group, which its own workers
use up. So a worker leaves its parent's session, and the group that this makes gets a nice value as well.

In a control group with a CPU weight of its own (a container, a unit with CPUWeight) the kernel makes no
groups of sessions; there the nice value is all there is.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

__all__ = ["leave_session", "lower_priority"]

AUTOGROUP: Final = Path("/proc/self/autogroup")

TRIES: Final = 20
RETRY_S: Final = 0.06
"""The kernel takes one such change in 100 ms from all unprivileged processes together (EAGAIN)."""


def leave_session() -> None:
    """Become the leader of a new session, whose scheduling group is no longer the parent's."""
    with contextlib.suppress(OSError):
        os.setsid()


def lower_priority(nice: int, group: int) -> None:
    """Add `nice` to the process's nice value, and give its session's group the value `group`.

    What the system does not have or allow stays as it is.
    """
    with contextlib.suppress(OSError):
        os.nice(nice)
        _lower_group(group)


def _lower_group(nice: int) -> None:
    for attempt in range(TRIES):
        try:
            AUTOGROUP.write_text(str(nice))
            return
        except BlockingIOError:
            if attempt == TRIES - 1:
                raise
            time.sleep(RETRY_S)
