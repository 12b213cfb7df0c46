"""One client of a hub, and the groups of clients that are up to date."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from flashctl.core.hub.encoding import Encoding
from flashctl.core.hub.ring import HubMessage

__all__ = ["Peer", "Router", "Selector", "Subscriber", "SubscriberGroup"]


class Peer(Protocol):
    """The connection behind a subscriber, as far as the hub is concerned."""

    def fileno(self) -> int:
        """The socket to write to while `buffered` is 0, open until the hub has dropped the peer; -1 for a
        peer that has to encode what it sends."""

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes, or keep what cannot be sent and report the peer as full."""

    def write_many(self, frames: Sequence[bytes]) -> None:
        """Send several frames without joining them into a copy of their own."""

    def buffered(self) -> int:
        """Bytes accepted by `write` that the kernel has not taken yet."""

    def end(self, code: int, reason: str, cause: str) -> None:
        """Close with a close frame; `cause` is the short name that metrics count it under."""


class Selector(Hashable, Protocol):
    """The part of the stream that a client subscribed to; equal selectors share their work."""

    def accepts(self, message: HubMessage) -> bool:
        """Whether the client gets `message`; must not depend on anything but the message."""


class Router(Protocol):
    """Finds the selectors that accept a message without asking each of them."""

    def add(self, selector: Selector) -> None:
        """A first client with this selector has come."""

    def remove(self, selector: Selector) -> None:
        """The last client with this selector has gone."""

    def select(self, message: HubMessage) -> Iterable[Selector]:
        """Every added selector whose `accepts(message)` is true."""


class Subscriber:
    """A cursor into the ring.

    A subscriber is in one of three places: in a group (live: everything flushed is written to it), behind
    (its cursor is earlier than the group's, because the kernel takes no more or because it asked for the
    past), or waiting for the next index 0 after having been skipped.
    """

    __slots__ = (
        "cursor",
        "encoding",
        "group",
        "label",
        "paused",
        "paused_at",
        "peer",
        "replaying",
        "selector",
        "since",
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
        if selector is not None and encoding is Encoding.DEFLATE_TAKEOVER:
            # No other client skips the same messages. The negotiated extension allows frames without
            # references too.
            encoding = Encoding.DEFLATE
        self.encoding = encoding
        self.selector = selector
        self.label = label
        """Whose connection this is, for metrics: the name of an API key, never the key."""
        self.cursor = 0
        """Sequence number of the next message to send; meaningless while live."""
        self.since = 0
        """Sequence number from which the client has had every message: what its inflater's window holds."""
        self.group: SubscriberGroup | None = None
        self.slot = -1
        """Place in the group, so that leaving it costs the same however many share it."""
        self.paused = False
        self.paused_at = 0.0
        self.replaying = False
        self.waiting = False

    @property
    def live(self) -> bool:
        """Whether flushed messages go straight to this client."""
        return self.group is not None

    def go_on_at(self, seq: int) -> None:
        """Make `seq` the next message to send, whatever the client has had before."""
        self.cursor = self.since = seq

    def encoding_within(self, context_start: int) -> Encoding:
        """How to send a message whose shared deflate context began at `context_start`."""
        if self.encoding is Encoding.DEFLATE_TAKEOVER and self.since > context_start:
            return Encoding.DEFLATE
        return self.encoding

    def __repr__(self) -> str:
        state = "live" if self.live else "waiting" if self.waiting else f"at {self.cursor}"
        paused = " paused" if self.paused else ""
        return f"<Subscriber {self.label or '-'} {self.encoding.value} {state}{paused}>"


class SubscriberGroup:
    """Clients that are up to date and receive the same bytes.

    Kept as parallel lists so that a flush is one pass over file descriptors: nothing is looked up and
    nothing is counted per delivery. That pass is what the product's throughput is made of. It writes to the
    sockets themselves, which saves 0.4 us of the 4.2 us that a transport takes for 5 KB; a client is live
    only while its transport holds nothing back, so the transport need not know. One system call for all
    sends (io_uring) was measured and is not worth it: docs/benchmarks.md.
    """

    __slots__ = ("encoding", "fds", "indirect", "members", "selector")

    def __init__(self, encoding: Encoding, selector: Selector | None) -> None:
        self.encoding = encoding
        self.selector = selector
        self.members: list[Subscriber] = []
        """Clients with a socket of their own, in the order of `fds`."""
        self.fds = array("i")
        self.indirect: set[Subscriber] = set()
        """Clients whose bytes have to go through their transport: TLS."""

    def __len__(self) -> int:
        return len(self.members) + len(self.indirect)

    def add(self, subscriber: Subscriber) -> None:
        """Make a client that has caught up a member."""
        subscriber.group = self
        fd = subscriber.peer.fileno()
        if fd < 0:
            self.indirect.add(subscriber)
            return
        subscriber.slot = len(self.members)
        self.members.append(subscriber)
        self.fds.append(fd)

    def discard(self, subscriber: Subscriber) -> None:
        """Take a member out; the last member moves into its place."""
        subscriber.group = None
        if subscriber.slot < 0:
            self.indirect.discard(subscriber)
            return
        slot, subscriber.slot = subscriber.slot, -1
        last = self.members.pop()
        fd = self.fds.pop()
        if last is not subscriber:
            self.members[slot] = last
            self.fds[slot] = fd
            last.slot = slot

    def write(self, data: bytes, start: int) -> int:
        """Send `data` to every member, beginning with number `start`; the number of members written to.

        What a socket does not take goes to its transport, which reports the client as full.
        """
        indirect = tuple(self.indirect)
        for member in indirect:
            member.peer.write(data)
        count = len(self.fds)
        if not count:
            return len(indirect)
        start %= count
        fds = self.fds[start:] + self.fds[:start]
        refused = _write_each(fds, data)
        if refused:
            # Members leave the group here, and not while it is walked.
            rest = memoryview(data)
            for member, sent in [(self.members[(start + place) % count], sent) for place, sent in refused]:
                # After any error the transport has it: it waits for room, or finds the connection gone.
                member.peer.write(rest[max(0, sent) :])
        return count + len(indirect)


def _write_each(fds: array[int], data: bytes) -> list[tuple[int, int]]:
    """Send `data` to every descriptor; for those that did not take all of it, place in `fds` and bytes taken
    or a negative errno."""
    size = len(data)
    refused: list[tuple[int, int]] = []
    write = os.write
    for place, fd in enumerate(fds):
        try:
            sent = write(fd, data)
        except OSError as error:
            sent = -(error.errno or errno.EIO)
        if sent != size:
            refused.append((place, sent))
    return refused
