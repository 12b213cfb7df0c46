"""What happens to one upstream message on its way to the hub; no sockets, no clock of its own.

    parse -> validate -> deduplicate -> publish

The bytes that came are the bytes that leave; of a compressed message, the text in it, or the same compressed
bytes for clients that asked for that. Parsing is for placing the message in the stream (5 us at 5 KB,
45 us at 50 KB, once for all clients); what cannot be parsed is forwarded to whoever is connected, unless
`--validate strict` says otherwise.
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
from flashctl.proxy.dedupe import Arrival, Deduplicator, digest_of
from flashctl.proxy.validation import Validator

__all__ = ["Placed", "Relay", "RelayStats", "place"]

_HEAD = re.compile(rb'\{"payload_id": ?"0x[0-9a-f]{16}", ?"index": ?(?=[0-9])')
"""How builders begin a flashblock, up to its index."""

_INDEX_DIGITS = len(str(MAX_INDEX))


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a message belongs in the stream."""

    payload_id: str
    index: int
    block_number: int


@dataclass(slots=True)
class RelayStats:
    """Counters of the merged stream."""

    forwarded: int = 0
    unplaced: int = 0
    """Forwarded without being understood."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason: duplicate, equivocation, stale, invalid, defect."""
    by_upstream: Counter[str] = field(default_factory=Counter)
    won: Counter[str] = field(default_factory=Counter)
    """Messages each upstream was first with."""
    last_message_at: float | None = None
    """Monotonic seconds of the last fresh message."""
    largest: int = 0


class Relay:
    """Merges the upstreams into the hub."""

    def __init__(self, hub: Hub, validator: Validator, clock: Callable[[], float]) -> None:
        self.hub = hub
        self.validator = validator
        self.stats = RelayStats()
        self.last: Placed | None = None
        """The newest flashblock forwarded: where an upstream resumes."""
        self.sinks: list[Callable[[str, bytes, bool, Placed | None], None]] = []
        """Told of every forwarded message beside the hub: the bus."""
        self._dedupe = Deduplicator()
        self._clock = clock
        self._head: bytes | None = None
        """What a message starts with that belongs to the payload being streamed."""

    def receive(
        self, source: str, data: bytes, *, binary: bool, frame: bytes | None = None, last: bool = False
    ) -> bool:
        """Take a message of the upstream called `source`; whether it was forwarded.

        `frame` is the WebSocket frame it came in, and `last` that nothing came with it which is still to be
        handed over; see `Hub.publish`. What nobody foresaw costs the message.
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
            placed = place(message)
            if placed is None:
                return self._unplaced(source, data, binary, "no payload id, index or block number")
        else:
            text, message = data, {}
        arrival = self._dedupe.judge(
            placed.payload_id, placed.index, placed.block_number, digest_of(text), source, self._clock()
        )
        if arrival is not Arrival.FRESH:
            stats.dropped[arrival.value] += 1
            return False
        if not self.validator.passes(message):
            # Another upstream's copy under that name may be better.
            self._dedupe.forget(placed.payload_id, placed.index)
            stats.dropped["invalid"] += 1
            return False
        self.last = placed
        if message:
            self._head = self._head_of(text, placed)
        self._forward(source, data, binary, placed, frame, last, text)
        return True

    def _continuation(self, data: bytes) -> Placed | None:
        """The place of a message that starts as builders write it and belongs to the payload being streamed.

        Its block number is that of the payload, so nothing has to be parsed: ten of eleven messages cost
        1 us instead of 20 (5 KB) or 90 (50 KB). Not under --validate, which wants to see everything.
        """
        head = self._head
        if head is None or not data.startswith(head):
            return None
        begin = len(head)
        comma = data.find(b",", begin, begin + _INDEX_DIGITS + 1)
        digits = data[begin:comma] if comma > begin else b""
        if not digits.isdigit() or digits[0] == 0x30:  # an index 0 has a base to be read
            return None
        last, index = self.last, int(digits)
        if last is None or index > MAX_INDEX:
            return None
        return Placed(last.payload_id, index, last.block_number)

    def _head_of(self, text: bytes, placed: Placed) -> bytes | None:
        """What further messages of that payload start with, if they are to be known by that."""
        head = _HEAD.match(text) if self.validator.mode is Validation.OFF else None
        # A payload id that is there twice counts by its last value.
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
        placed: Placed | None,
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
            # One that came compressed goes on so only to clients that asked for it.
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
        """The query with which an upstream is asked for what comes after the last flashblock."""
        if self.last is None:
            return {}
        return {
            "block_number": str(self.last.block_number),
            "flashblock_index": str(self.last.index),
            "payload_id": self.last.payload_id,
        }


def place(message: Mapping[str, Any]) -> Placed | None:
    """Where a parsed message belongs, or None when it does not say.

    Deliberately less strict than core.wire: the proxy forwards dialects it has never seen.
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
    return None if number is None else Placed(payload_id.lower(), index, number)


def _number(value: object, most: int) -> int | None:
    try:
        return parse_number(value, most=most)
    except DataError:
        return None
