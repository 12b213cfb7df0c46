"""Logs: one line per event on stderr, for a person or for a collector.

    text   12:00:01.204 info  boost.flashblocks: flashblock accepted block=123 index=4
    json   {"ts":"2026-11-21T12:00:01.204Z","level":"info","target":"boost","msg":"...","block":123}

Modules use the standard library: `_LOG = logging.getLogger(__name__)` and `_LOG.info("flashblock accepted",
extra={"block": 123, "index": 4})`; what `extra` carries becomes fields in both formats. Text that came from
the network may be passed as it is: control characters are escaped here, so that input cannot forge a line or
drive a terminal through a log.

A message that repeats is worth one line with a counter, not a thousand lines (rollup-boost#375): after the
first few of a kind within a window, the rest is counted and reported when the window ends.

A reader of stderr that stops (a collector that hangs, a terminal after Ctrl-S) cannot stop a service: lines
that do not fit are dropped and counted.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO, get_args

from flashctl.core.net.urls import mask_url
from flashctl.core.output import escape

__all__ = ["LOG_FORMATS", "LOG_LEVELS", "TRACE", "LogFormat", "LogLevel", "configure_logging", "reload_level"]

LogLevel = Literal["error", "warning", "info", "debug", "trace"]
LogFormat = Literal["text", "json"]
LOG_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)
LOG_FORMATS: Final[tuple[LogFormat, ...]] = get_args(LogFormat)

TRACE: Final = 5
"""Below DEBUG: every frame and every call."""

_LEVELS: Final[dict[LogLevel, int]] = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_NAMES: Final = {number: name for name, number in _LEVELS.items()} | {logging.CRITICAL: "error"}

REPEAT_WINDOW_S: Final = 10.0
REPEATS_SHOWN: Final = 5
"""Lines of one kind per window. Several, because the first lines of a failure often differ in their
fields."""

MAX_MESSAGE_CHARS: Final = 4096
"""Longer messages are cut: a peer's error body may be megabytes."""

READER_WAIT_MS: Final = 20
"""For a reader that is merely slow; the event loop may stand still meanwhile."""
PIECE_CHARS: Final = 1024
"""At most 4,096 bytes: a pipe that is ready for writing takes PIPE_BUF at once (pipe(7))."""

_level_again: Callable[[], LogLevel] | None = None
"""Reads the configured level, where it can change while the process runs."""

_LOG = logging.getLogger(__name__)

_URL_LOGGERS: Final = ("httpx", "httpcore")
"""Libraries that log the URLs they ask, with what may be a key in them: never, not even at level trace."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(
    level: LogLevel,
    log_format: LogFormat = "text",
    *,
    stream: TextIO | None = None,
    again: Callable[[], LogLevel] | None = None,
) -> None:
    """Send the logs of the process to stderr (or `stream`); call once, before anything logs.

    `again` reads the level for `reload_level`, where it comes from a file.
    """
    global _level_again
    _level_again = again
    logging.addLevelName(TRACE, "TRACE")
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    handler.addFilter(_without_handshake_secrets)
    handler.addFilter(_Repeats())
    logging.getLogger().handlers[:] = [handler]
    _set_level(level)
    logging.raiseExceptions = False  # a log line that cannot be written must not end a service


def reload_level() -> None:
    """Log at the level that is in force now.

    Raises:
        FlashctlError: If that cannot be found out; the level stays.
    """
    if _level_again is not None:
        level = _level_again()
        _set_level(level)
        _LOG.debug("logging at level %s", level)


def _set_level(level: LogLevel) -> None:
    # Libraries log at info what flashctl logs itself (connection made, server started) and at debug every
    # byte.
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING) if level != "trace" else logging.DEBUG)
    logging.getLogger("flashctl").setLevel(_LEVELS[level])
    for name in _URL_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if len(text) > MAX_MESSAGE_CHARS:
        text = text[:MAX_MESSAGE_CHARS] + f"… ({len(text):,} characters)"
    repeated = getattr(record, "_repeated", 0)
    return f"{text} (and {repeated} more like it)" if repeated else text


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"}


def _target(record: logging.LogRecord) -> str:
    return record.name.removeprefix("flashctl.")


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines as long as they are taken; waits a moment for a reader, once, and then no more."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._poll = _poll_of(stream)
        self._lost = 0
        self._is_within = False
        """Whether the last line was cut off."""

    def emit(self, record: logging.LogRecord) -> None:
        if self._poll is None:
            super().emit(record)
            return
        try:
            text = self.format(record) + self.terminator
            if self._lost:
                text = f"({self._lost} log lines lost: stderr was not read){self.terminator}{text}"
            if self._is_within:
                text = self.terminator + text
            for start in range(0, len(text), PIECE_CHARS):
                if not self._poll.poll(0 if self._lost else READER_WAIT_MS):
                    self._lost += 1
                    return
                self.stream.write(text[start : start + PIECE_CHARS])
                self.stream.flush()
                self._is_within = start + PIECE_CHARS < len(text)
            self._lost = 0
        except Exception:
            self.handleError(record)


def _poll_of(stream: TextIO) -> select.poll | None:
    """Polls whether PIECE_CHARS can be written at once; None where writing never waits for a reader."""
    try:
        number = stream.fileno()
        if stat.S_ISREG(os.fstat(number).st_mode):
            return None
    except (AttributeError, OSError, ValueError):
        return None  # no stream, or one in memory
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return poll


class _TextFormatter(logging.Formatter):
    """`time level target: message key=value`, with tracebacks below."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = _NAMES.get(record.levelno, record.levelname.lower())
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        head = f"{clock}.{int(record.msecs):03d} {level:<7} {_target(record)}"
        line = f"{head}: {escape(_message(record))}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _JsonFormatter(logging.Formatter):
    """One object a line; `ts`, `level`, `target` and `msg` first, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "ts": f"{stamp}.{int(record.msecs):03d}Z",
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "target": _target(record),
            "msg": _message(record),
        }
        entry.update((name, value) for name, value in _fields(record).items() if name not in entry)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=_json_value, separators=(",", ":"))  # all of it ASCII


def _shown(value: object) -> str:
    text = "0x" + value.hex() if isinstance(value, bytes) else escape(str(value))
    return f'"{text}"' if " " in text or not text else text


def _json_value(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _without_handshake_secrets(record: logging.LogRecord) -> bool:
    """At trace level the WebSocket library logs every line of a handshake: keys in paths and headers."""
    if record.name.startswith("websockets") and isinstance(record.args, tuple):
        match record.msg[1:] if isinstance(record.msg, str) else "":
            case " %s: %s":
                record.args = (record.args[0], "…")
            case " GET %s HTTP/1.1":
                record.args = (mask_url(f"ws://host{record.args[0]}").removeprefix("ws://host"),)
    return True


class _Repeats(logging.Filter):
    """Lets the first REPEATS_SHOWN records of a kind through in each window, and counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.levelno, str(record.msg))
        started, count = self._seen.get(key, (record.created, 0))
        if record.created - started >= REPEAT_WINDOW_S:
            hidden = count - REPEATS_SHOWN
            if hidden > 0:
                record._repeated = hidden
            started, count = record.created, 0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (started, count + 1)
        return count < REPEATS_SHOWN
