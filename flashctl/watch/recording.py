"""Recorded streams: one JSON object a line, each message with the two clocks at which it arrived.

    {"flashctl":1,"url":"wss://...","started":1700000000000000000}
    {"t":1700000000123456789,"m":123456789,"enc":"br","n":14213,"d":{...the message...}}
    {"t":...,"m":...,"enc":"br","raw":"base64 of the frame"}          with --record-raw

`t` is wall time and `m` a steady clock, in nanoseconds; `enc` is the encoding of the message on the wire
and `n` how many bytes it took there. Messages without times (one JSON object a line, or one array) are read
as well; they are given times 200 ms apart.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from flashctl.core.flashblocks.wire import unpack
from flashctl.core.output import Output
from flashctl.core.service.printer import Printer
from flashctl.core.settings.files import LineWriter, open_for_reading, open_for_writing
from flashctl.errors import DataError, IoError
from flashctl.eth.hexdata import MAX_TIMESTAMP, parse_quantity
from flashctl.watch.events import ReceivedMessage

__all__ = ["QueuedFile", "Recorder", "Replay", "line_of_arrival"]

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""A message of 32 MB, the limit of the wire, as base64."""

LOOK_UP_S: Final = 0.005
"""Longest time for which reading a recording holds the loop."""

MAX_COMPLAINTS: Final = 20
"""Lines that are no messages and are reported one by one."""

MAX_BLANK_LINES: Final = 100_000
"""In a row; a few kilobytes of a compressed file may stand for a hundred million."""

_UNTIMED_STEP_NS: Final = 200_000_000
"""Between messages without times: the interval of every public stream."""
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


# -- writing --------------------------------------------------------------------------------------


def line_of_arrival(arrival: ReceivedMessage, *, raw: bool = False, text: bytes | None = None) -> bytes:
    """The line of one message.

    Args:
        raw: Keep the frame bit by bit instead of the JSON in it.
        text: The decompressed message, where the caller has it.
    """
    head = b'{"t":%d,"m":%d,"enc":"%s"' % (arrival.received_ns, arrival.monotonic_ns, _encoding(arrival))
    if raw:
        return head + b',"raw":"' + base64.b64encode(arrival.data) + b'"}\n'
    body = unpack(arrival.data, binary=arrival.binary) if text is None else text
    # The message as received: nothing is parsed and written again, so nothing can change. A line holds no
    # line breaks, and JSON may have them only between tokens.
    return (
        head
        + b',"n":%d,"d":' % len(arrival.data)
        + body.strip().replace(b"\n", b" ").replace(b"\r", b" ")
        + b"}\n"
    )


def _encoding(arrival: ReceivedMessage) -> bytes:
    if not arrival.binary or arrival.data.lstrip()[:1] == b"{":
        return b"json"
    return b"zst" if arrival.data.startswith(_ZSTD_MAGIC) else b"br"


class QueuedFile:
    """A file whose reader may stop, such as a FIFO or a terminal: writes never wait for it.

    A recording has no holes, so the one that cannot be kept is an error instead of a dropped line.
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the reader has not taken."""
        return self._output.waiting_bytes if isinstance(self._output, Printer) else 0

    async def room(self) -> None:
        """Wait until the reader has come close."""
        if isinstance(self._output, Printer) and self._output.is_full:
            await self._output.room()

    async def drained(self, patience_s: float | None) -> None:
        """Wait until everything is written, or the reader takes nothing for `patience_s`.

        Raises:
            OSError: The reader has gone away.
        """
        if isinstance(self._output, Printer):
            await self._output.drained(patience_s)

    def write(self, data: bytes, /) -> None:
        """Queue bytes.

        Raises:
            OSError: The reader has gone away, or is too far behind.
        """
        self._output.raw(data)
        if isinstance(self._output, Printer) and self._output.skipped:
            waiting = self._output.waiting_bytes // (1024 * 1024)
            raise OSError(errno.ENOBUFS, f"its reader is {waiting} MiB behind")

    def flush(self) -> None:
        """Nothing: what is queued is written as soon as it can be."""

    def close(self) -> None:
        """Nothing: the descriptor is open until the queue is written."""


class Recorder:
    """Writes arrivals to a file, flushed once per block so that a crash loses at most one."""

    def __init__(self, path: Path, url: str, *, raw: bool = False, stdout: Output | None = None) -> None:
        """`stdout` is where to write instead of at `path`, which then only names it."""
        self.path = path
        self._raw = raw
        self._is_stdout = stdout is not None
        self._queue: QueuedFile | None = None if stdout is None else QueuedFile(stdout)
        self._device: BinaryIO | None = None
        self._file: LineWriter = self._queue or open_for_writing(path, self._queue_for)
        self._payload_id: str | None = None
        self._write(b'{"flashctl":1,"url":"%s","started":%d}\n' % (_quoted(url), time.time_ns()))
        self.lines = 0

    def record(
        self, arrival: ReceivedMessage, text: bytes | None = None, payload_id: str | None = None
    ) -> None:
        """Append one message.

        Raises:
            IoError: The disk refuses.
        """
        try:
            line = line_of_arrival(arrival, raw=self._raw or text is None, text=text)
        except DataError:
            return
        self._write(line, flush=payload_id != self._payload_id)
        self._payload_id = payload_id
        self.lines += 1

    async def room(self) -> None:
        """Wait for the reader of a recording that goes through a pipe, where the source can wait."""
        if self._queue is not None:
            await self._queue.room()

    def close(self) -> None:
        """Finish the file; `drained` waits for its reader, if it has one.

        Raises:
            IoError: The disk refuses.
        """
        with self._refusals():
            self._file.close()

    async def drained(self, patience_s: float | None) -> None:
        """Wait until everything is written, or a reader takes nothing for `patience_s`.

        Raises:
            IoError: The disk refuses, or the reader has gone away.
        """
        if self._queue is not None:
            with self._refusals():
                await self._queue.drained(patience_s)

    def check_complete(self) -> None:
        """After `drained`.

        Raises:
            IoError: The end of the recording is lost.
        """
        if self._queue is not None and (lost := self._queue.waiting_bytes):
            raise IoError(f"the end of {self.path} is lost: its reader did not take {lost:,} bytes")

    def _queue_for(self, file: BinaryIO) -> LineWriter:
        self._device = file  # open for as long as its descriptor is written to
        self._queue = QueuedFile(Printer(file.fileno()))
        return self._queue

    def _write(self, line: bytes, *, flush: bool = True) -> None:
        with self._refusals():
            self._file.write(line)
            if flush:
                self._file.flush()

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._is_stdout and isinstance(error, BrokenPipeError):
                raise  # ends the run as it does for all output
            raise IoError(f"cannot write {self.path}: {error.strerror}") from None


def _quoted(url: str) -> bytes:
    return url.replace("\\", "\\\\").replace('"', '\\"').encode()


# -- reading --------------------------------------------------------------------------------------


class Replay:
    """The messages of a recording, or of a file of messages, one by one.

    Args:
        complain: Called for each line that is no message, which is then skipped; without it such a line is
            an error.
    """

    def __init__(self, path: Path | None, complain: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._complain = complain
        self.url = ""
        """Where it was recorded, if the file has it."""
        self.untimed = 0
        """Messages whose arrival times had to be made up."""
        self.messages = 0
        self.bad = 0
        """Lines that are no messages."""
        self._epoch_ns: int | None = None

    @property
    def name(self) -> str:
        """What is read, for a person."""
        return str(self._path or "stdin")

    def __iter__(self) -> Iterator[ReceivedMessage]:
        """Read on.

        Raises:
            IoError: The file cannot be read to its end. DataError: A line is no message.
        """
        return (arrival for arrival in self.steps() if arrival is not None)

    def steps(self) -> Iterator[ReceivedMessage | None]:
        """The same, with None now and then while lines hold nothing, so that the event loop gets its turn."""
        looked_up = time.monotonic()
        try:
            with _open(self._path) as stream:
                for number, line in enumerate(_lines(stream), 1):
                    arrival = self._read(line.strip(), number)
                    if arrival is not None:
                        self.messages += 1
                        yield arrival
                    elif time.monotonic() - looked_up > LOOK_UP_S:
                        yield None
                        looked_up = time.monotonic()
        except (OSError, EOFError) as error:
            raise IoError(f"cannot read {self.name}: {error}") from None

    def _read(self, text: bytes, number: int) -> ReceivedMessage | None:
        if not text:
            return None
        try:
            return self._arrival(text, number)
        except DataError as error:
            if self._complain is None:
                raise
            self.bad += 1
            if self.bad <= MAX_COMPLAINTS:
                self._complain(f"{error}; skipped")
            elif self.bad == MAX_COMPLAINTS + 1:
                self._complain(f"{self.name}: further lines that are no messages are only counted")
            return None

    def _arrival(self, text: bytes, number: int) -> ReceivedMessage | None:
        try:
            if text.startswith(b'{"t":') and (cut := text.find(b',"d":')) > 0:
                return _verbatim(text, cut)
            return self._other(text, _json_object(text))
        except DataError as error:
            raise DataError(f"{self.name}, line {number}: {error}") from None

    def _other(self, text: bytes, value: dict[str, Any]) -> ReceivedMessage | None:
        """A line that does not have the form that `line_of_arrival` writes."""
        if "flashctl" in value and "t" not in value:
            self.url = str(value.get("url", ""))
            return None
        if "t" in value:
            return _timed(value)
        if "v" in value and "event" in value:  # a line of `watch --json`
            if value["event"] != "flashblock" or not isinstance(value.get("data"), dict):
                return None
            stamp = _nanoseconds(value, "recv_ns")
            return ReceivedMessage(_text_of(value["data"]), False, stamp, stamp)
        self.untimed += 1
        stamp = self._made_up(value)
        return ReceivedMessage(text, False, stamp, stamp)

    def _made_up(self, value: dict[str, Any]) -> int:
        """A time for a message that has none: within the slot of the first block, then at a steady pace."""
        if self._epoch_ns is None:
            base = value.get("base")
            timestamp = base.get("timestamp") if isinstance(base, dict) else None
            try:
                seconds = 0 if timestamp is None else parse_quantity(timestamp, most=MAX_TIMESTAMP) - 2
            except DataError:
                seconds = 0  # decoding the message reports what is wrong with it
            self._epoch_ns = max(0, seconds) * 1_000_000_000
        return self._epoch_ns + self.untimed * _UNTIMED_STEP_NS


def _open(path: Path | None) -> BinaryIO:
    """The file; standard input under a descriptor of its own, since a thread that waits in a read keeps the
    lock of sys.stdin, which the interpreter needs to end."""
    if path is None:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    return open_for_reading(path)


def _json_object(text: bytes) -> dict[str, Any]:
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError("not a JSON object")
    return value


def _text_of(value: Any) -> bytes:
    import orjson

    try:
        return orjson.dumps(value)
    except TypeError as error:  # nested deeper than the encoder goes
        raise DataError(f"cannot be written as JSON again: {error}") from None


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of the file; of a JSON array, its members."""
    import orjson

    first = stream.readline(MAX_LINE_BYTES).removeprefix(b"\xef\xbb\xbf")
    head = first.lstrip()[:1]
    if head == b"[" or (head == b"{" and not first.rstrip().endswith(b"}")):
        try:
            value = orjson.loads(first + stream.read(MAX_LINE_BYTES))
        except orjson.JSONDecodeError as error:
            raise DataError(f"not a recording: {error}") from None
        for member in value if isinstance(value, list) else [value]:
            yield _text_of(member)
        return
    yield first
    blank = 0
    while line := stream.readline(MAX_LINE_BYTES):
        if line != b"\n":
            blank = 0
            yield line
            continue
        blank += 1
        yield line
        if blank > MAX_BLANK_LINES:
            raise DataError(f"not a recording: more than {MAX_BLANK_LINES:,} blank lines in a row")


def _verbatim(text: bytes, cut: int) -> ReceivedMessage:
    """A line as this module writes it: the message is cut out, so that it replays byte by byte."""
    head = _json_object(text[:cut] + b"}")
    size = head.get("n")
    return ReceivedMessage(
        text[cut + 5 : -1],
        False,
        _nanoseconds(head, "t"),
        _nanoseconds(head, "m"),
        recorded_bytes=size if isinstance(size, int) and size >= 0 else None,
    )


def _timed(value: dict[str, Any]) -> ReceivedMessage:
    wall = _nanoseconds(value, "t")
    steady = _nanoseconds(value, "m") if "m" in value else wall
    if "raw" in value:
        try:
            data = base64.b64decode(value["raw"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise DataError("raw is not base64") from None
        return ReceivedMessage(data, value.get("enc") != "json", wall, steady)
    if not isinstance(value.get("d"), dict):
        raise DataError("a recorded line without d or raw")
    return ReceivedMessage(_text_of(value["d"]), False, wall, steady)


def _nanoseconds(value: dict[str, Any], name: str) -> int:
    stamp = value.get(name)
    if not isinstance(stamp, int) or isinstance(stamp, bool) or stamp < 0:
        raise DataError(f"{name} is not a time in nanoseconds")
    return stamp
