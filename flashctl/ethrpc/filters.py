"""Log filters: which logs of which blocks a caller wants (`eth_getLogs`, `eth_newFilter`, `eth_subscribe`).

A filter is parsed once and then asked per block (`may_match`, a bloom test that never misses) and per log
(`matches`). Pure: whose logs they are, sealed or pending, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flashctl.errors import InvalidParams
from flashctl.eth.bloom import bloom_bits
from flashctl.eth.hexdata import InvalidHex, parse_hex
from flashctl.eth.receipts import Log
from flashctl.ethrpc.block_tags import BlockNumber, parse_block_number

__all__ = ["MAX_ADDRESSES", "MAX_TOPICS", "MAX_TOPIC_CHOICES", "InvalidFilter", "LogFilter"]

MAX_ADDRESSES: Final = 1000
MAX_TOPIC_CHOICES: Final = 1000
"""Per position; the limits of geth and of Base's node, far above what applications ask for."""

MAX_TOPICS: Final = 4
"""No log has more (LOG4)."""

_ADDRESS_SIZE: Final = 20
_TOPIC_SIZE: Final = 32


class InvalidFilter(InvalidParams):
    """A filter object that asks for nothing meaningful; the text is the message of the JSON-RPC error."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """One filter object. The default matches every log."""

    from_block: BlockNumber | None = None
    """First block; None where the caller left it out, which means the latest."""

    to_block: BlockNumber | None = None
    """Last block, inclusive."""

    block_hash: bytes | None = None
    """The one block to look at, instead of a range (EIP-234)."""

    addresses: frozenset[bytes] = frozenset()
    """Contracts; empty for any."""

    topics: tuple[frozenset[bytes] | None, ...] = ()
    """Allowed values by position; None at a position for any value there."""

    @classmethod
    def parse(cls, params: object, *, index: int = 0) -> LogFilter:
        """Read a filter object.

        Args:
            params: The parameter as JSON; null matches everything.
            index: Its position among the parameters, for messages.

        Raises:
            InvalidFilter: If a part is malformed or beyond a limit, or hash and range are both given.
            InvalidBlockRef: If a bound of the range names no block.
        """
        if params is None:
            return cls()
        if not isinstance(params, Mapping):
            raise InvalidFilter(f"invalid argument {index}: a filter is an object")
        start, end, block_hash = params.get("fromBlock"), params.get("toBlock"), params.get("blockHash")
        if block_hash is not None and (start is not None or end is not None):
            raise InvalidFilter(
                f"invalid argument {index}: cannot specify both BlockHash and FromBlock/ToBlock, "
                "choose one or the other"
            )
        return cls(
            None if start is None else parse_block_number(start, index=index),
            None if end is None else parse_block_number(end, index=index),
            None if block_hash is None else _sized(block_hash, _TOPIC_SIZE, "blockHash", index),
            _addresses(params.get("address"), index),
            _topics(params.get("topics"), index),
        )

    def matches(self, log: Log) -> bool:
        """Whether the filter wants this log, wherever it is."""
        if self.addresses and log.address not in self.addresses:
            return False
        present = log.topics
        if len(self.topics) > len(present):
            return False
        for wanted, topic in zip(self.topics, present, strict=False):
            if wanted is not None and topic not in wanted:
                return False
        return True

    def may_match(self, bloom: bytes) -> bool:
        """Whether a block with this bloom may hold a matching log; False is certain."""
        bits = int.from_bytes(bloom, "big")
        return _any_in(bits, self.addresses) and all(
            wanted is None or _any_in(bits, wanted) for wanted in self.topics
        )


def _any_in(bits: int, choices: Iterable[bytes]) -> bool:
    empty = True
    for choice in choices:
        empty = False
        wanted = bloom_bits(choice)
        if bits & wanted == wanted:
            return True
    return empty


def _addresses(value: Any, index: int) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise InvalidFilter(f"invalid argument {index}: address is neither a string nor a list")
    if len(value) > MAX_ADDRESSES:
        raise InvalidFilter(f"too many filter addresses: max {MAX_ADDRESSES}, got {len(value)}")
    return frozenset(_sized(item, _ADDRESS_SIZE, "address", index) for item in value)


def _topics(value: Any, index: int) -> tuple[frozenset[bytes] | None, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidFilter(f"invalid argument {index}: topics are not a list")
    if len(value) > MAX_TOPICS:
        raise InvalidFilter(f"too many topics: max {MAX_TOPICS}, got {len(value)}")
    return tuple(_choices(item, position, index) for position, item in enumerate(value))


def _choices(value: Any, position: int, index: int) -> frozenset[bytes] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return frozenset((_sized(value, _TOPIC_SIZE, "topic", index),))
    if not isinstance(value, list):
        raise InvalidFilter(f"invalid argument {index}: topic {position} is neither a string nor a list")
    if len(value) > MAX_TOPIC_CHOICES:
        raise InvalidFilter(
            f"too many filter topics in slot {position}: max {MAX_TOPIC_CHOICES}, got {len(value)}"
        )
    if not value or None in value:
        # An empty list, or null among the choices, matches anything: so in geth, and clients rely on it.
        return None
    return frozenset(_sized(item, _TOPIC_SIZE, "topic", index) for item in value)


def _sized(value: Any, size: int, what: str, index: int) -> bytes:
    try:
        return parse_hex(value, size=size)
    except InvalidHex as error:
        raise InvalidFilter(f"invalid argument {index}: {what}: {error}") from None
