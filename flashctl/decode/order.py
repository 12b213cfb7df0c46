"""Which lines of a batch mean the same wherever they stand.

Flashblocks, blocks and receipts are priced by and held against those before them (engine.py), so one process
must see all of them, in order. Everything else may be decoded by any. In doubt a line counts as one of them:
that costs time, and the other mistake a contradiction that `--verify` misses.
"""

from __future__ import annotations

import re
from typing import Final

from flashctl.decode.documents import BLOOM_WITHIN, Kind

__all__ = ["stands_alone"]

_MAY_HOLD_A_CONTAINER: Final = re.compile(
    rb'\\|"(?:d|diff|event|executionPayload|feeRecipient|jsonrpc|logs|method|params|raw|rawTransaction'
    rb'|result|rlp|stateRoot)"'
)
"""Keys of the objects that are remembered, and of wrappers, by the rules of documents.py; a backslash may
spell any key."""

_HEAD_DIGITS: Final = 2 * (BLOOM_WITHIN + 3)
_ALONE: Final = frozenset({Kind.TX, Kind.HEADER, Kind.LOG, Kind.CALL, Kind.ERROR, Kind.RLP})


def stands_alone(data: bytes, forced: Kind | None = None) -> bool:
    """Whether no line of `data` is remembered or depends on what is.

    Args:
        forced: `--as`, which says what bytes are whatever they look like.
    """
    if forced is not None and forced not in _ALONE:
        return False
    if _MAY_HOLD_A_CONTAINER.search(data) is not None:
        return False
    return all(map(_line_stands_alone, data.split(b"\n")))


def _line_stands_alone(line: bytes) -> bool:
    head = line[: 2 + _HEAD_DIGITS].lower()
    if head[:2] != b"0x":
        return not line.strip() or line[:1] in b"{#"
    if b"b90100" in head or not head.isalnum():  # the bloom of a receipt, and hex with blanks in it
        return False
    if head[2:3] < b"c" or head[2:3] > b"f":
        return True  # begins with a type or a selector, or is one string
    try:
        raw = bytes.fromhex(head[2:26].decode())
        width = raw[0] - 0xF7 if raw[0] >= 0xF8 else 0
        return raw[1 + width] < 0xC0  # a block begins with the list that is its header
    except (ValueError, IndexError):
        return False
