"""Commands that run when something happens: `--exec CMD --on gap`.

One at a time: a command that is slower than the stream makes events drop, counted, and never holds the
stream up. The event is in the environment (FB_EVENT, FB_BLOCK, FB_INDEX, FB_PAYLOAD_ID) and, as JSON, on
standard input. No shell: the command line is split as a shell would, and nothing from the network ever
becomes part of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import Final

from flashctl.errors import UsageError
from flashctl.watch.events import EVENT_NAMES, WatchEvent
from flashctl.watch.lines import envelope

__all__ = ["Hook", "expand_events"]

_LOG = logging.getLogger(__name__)

_GROUPS: Final = {"reorg": ("replaced", "rewound", "dropped", "unsealed"), "any": tuple(EVENT_NAMES)}
"""Names of `--on` that mean several events."""


def expand_events(names: Sequence[str], flag: str) -> frozenset[str]:
    """The events that `--on` or `--fail-on` mean.

    Raises:
        UsageError: For a name that is neither an event nor a group.
    """
    events: set[str] = set()
    for name in names:
        if name in _GROUPS:
            events.update(_GROUPS[name])
        elif name in EVENT_NAMES:
            events.add(name)
        else:
            known = ", ".join((*EVENT_NAMES, *_GROUPS))
            raise UsageError(f"{flag} {name!r}: no such event", hint=f"events: {known}")
    return frozenset(events)


class Hook:
    """Runs a command, or rings the bell, for some events."""

    def __init__(self, command: str | None, events: Sequence[str], *, bell: bool) -> None:
        self._argv = shlex.split(command) if command is not None else None
        if self._argv is not None and (not self._argv or shutil.which(self._argv[0]) is None):
            raise UsageError(f"--exec: no command {self._argv[0] if self._argv else ''!r}")
        self._events = expand_events(events or ("flashblock",), "--on")
        self._bell = bell
        self._task: asyncio.Task[None] | None = None
        self.runs = 0
        self.dropped = 0
        self.failures = 0

    def see(self, event: WatchEvent) -> None:
        """Run for this event, unless a run is under way."""
        if event.name not in self._events:
            return
        if self._bell:
            sys.stderr.write("\a")
            sys.stderr.flush()
        if self._argv is None:
            return
        if self._task is not None and not self._task.done():
            self.dropped += 1
            return
        self.runs += 1
        self._task = asyncio.get_running_loop().create_task(self._run(self._argv, event))

    async def _run(self, argv: list[str], event: WatchEvent) -> None:
        environment = {**os.environ, "FB_EVENT": event.name}
        place = {"FB_BLOCK": event.block, "FB_INDEX": event.index, "FB_PAYLOAD_ID": event.payload_id}
        environment |= {name: str(value) for name, value in place.items() if value is not None}
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.PIPE, env=environment
            )
            await process.communicate(envelope(event))
        except OSError as error:
            self.failures += 1
            _LOG.warning("--exec: %s", error)
            return
        if process.returncode:
            self.failures += 1
            _LOG.warning("--exec: %s exited with %d", argv[0], process.returncode)

    async def finish(self, patience_s: float = 2.0) -> None:
        """Let a run under way end."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=patience_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.dropped or self.failures:
            _LOG.warning("--exec: %d runs, %d dropped, %d failed", self.runs, self.dropped, self.failures)
