"""The path of an upstream message to the hub; no sockets, no clock of its own.

    parse -> validate -> deduplicate -> publish

Messages are forwarded byte for byte; a compressed one as its text, or as the same compressed bytes for
clients that negotiated that compression. Parsing only determines the position in the stream (5 us at 5 KB, 45
us at 50 KB, once for all clients); a message that cannot be parsed is forwarded all the same, unless
`--validate strict` drops it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flashctl.core.flashblocks.frame import ZSTD_MAGIC
from flashctl.core.flashblocks.wire import MAX_INDEX, InvalidFlashblock, parse_object, unpack
from flashctl.core.hub import Encoding, Hub
from flashctl.core.service import defects
from flashctl.errors import DataError
from flashctl.eth.hexdata import MAX_HEIGHT, parse_number
from flashctl.proxy.config import Validation
from flashctl.proxy.dedupe import DedupeVerdict, Deduplicator, digest_of
from flashctl.proxy.validation import Validator

__all__ = ["Relay", "RelayStats", "StreamPosition", "position_of"]

_HEAD = re.compile(rb'\{"payload_id": ?"0x[0-9a-f]{16}", ?"index": ?(?=[0-9])')
"""The beginning of a flashblock as builders serialise it, up to its index."""

_INDEX_DIGITS = len(str(MAX_INDEX))


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """The position of a message in the stream."""

    payload_id: str
    index: int
    block_number: int


@dataclass(slots=True)
class RelayStats:
    """Counters of the merged stream."""

    forwarded: int = 0
    unplaced: int = 0
    """Forwarded without a known position."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason: duplicate, equivocation, stale, invalid, defect."""
    by_upstream: Counter[str] = field(default_factory=Counter)
    won: Counter[str] = field(default_factory=Counter)
    """Messages that each upstream delivered first."""
    last_message_at: float | None = None
    """Monotonic seconds of the last fresh message."""
    largest: int = 0


class Relay:
    """Merges the upstreams into the hub."""

    def __init__(self, hub: Hub, validator: Validator, clock: Callable[[], float]) -> None:
        self.hub = hub
        self.validator = validator
        self.stats = RelayStats()
        self.last: StreamPosition | None = None
        """The newest flashblock forwarded, after which an upstream resumes."""
        self.sinks: list[Callable[[str, bytes, bool, StreamPosition | None], None]] = []
        """Receive every forwarded message beside the hub: the bus."""
        self._dedupe = Deduplicator()
        self._clock = clock
        self._head: bytes | None = None
        """The first bytes common to the messages of the payload being streamed."""

    def receive(
        self, source: str, data: bytes, *, binary: bool, frame: bytes | None = None, last: bool = False
    ) -> bool:
        """Process a message of the upstream called `source`; whether it was forwarded.

        `frame` is the WebSocket frame it came in, and `last` that no further message of the same read
        follows; see `Hub.publish`. A defect costs this message only.
        """
        try:
            return self._receive(source, data, binary, frame, last)
        except Exception as error:
            defects.caught("proxy.relay", error, source)
            self.stats.dropped["defect"] += 1
            return False

    def _receive(self, source: str, data: bytes, binary: bool, frame: bytes | None, last: bool) -> bool:
        stats = self.stats
        stats.by_upstream[source] += 1
        if len(data) > stats.largest:
            stats.largest = len(data)
        placed = self._continuation(data)
        if placed is None:
            try:
                text = unpack(data, binary=binary)
                message = parse_object(text)
            except InvalidFlashblock as error:
                return self._unplaced(source, data, binary, str(error))
            placed = position_of(message)
            if placed is None:
                return self._unplaced(source, data, binary, "no payload id, index or block number")
        else:
            text, message = data, {}
        arrival = self._dedupe.judge(
            placed.payload_id, placed.index, placed.block_number, digest_of(text), source, self._clock()
        )
        if arrival is not DedupeVerdict.FRESH:
            stats.dropped[arrival.value] += 1
            return False
        if not self.validator.passes(message):
            # Another upstream's copy of it may be valid.
            self._dedupe.forget(placed.payload_id, placed.index)
            stats.dropped["invalid"] += 1
            return False
        self.last = placed
        if message:
            self._head = self._head_of(text, placed)
        self._forward(source, data, binary, placed, frame, last, text)
        return True

    def _continuation(self, data: bytes) -> StreamPosition | None:
        """The position of a message that starts as builders serialise it and continues the current payload.

        Its block number is that of the payload, so nothing is parsed: ten of eleven messages cost 1 us
        instead of 20 (5 KB) or 90 (50 KB). Not under --validate, which needs every message parsed.
        """
        head = self._head
        if head is None or not data.startswith(head):
            return None
        begin = len(head)
        comma = data.find(b",", begin, begin + _INDEX_DIGITS + 1)
        digits = data[begin:comma] if comma > begin else b""
        if not digits.isdigit() or digits[0] == 0x30:  # index 0 carries a base, which must be parsed
            return None
        last, index = self.last, int(digits)
        if last is None or index > MAX_INDEX:
            return None
        return StreamPosition(last.payload_id, index, last.block_number)

    def _head_of(self, text: bytes, placed: StreamPosition) -> bytes | None:
        """The first bytes of further messages of that payload; None if they cannot be recognised by them."""
        head = _HEAD.match(text) if self.validator.mode is Validation.OFF else None
        # For a duplicate key JSON parsers take the last value.
        return head[0] if head is not None and placed.payload_id.encode() in head[0] else None

    def _unplaced(self, source: str, data: bytes, binary: bool, problem: str) -> bool:
        if not self.validator.passes(None, problem):
            self.stats.dropped["invalid"] += 1
            return False
        self.stats.unplaced += 1
        self._forward(source, data, binary, None)
        return True

    def _forward(
        self,
        source: str,
        data: bytes,
        binary: bool,
        placed: StreamPosition | None,
        frame: bytes | None = None,
        last: bool = False,
        text: bytes | None = None,
    ) -> None:
        stats = self.stats
        stats.forwarded += 1
        stats.won[source] += 1
        stats.last_message_at = self._clock()
        if placed is None:
            self.hub.publish(data, binary=binary)
        else:
            # A message received compressed stays so only for clients that negotiated it.
            packed = None
            if text is not None and text is not data:
                packed = (Encoding.ZSTD if data.startswith(ZSTD_MAGIC) else Encoding.BROTLI, data)
            self.hub.publish(
                data if packed is None or text is None else text,
                binary=binary and packed is None,
                payload_id=placed.payload_id,
                index=placed.index,
                block_number=placed.block_number,
                frame=frame if packed is None else None,
                packed=packed,
                now=last,
            )
        for sink in self.sinks:
            sink(source, data, binary, placed)

    def resume_query(self) -> Mapping[str, str]:
        """The query parameters that request an upstream's messages after the last flashblock."""
        if self.last is None:
            return {}
        return {
            "block_number": str(self.last.block_number),
            "flashblock_index": str(self.last.index),
            "payload_id": self.last.payload_id,
        }


def position_of(message: Mapping[str, Any]) -> StreamPosition | None:
    """The position of a parsed message, or None if its fields do not give one.

    Deliberately less strict than core.flashblocks.wire: the proxy forwards dialects it has never seen.
    """
    payload_id = message.get("payload_id")
    index = _number(message.get("index"), MAX_INDEX)
    if not isinstance(payload_id, str) or not 0 < len(payload_id) <= 66 or index is None:
        return None
    metadata = message.get("metadata")
    number = _number(metadata.get("block_number"), MAX_HEIGHT) if isinstance(metadata, dict) else None
    if number is None:
        base = message.get("base") or message.get("static")
        number = _number(base.get("block_number"), MAX_HEIGHT) if isinstance(base, dict) else None
    return None if number is None else StreamPosition(payload_id.lower(), index, number)


def _number(value: object, most: int) -> int | None:
    try:
        return parse_number(value, most=most)
    except DataError:
        return None
