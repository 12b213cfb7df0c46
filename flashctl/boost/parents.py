"""The fields that a block's parent fixes: number and base fee, checked before anything is published.

Every block arrives as newPayload, the fallback validates it, and the next one is built on it. From Holocene a
header holds all that the base fee of its child depends on (op/base_fee.py), so it is computed here without
the chain's configuration. Where it cannot be (the parent was not seen, or is older), getPayload compares with
the fallback's own block.

Rules change with forks. If the fallback's block has another base fee than the one computed, this program is
older than the chain's fork, and stops checking base fees.

Pure. Parents come from the fallback's side; a malformed one merely leaves the fields of its child unchecked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flashctl.core.flashblocks.wire import Flashblock
from flashctl.errors import DataError
from flashctl.eth.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, Header
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.lru import Lru
from flashctl.op.base_fee import next_base_fee
from flashctl.op.config import ChainConfig, schedule_up_to
from flashctl.op.extra_data import HOLOCENE_SIZE, JOVIAN_SIZE
from flashctl.op.forks import OpFork

__all__ = ["Child", "Parents", "child_difference"]

_LOG = logging.getLogger("flashctl.boost")

MAX_PARENTS: Final = 8
"""Blocks kept: the head, and those that a consensus client may return to."""

_FORKS: Final = {HOLOCENE_SIZE: OpFork.HOLOCENE, JOVIAN_SIZE: OpFork.JOVIAN}
"""The fork whose base fee rules a block's child follows, by the size of the block's extra data."""

_ZERO: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Child:
    """The fields that a known parent fixes for its child."""

    number: int
    base_fee: int | None
    """Wei; None where it cannot be computed."""


class Parents:
    """Blocks that the fallback found valid."""

    def __init__(self) -> None:
        self._headers = Lru[bytes, Header](MAX_PARENTS)
        self._knows_base_fees = True

    def learn(self, payload: Any) -> None:
        """The fallback found this execution payload, JSON, valid."""
        if not isinstance(payload, Mapping):
            return
        try:
            identity, header = parse_hex(payload["blockHash"]), _header(payload)
        except (DataError, KeyError, TypeError):
            return
        self._headers.put(identity, header)

    def child(self, parent_hash: bytes, timestamp: int) -> Child | None:
        """The fields fixed for the block on `parent_hash`; None if that parent was not seen."""
        parent = self._headers.peek(parent_hash)
        if parent is None:
            return None
        return Child(parent.number + 1, self._base_fee(parent, timestamp))

    def _base_fee(self, parent: Header, timestamp: int) -> int | None:
        fork = _FORKS.get(len(parent.extra_data))
        if fork is None or not self._knows_base_fees:
            return None
        try:
            return next_base_fee(ChainConfig(0, schedule_up_to(fork)), parent, timestamp)
        except DataError:
            return None

    def compare(self, child: Child | None, own: Mapping[str, Any]) -> None:
        """Compare with the fallback's own block, JSON, on the same parent: the fallback is the authority."""
        if child is None or child.base_fee is None or not self._knows_base_fees:
            return
        try:
            base_fee = parse_quantity(own["baseFeePerGas"])
        except (DataError, KeyError):
            return
        if base_fee != child.base_fee:
            self._knows_base_fees = False
            fields = {"fallback": base_fee, "computed": child.base_fee}
            _LOG.warning("base fee rules of an unknown fork: base fees are no longer checked", extra=fields)


def child_difference(first: Flashblock, child: Child | None) -> str:
    """How index 0 departs from the fields its parent fixes; empty if it does not."""
    if first.base is None or child is None:
        return ""
    if first.base.block_number != child.number:
        return "block number differs"
    if child.base_fee is not None and first.base.base_fee_per_gas != child.base_fee:
        return "base fee differs"
    return ""


def _header(payload: Mapping[str, Any]) -> Header:
    """The part of the header that the child depends on; the rest is empty.

    Raises:
        DataError, KeyError, TypeError: If a field is missing or malformed.
    """
    blob_gas = payload.get("blobGasUsed")
    return Header(
        parent_hash=parse_hex(payload["parentHash"]),
        ommers_hash=EMPTY_OMMERS_HASH,
        fee_recipient=bytes(20),
        state_root=_ZERO,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        difficulty=0,
        number=parse_quantity(payload["blockNumber"]),
        gas_limit=parse_quantity(payload["gasLimit"]),
        gas_used=parse_quantity(payload["gasUsed"]),
        timestamp=parse_quantity(payload["timestamp"]),
        extra_data=parse_hex(payload["extraData"]),
        prev_randao=_ZERO,
        nonce=bytes(8),
        base_fee_per_gas=parse_quantity(payload["baseFeePerGas"]),
        blob_gas_used=None if blob_gas is None else parse_quantity(blob_gas),
    )
