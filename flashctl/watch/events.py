"""What happens on a stream, as renderers, filters and statistics read it.

    ReceivedMessage      a message as it came off the wire or out of a recording
    WatchEvent   what it meant: a flashblock with its figures (`row`), or a gap, a duplicate, a replaced
    payload, ...

The names of events are those of `--json` and `--on`; `EVENT_NAMES` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flashctl.core.flashblocks.wire import Flashblock

__all__ = ["EVENT_NAMES", "ReceivedMessage", "Row", "WatchEvent"]

EVENT_NAMES: Final = {
    "flashblock": "a flashblock arrived",
    "gap": "one or more flashblocks never arrived",
    "late": "a flashblock arrived after one that follows it",
    "duplicate": "a flashblock arrived again, with equal content",
    "equivocation": "a second, different flashblock for the same payload and index",
    "joined-mid": "a payload whose index 0 was never seen",
    "inconsistent": "a flashblock that contradicts its sequence",
    "closed": "a payload takes no more flashblocks",
    "replaced": "a block number is built again under another payload id",
    "rewound": "the stream went back to an earlier block",
    "missed": "whole blocks of which nothing arrived",
    "prev-mismatch": "prev_flashblock_id names another predecessor: a block was truncated",
    "undecodable": "a frame that is no flashblock",
    "connected": "a connection was made",
    "disconnected": "a connection broke",
    "sealed": "a payload became a block as it was shown",
    "dropped": "a sealed block lacks transactions that were shown",
    "unsealed": "a payload whose block never appeared",
    "tx": "the transaction that is followed was found",
}
"""Every event, in words."""


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message as received."""

    data: bytes
    """The frame, before decompression."""
    binary: bool
    received_ns: int
    """Wall clock, nanoseconds since the epoch."""
    monotonic_ns: int
    """Steady clock, nanoseconds; intervals are measured on it."""
    url: str = ""
    recorded_bytes: int | None = None
    """Size on the wire, where a recording kept the message without its compression."""

    @property
    def wire_bytes(self) -> int:
        """What the message cost on the wire."""
        return len(self.data) if self.recorded_bytes is None else self.recorded_bytes


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one flashblock."""

    flashblock: Flashblock
    new_transactions: int
    total_transactions: int | None
    """Of the block so far; None when an earlier flashblock of it is missing."""
    gas_added: int | None
    """Of this flashblock alone; the wire carries totals. None when its predecessor is missing."""
    gas_used: int
    gas_limit: int | None
    """None when the base was never seen."""
    base_fee: int | None
    base_fee_change: float | None
    """Relative to the block before: 0.02 is two per cent up. Only at index 0."""
    elapsed_ns: int | None
    """Since the flashblock before, of whatever payload."""
    slot_offset_ns: int | None
    """Arrival minus the block's timestamp; negative while the slot is still running."""
    marks: tuple[str, ...] = ()
    """Peculiarities: `gap`, `joined`, `replaced`, `rewound`, `missed`, `prev`."""
    replayed: bool = False
    """Sent as catch-up to a client that joins in mid-block: its time of arrival means nothing."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One thing that happened."""

    name: str
    received_ns: int
    payload_id: str | None = None
    block: int | None = None
    index: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """The figures of this kind of event, ready for JSON."""
    row: Row | None = None
    """Of a flashblock."""
    text: bytes = b""
    """The JSON text of a flashblock as received, decompressed and otherwise untouched."""
    arrival: ReceivedMessage | None = None
