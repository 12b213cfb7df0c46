"""A candidate for the builder's block, from its flashblocks or its own getPayload.

Both end in the same form, an envelope that matches the consensus client's request
(`boost.obligations`), ready to be validated by the fallback and returned. What makes a block of flashblocks
usable is that its header hashes to what the builder announced last; a builder that leaves the state root out
(Base, subblocks) has to be asked for the block instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashctl.boost.obligations import (
    CHAIN_DEFAULTS,
    Unusable,
    block_difference,
    fixed_by_parent_difference,
    read_envelope,
)
from flashctl.boost.selection import Offer
from flashctl.core.engine.payloads import envelope_to_json
from flashctl.core.flashblocks.assembly import full_block
from flashctl.core.flashblocks.sequence import Payload
from flashctl.core.flashblocks.wire import ZERO_HASH
from flashctl.errors import DataError
from flashctl.eth.blocks import Block
from flashctl.eth.hexdata import parse_quantity, to_hex
from flashctl.op.attributes import PayloadAttributes

__all__ = [
    "Candidate",
    "Request",
    "Unusable",
    "from_envelope",
    "from_fallback",
    "from_flashblocks",
    "keeps_preconfirmations",
]


@dataclass(frozen=True, slots=True)
class Request:
    """The consensus client's attributes, and the getPayload version that takes the block."""

    parent_hash: bytes
    attributes: PayloadAttributes
    version: int
    defaults: bytes | None = None
    """The chain's EIP-1559 constants as `eip1559Params`; None while unknown."""

    @property
    def beacon_root(self) -> bytes | None:
        """Used to compute block hashes and to validate, never the builder's."""
        return self.attributes.parent_beacon_block_root

    @property
    def lacks_defaults(self) -> bool:
        """Whether the block depends on them and they are unknown."""
        return self.defaults is None and self.attributes.eip1559_params == CHAIN_DEFAULTS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block as getPayload would return it."""

    envelope: dict[str, Any]
    via: str
    """`flashblocks`, `getPayload` or `rebuilt`."""

    offer: Offer
    block: Block | None = None
    """None for the fallback's own, which is not checked."""

    @property
    def payload(self) -> dict[str, Any]:
        """The execution payload."""
        payload: dict[str, Any] = self.envelope["executionPayload"]
        return payload

    @property
    def block_hash(self) -> str:
        """As the payload states it."""
        return str(self.payload.get("blockHash"))[:66]

    @property
    def timestamp(self) -> int:
        """Of the block, seconds since the epoch; 0 if the payload lacks it."""
        return _number(self.payload, "timestamp")

    @property
    def block_number(self) -> int:
        """0 if the payload lacks it."""
        return _number(self.payload, "blockNumber")

    def check_against(self, own: Candidate) -> None:
        """Compare the fields that follow from the parent alone with the fallback's own block.

        Raises:
            Unusable: If they differ.
        """
        if self.block is not None and (difference := fixed_by_parent_difference(self.block, own.payload)):
            raise Unusable(f"{self.via}: {difference}")


def from_fallback(envelope: Mapping[str, Any]) -> Candidate:
    """The fallback's own block, unchecked: the fallback is the authority."""
    payload = envelope["executionPayload"]
    transactions = payload.get("transactions")
    count = len(transactions) if isinstance(transactions, list) else 0
    return Candidate(dict(envelope), "", Offer(_number(payload, "gasUsed"), count))


def from_envelope(envelope: Mapping[str, Any], via: str, request: Request) -> Candidate:
    """The block of a getPayload answer.

    Raises:
        Unusable: If it does not match the request, or has not the form of that getPayload version.
    """
    try:
        block = read_envelope(envelope, request.beacon_root, request.version)
    except Unusable as error:
        raise Unusable(f"{via}: {error}") from None
    return _as_asked(block, via, request, parse_quantity(envelope["blockValue"]))


def from_flashblocks(payload: Payload | None, request: Request) -> Candidate:
    """The block of the flashblocks received.

    Raises:
        Unusable: If there are none, or they do not assemble to the block requested.
    """
    if payload is None:
        raise Unusable("no flashblocks")
    announced = payload.diff.block_hash
    if announced == ZERO_HASH:
        raise Unusable("flashblocks carry no block hash")
    block = full_block(payload)
    if block.hash != announced:
        raise Unusable(f"flashblocks make block {to_hex(block.hash)}, builder announced {to_hex(announced)}")
    return _as_asked(block, "flashblocks", request, 0)


def _as_asked(block: Block, via: str, request: Request, block_value: int) -> Candidate:
    difference = block_difference(
        block, request.parent_hash, request.attributes, request.version, request.defaults
    )
    if difference:
        raise Unusable(f"{via}: {difference}")
    envelope = envelope_to_json(block, block_value=block_value)
    return Candidate(envelope, via, Offer(block.header.gas_used, len(block.transactions)), block)


def keeps_preconfirmations(candidate: Candidate, payload: Payload | None) -> bool:
    """Whether a block holds every published transaction in its place."""
    if payload is None:
        return True
    published = [to_hex(raw) for raw in payload.transactions]
    transactions = candidate.payload.get("transactions")
    return isinstance(transactions, list) and transactions[: len(published)] == published


def _number(payload: Mapping[str, Any], key: str) -> int:
    """A 64-bit number for logs, metrics and health only; 0 where there is none."""
    try:
        number = parse_quantity(payload[key])
    except (KeyError, DataError):
        return 0
    return number if number.bit_length() <= 64 else 0
