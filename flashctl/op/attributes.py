"""Payload attributes: what the consensus client asks a builder to build, and the id of that request.

The standard attributes of the Engine API plus OP's: forced transactions, `noTxPool`, gas limit, EIP-1559
parameters and minimum base fee.
https://specs.optimism.io/protocol/exec-engine.html#extended-payloadattributesv3
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.op.config import ChainConfig
from flashctl.op.extra_data import encode_extra_data

__all__ = ["InvalidAttributes", "PayloadAttributes", "check_attributes", "payload_id"]

SPEC_PAYLOAD_VERSION: Final = 3
"""First byte of a payload id: the version of the forkchoiceUpdated that asked (op-geth). op-reth always
writes 4.
"""

_EMPTY_LIST_RLP: Final = b"\xc0"
"""Withdrawals enter the id as RLP, and are always empty on OP."""


class InvalidAttributes(DataError):
    """Payload attributes that the fork of their timestamp does not allow."""


@dataclass(frozen=True, slots=True)
class PayloadAttributes:
    """One request to build a block."""

    timestamp: int
    """Of the block, seconds since the epoch."""

    prev_randao: bytes
    """RANDAO of the L1 origin (32 bytes)."""

    fee_recipient: bytes
    """Receiver of priority fees (20 bytes), on OP chains the SequencerFeeVault."""

    transactions: tuple[bytes, ...] = ()
    """Forced transactions in EIP-2718 encoding; they come first and in this order."""

    no_tx_pool: bool = False
    """Whether the block holds the forced transactions only."""

    gas_limit: int | None = None
    """Of the block; OP requires it, an absent one is refused by `check_attributes`."""

    parent_beacon_block_root: bytes | None = None
    """Of the L1 origin (32 bytes), from Ecotone."""

    eip1559_params: bytes | None = None
    """Denominator and elasticity, four bytes each, from Holocene; all zero asks for the chain's constants."""

    min_base_fee: int | None = None
    """Floor of the base fee in wei, from Jovian."""

    withdrawals: tuple[()] | None = ()
    """Empty from Canyon (which brings Shanghai), None before."""


def payload_id(
    parent_hash: bytes, attributes: PayloadAttributes, version: int = SPEC_PAYLOAD_VERSION
) -> bytes:
    """The 8-byte id under which a builder keeps the payload it builds for these attributes.

    Same as op-geth's for the same input, so two builders asked the same answer with the same id.
    """
    digest = hashlib.sha256()
    digest.update(parent_hash)
    digest.update(attributes.timestamp.to_bytes(8, "big"))
    digest.update(attributes.prev_randao)
    digest.update(attributes.fee_recipient)
    digest.update(_EMPTY_LIST_RLP)
    if attributes.parent_beacon_block_root is not None:
        digest.update(attributes.parent_beacon_block_root)
    if attributes.no_tx_pool or attributes.transactions:
        digest.update(bytes((attributes.no_tx_pool,)))
        digest.update(len(attributes.transactions).to_bytes(8, "big"))
        for raw in attributes.transactions:
            digest.update(keccak256(raw))
    if attributes.gas_limit is not None:
        digest.update(attributes.gas_limit.to_bytes(8, "big"))
    if attributes.eip1559_params is not None:
        digest.update(attributes.eip1559_params)
    if attributes.min_base_fee is not None:
        digest.update(attributes.min_base_fee.to_bytes(8, "big"))
    return bytes((version,)) + digest.digest()[1:8]


def check_attributes(config: ChainConfig, attributes: PayloadAttributes) -> None:
    """Check the fields that OP adds against the fork of the block asked for.

    Raises:
        InvalidAttributes: If the gas limit is absent, or the beacon root of the L1 origin is absent or out of
        place. InvalidFeeParameters: If EIP-1559 parameters or minimum base fee are missing, out of place or
        malformed.
    """
    if attributes.gas_limit is None:
        raise InvalidAttributes("missing gasLimit in payload attributes")
    has_beacon_root = config.fork_at(attributes.timestamp).has_beacon_root
    if has_beacon_root and attributes.parent_beacon_block_root is None:
        raise InvalidAttributes("missing parentBeaconBlockRoot in payload attributes")
    if not has_beacon_root and attributes.parent_beacon_block_root is not None:
        raise InvalidAttributes("got parentBeaconBlockRoot, expected none before ecotone")
    encode_extra_data(config, attributes.timestamp, attributes.eip1559_params, attributes.min_base_fee)
