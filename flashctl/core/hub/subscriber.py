"""One client of a hub, and the lanes that clients who are up to date share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol

from flashctl.core.hub.encoding import Encoding
from flashctl.core.hub.ring import Message

__all__ = ["Lane", "Peer", "Router", "Selector", "Subscriber"]


class Peer(Protocol):
    """The connection behind a subscriber, as far as the hub is concerned."""

    def writer(self) -> Callable[[bytes], object]:
        """The function that sends bytes; the hub keeps it, so it must stay valid until the end."""

    def write_many(self, frames: Sequence[bytes]) -> None:
        """Send several frames without joining them into a copy of their own."""

    def buffered(self) -> int:
        """Bytes accepted by `writer` that the kernel has not taken yet."""

    def end(self, code: int, reason: str, cause: str) -> None:
        """Close with a close frame; `cause` is the short name that metrics count it under."""


class Selector(Hashable, Protocol):
    """What a client wants to see of the stream; equal selectors share their work."""

    def accepts(self, message: Message) -> bool:
        """Whether the client gets `message`; must not depend on anything but the message."""


class Router(Protocol):
    """Finds the selectors that accept a message without asking each of them."""

    def add(self, selector: Selector) -> None:
        """A first client with this selector has come."""

    def remove(self, selector: Selector) -> None:
        """The last client with this selector has gone."""

    def select(self, message: Message) -> Iterable[Selector]:
        """Every added selector whose `accepts(message)` is true."""


class Subscriber:
    """A cursor into the ring.

    A subscriber is in one of three places: in a lane (live: everything flushed is written to it), behind
    (its cursor is earlier than the lane's, because the kernel takes no more or because it asked for the
    past), or waiting for the next index 0 after having been skipped.
    """

    __slots__ = (
        "cursor",
        "encoding",
        "label",
        "lane",
        "paused",
        "paused_at",
        "peer",
        "replaying",
        "selector",
        "slot",
        "waiting",
    )

    def __init__(
        self,
        peer: Peer,
        *,
        encoding: Encoding = Encoding.RAW,
        selector: Selector | None = None,
        label: str = "",
    ) -> None:
        self.peer = peer
        self.encoding = encoding
        self.selector = selector
        self.label = label
        """Whose connection this is, for metrics: the name of an API key, never the key."""
        self.cursor = 0
        """Sequence number of the next message to send; meaningless while live."""
        self.lane: Lane | None = None
        self.slot = -1
        """Place in the lane, so that leaving it costs the same however many share it."""
        self.paused = False
        self.paused_at = 0.0
        self.replaying = False
        self.waiting = False

    @property
    def live(self) -> bool:
        """Whether flushed messages go straight to this client."""
        return self.lane is not None

    def __repr__(self) -> str:
        state = "live" if self.live else "waiting" if self.waiting else f"at {self.cursor}"
        paused = " paused" if self.paused else ""
        return f"<Subscriber {self.label or '-'} {self.encoding.value} {state}{paused}>"


class Lane:
    """Clients that are up to date and receive the same bytes.

    Kept as two parallel lists so that a flush is one pass over bound `write` methods: nothing is looked up
    and nothing is counted per delivery. That loop is what the product's throughput is made of.
    """

    __slots__ = ("encoding", "members", "selector", "writers")

    def __init__(self, encoding: Encoding, selector: Selector | None = None) -> None:
        self.encoding = encoding
        self.selector = selector
        self.members: list[Subscriber] = []
        self.writers: list[Callable[[bytes], object]] = []

    def __len__(self) -> int:
        return len(self.members)

    def add(self, subscriber: Subscriber) -> None:
        """Make a client that has caught up a member."""
        subscriber.lane = self
        subscriber.slot = len(self.members)
        self.members.append(subscriber)
        self.writers.append(subscriber.peer.writer())

    def discard(self, subscriber: Subscriber) -> None:
        """Take a member out; the last member moves into its place."""
        slot = subscriber.slot
        last = self.members.pop()
        writer = self.writers.pop()
        if last is not subscriber:
            self.members[slot] = last
            self.writers[slot] = writer
            last.slot = slot
        subscriber.lane = None
        subscriber.slot = -1

    def write(self, data: bytes, start: int) -> int:
        """Send `data` to every member, beginning with number `start`; the number of members written to.

        Writing may pause members, which leave the lane while it is walked: what is walked is a copy, whose
        price (10 us at 5,000 members) is nothing beside the writes.
        """
        writers = self.writers
        if not writers:
            return 0
        start %= len(writers)
        order = writers[start:] + writers[:start]
        for write in order:
            write(data)
        return len(order)
