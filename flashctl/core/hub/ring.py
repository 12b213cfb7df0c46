"""The recent past of a stream, kept once for every client: what late joiners and laggards are served from.

Messages carry ascending sequence numbers; a client is a number into the ring, not a queue. The ring forgets
by age and by bytes but never drops part of the open block, the messages since the last index 0, because a
client that joins now can use nothing that starts later (rollup-boost specs/flashblocks.md: a flashblock of
index > 0 extends the ones before it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from flashctl.core.hub.encoding import WINDOW_BYTES, Encoding, encode, is_compressible

__all__ = ["HubMessage", "Position", "Ring", "RingLimits"]

UNPLACED = -1
"""Index of a message that is not a flashblock: forwarded live, never a place to resume from."""

MAX_HISTORY_MESSAGES = 64
"""Messages looked back at for one window: five blocks' worth, where a stream of tiny ones would be 1,000s."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream that a client names when it resumes: the last flashblock it has seen."""

    block_number: int
    index: int


@dataclass(frozen=True, slots=True)
class RingLimits:
    """How much past is kept for clients that resume."""

    max_age_s: float = 10.0
    """Ten seconds: five blocks of the slowest OP Stack chain, and what base/base keeps (#1252)."""

    max_bytes: int = 64 << 20
    """Bounds memory when messages are far bigger or more frequent than flashblocks are."""


class HubMessage:
    """One published message and its frames, one for each encoding that a client has asked for."""

    __slots__ = (
        "_data",
        "binary",
        "block_number",
        "context_start",
        "facts",
        "frames",
        "index",
        "offset",
        "payload_id",
        "published_at",
        "raw",
        "seq",
        "size",
    )

    def __init__(
        self,
        data: bytes,
        *,
        binary: bool,
        payload_id: str = "",
        index: int = UNPLACED,
        block_number: int = 0,
        published_at: float = 0.0,
        frame: bytes | None = None,
    ) -> None:
        self._data = data if frame is None else None
        self.size = len(data)
        """Of the payload, in bytes."""
        self.raw = frame
        """The payload in a WebSocket frame of its own: as it came where it came like that, for then the bytes
        are kept once, else once a client asks for it."""
        self.binary = binary
        self.payload_id = payload_id
        self.index = index
        self.block_number = block_number
        self.published_at = published_at
        """Monotonic seconds."""
        self.seq = 0
        """Place in the ring."""
        self.offset = 0
        """Payload bytes published before this message; differences are a client's lag in bytes."""
        self.context_start = 0
        """Sequence number of the first message that a DEFLATE_TAKEOVER frame of this one may refer to."""
        self.facts: object = None
        """What a selector has worked out about the message, kept so that it is worked out once."""
        self.frames: dict[Encoding, bytes] = {}
        """In the other encodings."""

    @property
    def data(self) -> bytes:
        """The payload as it arrived; never re-encoded."""
        if self._data is None:
            assert self.raw is not None
            return self.raw[-self.size :] if self.size else b""
        return self._data

    def frame(self, encoding: Encoding) -> bytes:
        """The message as one WebSocket frame, built at the first request for `encoding`."""
        if encoding is Encoding.RAW:
            if self.raw is None:
                self.raw = encode(self.data, self.binary, encoding)
            return self.raw
        frame = self.frames.get(encoding)
        if frame is None:
            frame = self.frames[encoding] = encode(self.data, self.binary, encoding)
        return frame

    def __repr__(self) -> str:
        return f"<Message {self.seq} {self.payload_id}/{self.index} of block {self.block_number}>"


class Prepared(NamedTuple):
    """A text message whose frames were made before it is published."""

    seq: int
    """Its place, for which the frames hold."""
    data: bytes
    frames: dict[Encoding, bytes]


class Ring:
    """Messages `first <= seq < head`, oldest forgotten first."""

    __slots__ = (
        "_context_start",
        "_limits",
        "_messages",
        "first",
        "head",
        "head_offset",
        "open_block",
        "size",
    )

    def __init__(self, limits: RingLimits) -> None:
        self._limits = limits
        self._messages: dict[int, HubMessage] = {}
        self.first = 0
        self.head = 0
        self.head_offset = 0
        self.size = 0
        """Payload bytes held."""
        self.open_block: int | None = None
        """Sequence number of the open block's index 0; None while a reconstructable block has not begun."""
        self._context_start = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, seq: int) -> HubMessage:
        return self._messages[seq]

    def append(self, message: HubMessage) -> None:
        """Add the next message and forget what the limits no longer cover."""
        message.seq = self.head
        message.offset = self.head_offset
        previous = self._messages.get(self.head - 1)
        self._messages[self.head] = message
        self.head += 1
        self.head_offset += message.size
        self.size += message.size
        if message.index == 0:
            self.open_block = self._context_start = message.seq
        elif message.index != UNPLACED and (previous is None or self._leaves_open_block(message)):
            self.open_block = None
        message.context_start = self._context_start
        self.trim(message.published_at)

    def _leaves_open_block(self, message: HubMessage) -> bool:
        return self.open_block is None or self._messages[self.open_block].payload_id != message.payload_id

    def trim(self, now: float) -> None:
        """Forget messages older than the limits, at most up to the open block."""
        keep_from = self.head if self.open_block is None else self.open_block
        oldest = now - self._limits.max_age_s
        while self.first < keep_from:
            message = self._messages[self.first]
            if message.published_at >= oldest and self.size <= self._limits.max_bytes:
                return
            self._forget_first(message)
        # The open block alone exceeds the budget: an endless block is not replayed without limit.
        while self.size > self._limits.max_bytes and self.first < self.head - 1:
            self.open_block = None
            self._forget_first(self._messages[self.first])

    def _forget_first(self, message: HubMessage) -> None:
        del self._messages[self.first]
        self.size -= message.size
        self.first += 1

    def slice(self, start: int, stop: int) -> Iterator[HubMessage]:
        """Messages `start <= seq < stop`; all of them must still be held."""
        for seq in range(start, stop):
            yield self._messages[seq]

    def frame(self, message: HubMessage, encoding: Encoding) -> bytes:
        """A held message as one WebSocket frame; DEFLATE_TAKEOVER refers to messages that are held."""
        if encoding is Encoding.DEFLATE_TAKEOVER and encoding not in message.frames:
            history = self._history(message)
            message.frames[encoding] = encode(message.data, message.binary, encoding, history)
        return message.frame(encoding)

    def prepare(self, data: bytes, index: int, encodings: Iterable[Encoding]) -> Prepared:
        """Text with its frames, to be appended next; from any thread."""
        message = HubMessage(data, binary=False, index=index)
        message.seq = self.head
        message.context_start = message.seq if index == 0 else self._context_start
        try:
            for encoding in set(encodings) - {Encoding.RAW}:
                self.frame(message, encoding)
        except KeyError:
            # What it would refer to is being forgotten: the frames are made when they are asked for.
            message.frames.clear()
        return Prepared(message.seq, data, message.frames)

    def _history(self, message: HubMessage) -> bytes:
        """The end of what an inflater has put out that has had every message since `context_start`.

        Messages that are not compressed do not pass through inflaters. What the ring has forgotten is left
        out, and all before it: any end of the window may be referred to.
        """
        parts: list[bytes] = []
        room = WINDOW_BYTES
        earliest = max(message.context_start, self.first, message.seq - MAX_HISTORY_MESSAGES)
        for seq in range(message.seq - 1, earliest - 1, -1):
            earlier = self._messages[seq]
            data = earlier.data
            if is_compressible(data, earlier.binary):
                parts.append(data[-room:])
                room -= len(parts[-1])
                if not room:
                    break
        return b"".join(reversed(parts))

    def latest_block_start(self, after: int, before: int) -> int | None:
        """The newest index 0 in `after <= seq < before`, where a client that skips goes on."""
        for seq in range(before - 1, max(after, self.first) - 1, -1):
            if self._messages[seq].index == 0:
                return seq
        return None

    def compression_ratios(self) -> list[tuple[Encoding, float]]:
        """How many times smaller the frames of each encoding are, over the messages that have one."""
        totals: dict[Encoding, tuple[int, int]] = {}
        for message in self._messages.values():
            raw = {} if message.raw is None else {Encoding.RAW: message.raw}
            for encoding, frame in chain(raw.items(), message.frames.items()):
                before, after = totals.get(encoding, (0, 0))
                totals[encoding] = (before + message.size, after + len(frame))
        return [(encoding, before / after) for encoding, (before, after) in totals.items()]

    def joining_point(self) -> int:
        """Where a client without a past starts: the open block's index 0, else the next message."""
        return self.head if self.open_block is None else self.open_block

    def resume_point(self, position: Position, payload_id: str | None = None) -> int:
        """Where a client goes on that has seen everything up to `position`, and nothing later.

        With the payload id the place is exact. Without, a block that was rebuilt under a second payload id is
        served from the first place that fits: a client drops duplicates by (payload id, index) but cannot
        make up for a gap. A position the ring no longer holds is served from the oldest index 0 after it.
        """
        exact = (position.block_number, position.index)
        later: int | None = None
        for message in self._messages.values():
            if message.index == UNPLACED:
                continue
            here = (message.block_number, message.index)
            if here == exact and (payload_id is None or message.payload_id == payload_id):
                return message.seq + 1
            if later is None and here > exact and (message.index == 0 or self._follows(message, position)):
                later = message.seq
        if later is not None:
            return later
        newest = self._messages.get(self.head - 1)
        if newest is not None and (newest.block_number, newest.index) < exact:
            # The client is ahead of this ring (it read from a faster server): all that is here is old to it.
            return self.head
        return self.joining_point()

    @staticmethod
    def _follows(message: HubMessage, position: Position) -> bool:
        return message.block_number == position.block_number and message.index == position.index + 1
