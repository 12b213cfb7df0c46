"""Unexpected exceptions: caught where one message, request, connection, transaction or payload ends, so that
it costs that and nothing else.

    try:
        overlay.step()
    except Exception as error:
        defects.caught("rpc.overlay", error)

Logged once per cause with its traceback (later ones at debug level), counted in
`flashctl_defects_total{where=…}` of every role's /metrics, and named in the text of its /healthz for
REMEMBERED_S; the status stays (`core.service.with_defects`). Errors that a boundary expects (`FlashctlError`,
a closed connection) are not defects: it handles them before.

One registry for the process, like `logging`: boundaries are everywhere, and none of them should have to be
handed an object for the case that ought not to happen.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flashctl.core.service.exposition import MetricFamily, counter

__all__ = ["REMEMBERED_S", "caught", "contained", "counts", "families", "forget", "recent"]

_LOG = logging.getLogger(__name__)

REMEMBERED_S: Final = 300.0
"""How long health names a defect; a collector that scrapes each minute sees it several times."""

MAX_CAUSES: Final = 1000
"""Causes remembered as logged: places in this code, so only a bug of its own fills it."""

_lock = threading.Lock()
_counts: dict[str, int] = {}
_told: set[tuple[str, str, str]] = set()
_last: tuple[float, str] | None = None


def caught(where: str, error: Exception, what: str = "") -> None:
    """Take note of a defect; callable from any thread.

    Args:
        where: The boundary that caught it, from a small fixed set: a label of the metric.
        error: What it caught.
        what: What was being worked on (a method, a payload id), for the log alone.
    """
    global _last
    cause = (where, type(error).__name__, _place(error))
    with _lock:
        _counts[where] = _counts.get(where, 0) + 1
        _last = (time.monotonic(), f"{where}: {type(error).__name__} at {cause[2]}")
        is_known = cause in _told
        if not is_known and len(_told) < MAX_CAUSES:
            _told.add(cause)
    level = logging.DEBUG if is_known else logging.ERROR
    subject = f"{where} {what[:100]}" if what else where
    _LOG.log(level, "%s: %s: %s", subject, type(error).__name__, error, exc_info=error)


@contextmanager
def contained(where: str, what: str = "") -> Iterator[None]:
    """A stretch of work whose failure costs no more than itself: `with contained("boost.stream"): …`."""
    try:
        yield
    except Exception as error:
        caught(where, error, what)


def counts() -> dict[str, int]:
    """Defects so far by boundary."""
    with _lock:
        return dict(_counts)


def recent() -> str:
    """The newest defect of the last REMEMBERED_S, in a line for health; empty if there is none.

    Names the boundary, the exception's class and the line of code, not its text: health pages are public, and
    the text may quote input from outside.
    """
    with _lock:
        if _last is None or time.monotonic() - _last[0] > REMEMBERED_S:
            return ""
        return f"defect in {_last[1]}"


def forget() -> None:
    """Start from nothing, for tests."""
    global _last
    with _lock:
        _counts.clear()
        _told.clear()
        _last = None


def families() -> list[MetricFamily]:
    """The counts for a page of metrics."""
    values = [({"where": where}, count) for where, count in sorted(counts().items())]
    return [
        counter("flashctl_defects_total", "Unforeseen exceptions, by the boundary that caught them.", values)
    ]


def _place(error: Exception) -> str:
    """Where in this code it happened: the innermost frame that is ours, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    ours = [frame for frame in frames if "/flashctl/" in frame.filename]
    if ours:
        return f"{ours[-1].filename.rpartition('/flashctl/')[2]}:{ours[-1].lineno}"
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}"
