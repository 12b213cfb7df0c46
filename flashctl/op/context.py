"""What is known of a block before any of its transactions has run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flashctl.eth.blocks import EMPTY_OMMERS_HASH, EMPTY_REQUESTS_HASH, Header
from flashctl.evm.message import BlockEnv
from flashctl.op.attributes import PayloadAttributes, check_attributes
from flashctl.op.base_fee import next_base_fee
from flashctl.op.config import ChainConfig
from flashctl.op.extra_data import encode_extra_data
from flashctl.op.forks import OpFork

__all__ = ["AncestorHash", "BlockContext"]

AncestorHash = Callable[[int], bytes]
"""Hash of an ancestor by number; asked only for the 256 blocks before the one that runs."""


@dataclass(frozen=True, slots=True)
class BlockContext:
    """The part of a header that does not depend on the block's transactions."""

    number: int
    timestamp: int
    """Seconds since the epoch."""

    parent_hash: bytes
    gas_limit: int
    base_fee: int
    """Wei per gas."""

    fee_recipient: bytes
    """Receiver of priority fees (20 bytes)."""

    prev_randao: bytes
    """RANDAO of the L1 origin (32 bytes)."""

    parent_beacon_block_root: bytes | None
    """Of the L1 origin, from Ecotone."""

    extra_data: bytes
    """EIP-1559 parameters for the next block, from Holocene."""

    @classmethod
    def from_attributes(
        cls, config: ChainConfig, parent: Header, attributes: PayloadAttributes
    ) -> BlockContext:
        """The block that payload attributes ask for on top of a parent.

        Raises:
            InvalidAttributes: If an OP field is missing or out of place.
            InvalidFeeParameters: If the EIP-1559 parameters, the attributes' or the parent's, are not valid.
        """
        check_attributes(config, attributes)
        return cls(
            number=parent.number + 1,
            timestamp=attributes.timestamp,
            parent_hash=parent.hash,
            gas_limit=attributes.gas_limit or 0,
            base_fee=next_base_fee(config, parent, attributes.timestamp),
            fee_recipient=attributes.fee_recipient,
            prev_randao=attributes.prev_randao,
            parent_beacon_block_root=attributes.parent_beacon_block_root,
            extra_data=encode_extra_data(
                config, attributes.timestamp, attributes.eip1559_params, attributes.min_base_fee
            ),
        )

    @classmethod
    def from_header(cls, header: Header) -> BlockContext:
        """The context of a block that exists, as its header states it; nothing is checked."""
        return cls(
            number=header.number,
            timestamp=header.timestamp,
            parent_hash=header.parent_hash,
            gas_limit=header.gas_limit,
            base_fee=header.base_fee_per_gas or 0,
            fee_recipient=header.fee_recipient,
            prev_randao=header.prev_randao,
            parent_beacon_block_root=header.parent_beacon_block_root,
            extra_data=header.extra_data,
        )

    def header(
        self,
        fork: OpFork,
        *,
        state_root: bytes,
        withdrawals_root: bytes | None,
        transactions_root: bytes,
        receipts_root: bytes,
        logs_bloom: bytes,
        gas_used: int,
        da_footprint: int,
    ) -> Header:
        """The header, given what executing the block brought to light.

        Args:
            fork: Whose rules the block follows; it decides which fields there are.
            withdrawals_root: From Canyon; since Isthmus the storage root of L2ToL1MessagePasser.
            da_footprint: Shown as blob gas, zero before Jovian.
        """
        return Header(
            parent_hash=self.parent_hash,
            ommers_hash=EMPTY_OMMERS_HASH,
            fee_recipient=self.fee_recipient,
            state_root=state_root,
            transactions_root=transactions_root,
            receipts_root=receipts_root,
            logs_bloom=logs_bloom,
            difficulty=0,
            number=self.number,
            gas_limit=self.gas_limit,
            gas_used=gas_used,
            timestamp=self.timestamp,
            extra_data=self.extra_data,
            prev_randao=self.prev_randao,
            nonce=bytes(8),
            base_fee_per_gas=self.base_fee,
            withdrawals_root=withdrawals_root,
            blob_gas_used=da_footprint if fork.has_beacon_root else None,
            excess_blob_gas=0 if fork.has_beacon_root else None,
            parent_beacon_block_root=self.parent_beacon_block_root,
            requests_hash=EMPTY_REQUESTS_HASH if fork.has_requests else None,
        )

    def environment(
        self, config: ChainConfig, ancestor_hash: AncestorHash, base_fee: int | None = None
    ) -> BlockEnv:
        """What contracts see of the block; `base_fee` in place of its own, if given."""

        def block_hash(number: int) -> int:
            found = self.parent_hash if number == self.number - 1 else ancestor_hash(number)
            return int.from_bytes(found, "big")

        return BlockEnv(
            number=self.number,
            timestamp=self.timestamp,
            gas_limit=self.gas_limit,
            base_fee=self.base_fee if base_fee is None else base_fee,
            coinbase=int.from_bytes(self.fee_recipient, "big"),
            prev_randao=int.from_bytes(self.prev_randao, "big"),
            chain_id=config.chain_id,
            block_hash=block_hash,
        )
