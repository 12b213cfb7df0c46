"""The builder's block, from wherever it can be had: its flashblocks, or its own getPayload.

Both end in the same form, an envelope ready to be validated by the fallback and returned. What makes a
block of flashblocks usable is that its header hashes to what the builder announced last; a builder that
leaves the state root out (Base, subblocks) has to be asked for the block instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashctl.boost.selection import Offer
from flashctl.core.assembly import full_block
from flashctl.core.engine import envelope_to_json
from flashctl.core.sequence import Payload
from flashctl.core.wire import ZERO_HASH
from flashctl.errors import DataError
from flashctl.eth.hexdata import parse_quantity, to_hex

__all__ = ["Candidate", "Unusable", "from_envelope", "from_flashblocks", "keeps_promises"]

ISTHMUS_VERSION = 4
"""getPayload from this version on carries requests and a withdrawals root."""


class Unusable(Exception):
    """There is no block here; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block as getPayload would return it."""

    envelope: dict[str, Any]
    via: str
    """`flashblocks`, `getPayload` or `rebuilt`."""

    offer: Offer

    @property
    def payload(self) -> dict[str, Any]:
        """The execution payload."""
        payload: dict[str, Any] = self.envelope["executionPayload"]
        return payload

    @property
    def block_hash(self) -> str:
        """As the payload states it."""
        return str(self.payload.get("blockHash"))

    @property
    def timestamp(self) -> int:
        """Of the block, seconds since the epoch; 0 if it does not say."""
        return _number(self.payload, "timestamp")

    @property
    def block_number(self) -> int:
        """0 if the payload does not say."""
        return _number(self.payload, "blockNumber")


def from_envelope(envelope: Mapping[str, Any], via: str) -> Candidate:
    """The block of a getPayload answer; whether it is valid is for the fallback to say."""
    payload = envelope["executionPayload"]
    transactions = payload.get("transactions")
    count = len(transactions) if isinstance(transactions, list) else 0
    return Candidate(dict(envelope), via, Offer(_number(payload, "gasUsed"), count))


def from_flashblocks(payload: Payload | None, version: int) -> Candidate:
    """The block of the flashblocks received, for an answer to getPayload of `version`.

    Raises:
        Unusable: If there are none, or they do not make a block by themselves.
    """
    if payload is None:
        raise Unusable("no flashblocks")
    announced = payload.diff.block_hash
    if announced == ZERO_HASH:
        raise Unusable("flashblocks carry no block hash")
    block = full_block(payload)
    if block.hash != announced:
        raise Unusable(f"flashblocks make block {to_hex(block.hash)}, builder announced {to_hex(announced)}")
    if (block.header.requests_hash is not None) != (version >= ISTHMUS_VERSION):
        raise Unusable(f"flashblocks are of another fork than getPayloadV{version}")
    return from_envelope(envelope_to_json(block), "flashblocks")


def keeps_promises(candidate: Candidate, payload: Payload | None) -> bool:
    """Whether a block holds every published transaction in its place."""
    if payload is None:
        return True
    promised = [to_hex(raw) for raw in payload.transactions]
    transactions = candidate.payload.get("transactions")
    return isinstance(transactions, list) and transactions[: len(promised)] == promised


def _number(payload: Mapping[str, Any], key: str) -> int:
    try:
        return parse_quantity(payload[key])
    except (KeyError, DataError):
        return 0
