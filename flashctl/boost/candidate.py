"""The builder's block, from wherever it can be had: its flashblocks, or its own getPayload.

Both end in the same form, an envelope that is exactly what the consensus client asked for
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
    "keeps_promises",
]


@dataclass(frozen=True, slots=True)
class Request:
    """What the consensus client asked for, and with which getPayload it takes it."""

    parent_hash: bytes
    attributes: PayloadAttributes
    version: int
    defaults: bytes | None = None
    """The chain's EIP-1559 constants as `eip1559Params`, as far as they are known."""

    @property
    def beacon_root(self) -> bytes | None:
        """The one to compute block hashes and to validate with, whatever a builder says."""
        return self.attributes.parent_beacon_block_root

    @property
    def lacks_defaults(self) -> bool:
        """Whether a block cannot be judged without them."""
        return self.defaults is None and self.attributes.eip1559_params == CHAIN_DEFAULTS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block as getPayload would return it."""

    envelope: dict[str, Any]
    via: str
    """`flashblocks`, `getPayload` or `rebuilt`."""

    offer: Offer
    block: Block | None = None
    """None of the fallback's own: nobody checks that."""

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
        """Of the block, seconds since the epoch; 0 if it does not say."""
        return _number(self.payload, "timestamp")

    @property
    def block_number(self) -> int:
        """0 if the payload does not say."""
        return _number(self.payload, "blockNumber")

    def check_against(self, own: Candidate) -> None:
        """Compare with the fallback's own block what follows from the parent alone.

        Raises:
            Unusable: If they differ.
        """
        if self.block is not None and (difference := fixed_by_parent_difference(self.block, own.payload)):
            raise Unusable(f"{self.via}: {difference}")


def from_fallback(envelope: Mapping[str, Any]) -> Candidate:
    """The fallback's own block, as it is: it is the authority."""
    payload = envelope["executionPayload"]
    transactions = payload.get("transactions")
    count = len(transactions) if isinstance(transactions, list) else 0
    return Candidate(dict(envelope), "", Offer(_number(payload, "gasUsed"), count))


def from_envelope(envelope: Mapping[str, Any], via: str, request: Request) -> Candidate:
    """The block of a getPayload answer.

    Raises:
        Unusable: If it is not what was asked for, or not in the form asked for.
    """
    try:
        block = read_envelope(envelope, request.beacon_root, request.version)
    except Unusable as error:
        raise Unusable(f"{via}: {error}") from None
    return _as_asked(block, via, request, parse_quantity(envelope["blockValue"]))


def from_flashblocks(payload: Payload | None, request: Request) -> Candidate:
    """The block of the flashblocks received.

    Raises:
        Unusable: If there are none, or they do not make the block that was asked for by themselves.
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


def keeps_promises(candidate: Candidate, payload: Payload | None) -> bool:
    """Whether a block holds every published transaction in its place."""
    if payload is None:
        return True
    promised = [to_hex(raw) for raw in payload.transactions]
    transactions = candidate.payload.get("transactions")
    return isinstance(transactions, list) and transactions[: len(promised)] == promised


def _number(payload: Mapping[str, Any], key: str) -> int:
    """A 64-bit number for logs, metrics and health; 0 where there is none, for nothing depends on it."""
    try:
        number = parse_quantity(payload[key])
    except (KeyError, DataError):
        return 0
    return number if number.bit_length() <= 64 else 0
