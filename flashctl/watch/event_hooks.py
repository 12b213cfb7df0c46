"""Commands that run when something happens: `--exec CMD --on gap`.

One at a time, in order: MAX_QUEUED events wait for a command that is slow, further ones are dropped and
counted, and the stream is never held up. The event is in the environment (FB_EVENT, FB_BLOCK, FB_INDEX,
FB_PAYLOAD_ID) and, as JSON, on standard input. No shell: the command line is split as a shell would, and
nothing from the network ever becomes part of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from flashctl.core.output import counted
from flashctl.errors import UsageError
from flashctl.watch.events import EVENT_NAMES, WatchEvent
from flashctl.watch.line_output import envelope

__all__ = ["MAX_QUEUED", "EventHook", "expand_events"]

_LOG = logging.getLogger(__name__)

MAX_QUEUED: Final = 64
"""Events that wait for --exec: six blocks of flashblocks."""

FINISH_S: Final = 2.0
"""For queued runs to end once the stream has."""

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


class EventHook:
    """Runs a command, or rings the bell, for some events.

    Args:
        say: Prints a line about dropped events and failed runs.
        ring: Rings the bell; None for silence.
    """

    def __init__(
        self,
        command: str | None,
        events: Sequence[str],
        *,
        say: Callable[[str], None],
        ring: Callable[[], None] | None = None,
    ) -> None:
        self._argv = shlex.split(command) if command is not None else None
        if self._argv is not None and (not self._argv or shutil.which(self._argv[0]) is None):
            raise UsageError(f"--exec: no command {self._argv[0] if self._argv else ''!r}")
        self._events = expand_events(events or ("flashblock",), "--on")
        self._say = say
        self._ring = ring
        self._queue: deque[WatchEvent] = deque()
        self._task: asyncio.Task[None] | None = None
        self.runs = 0
        self.dropped = 0
        self.failures = 0

    def see(self, event: WatchEvent) -> None:
        """Queue a run for this event; dropped and counted where MAX_QUEUED wait."""
        if event.name not in self._events:
            return
        if self._ring is not None:
            self._ring()
        if self._argv is None:
            return
        if len(self._queue) >= MAX_QUEUED:
            if not self.dropped:
                self._say(f"--exec: {self._argv[0]} is slower than the events, some are dropped")
            self.dropped += 1
            return
        self._queue.append(event)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(self._argv))

    async def _work(self, argv: list[str]) -> None:
        while self._queue:
            await self._run(argv, self._queue.popleft())

    async def _run(self, argv: list[str], event: WatchEvent) -> None:
        self.runs += 1
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

    async def finish(self, patience_s: float = FINISH_S) -> None:
        """Let queued runs end, within `patience_s`; those that are left count as dropped."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=patience_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.dropped += len(self._queue)
        self._queue.clear()
        if self.dropped or self.failures:
            runs = counted(self.runs, "run")
            self._say(f"--exec: {runs}, {self.dropped} dropped, {self.failures} failed")
