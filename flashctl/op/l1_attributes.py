"""The L1 attributes deposit: the first transaction of every block, which passes the L1 origin to L2.

| layout  | selector                         | bytes | adds                                |
|---------|----------------------------------|-------|-------------------------------------|
| Bedrock | `setL1BlockValues(...)` 015d8eb9 | 260   | ABI-encoded words                   |
| Ecotone | 440a5e20                         | 164   | packed; scalars, blob base fee      |
| Isthmus | 098999be                         | 176   | operator fee scalar and constant    |
| Jovian  | 3db6be2b                         | 178   | DA footprint gas scalar             |

The block that activates a fork still carries the layout before it: the contract that understands the new one
is only deployed in that block.
https://specs.optimism.io/protocol/deposits.html#l1-attributes-deposited-transaction
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flashctl.errors import DataError
from flashctl.eth.transactions import DepositTx
from flashctl.op.config import ChainConfig
from flashctl.op.deposits import l1_attributes_source_hash
from flashctl.op.forks import OpFork

__all__ = [
    "DEPOSITOR",
    "InvalidL1Attributes",
    "L1Attributes",
    "attributes_layout",
    "decode_l1_attributes",
    "encode_l1_attributes",
    "l1_attributes_deposit",
    "stated_footprint_scalar",
]

DEPOSITOR: Final = bytes.fromhex("deaddeaddeaddeaddeaddeaddeaddeaddead0001")
"""Sender of the L1 attributes deposit; no private key is known for it."""

L1_BLOCK_ADDRESS: Final = bytes.fromhex("4200000000000000000000000000000000000015")
DEPOSIT_GAS: Final = 1_000_000
"""Gas limit of the deposit since Regolith."""

BEDROCK_DEPOSIT_GAS: Final = 150_000_000
"""Gas limit before Regolith, when system transactions did not count towards the block's."""

SELECTORS: Final = {
    OpFork.BEDROCK: bytes.fromhex("015d8eb9"),
    OpFork.ECOTONE: bytes.fromhex("440a5e20"),
    OpFork.ISTHMUS: bytes.fromhex("098999be"),
    OpFork.JOVIAN: bytes.fromhex("3db6be2b"),
}
SIZES: Final = {OpFork.BEDROCK: 260, OpFork.ECOTONE: 164, OpFork.ISTHMUS: 176, OpFork.JOVIAN: 178}
_LAYOUT_OF: Final = {selector: layout for layout, selector in SELECTORS.items()}


class InvalidL1Attributes(DataError):
    """Calldata that is not an L1 attributes call of a known layout."""


@dataclass(frozen=True, slots=True)
class L1Attributes:
    """A block's view of its L1 origin; fields that its layout lacks are zero."""

    number: int
    """Number of the L1 origin."""

    timestamp: int
    """Of the L1 origin, seconds since the epoch."""

    base_fee: int
    """Of the L1 origin, wei per gas."""

    block_hash: bytes
    """Of the L1 origin (32 bytes)."""

    sequence_number: int
    """Blocks between this one and the first of the same origin."""

    batcher: bytes
    """Address that posts batches on L1 (20 bytes)."""

    overhead: int = 0
    """Bedrock only: L1 gas added to each transaction."""

    scalar: int = 0
    """Bedrock only: weight of the L1 fee in millionths."""

    base_fee_scalar: int = 0
    """Ecotone: weight of the L1 base fee in millionths (32 bits)."""

    blob_base_fee_scalar: int = 0
    """Ecotone: weight of the blob base fee in millionths (32 bits)."""

    blob_base_fee: int = 0
    """Ecotone: of the L1 origin, wei per blob gas."""

    operator_fee_scalar: int = 0
    """Isthmus: per-gas operator fee (32 bits)."""

    operator_fee_constant: int = 0
    """Isthmus: operator fee per transaction, wei (64 bits)."""

    da_footprint_gas_scalar: int = 0
    """Jovian: gas per estimated byte of data (16 bits); zero stands for 400."""


def attributes_layout(config: ChainConfig, timestamp: int, parent_timestamp: int | None) -> OpFork:
    """The layout of the L1 attributes in a block: BEDROCK, ECOTONE, ISTHMUS or JOVIAN.

    Args:
        config: The chain's forks.
        timestamp: Of the block.
        parent_timestamp: Of its parent; None for a chain whose genesis already has the block's fork.
    """
    fork = config.fork_at(timestamp)
    if parent_timestamp is not None:
        fork = min(fork, config.fork_at(parent_timestamp))
    return max(layout for layout in SELECTORS if layout <= fork)


def encode_l1_attributes(attributes: L1Attributes, layout: OpFork) -> bytes:
    """The calldata of the L1 attributes deposit in one of the four layouts."""
    a = attributes
    if not layout.prices_blobs:
        words = (
            a.number,
            a.timestamp,
            a.base_fee,
            a.block_hash,
            a.sequence_number,
            a.batcher,
            a.overhead,
            a.scalar,
        )
        return SELECTORS[layout] + b"".join(
            word.rjust(32, b"\0") if isinstance(word, bytes) else word.to_bytes(32, "big") for word in words
        )
    data = SELECTORS[layout]
    data += a.base_fee_scalar.to_bytes(4, "big") + a.blob_base_fee_scalar.to_bytes(4, "big")
    data += (
        a.sequence_number.to_bytes(8, "big") + a.timestamp.to_bytes(8, "big") + a.number.to_bytes(8, "big")
    )
    data += a.base_fee.to_bytes(32, "big") + a.blob_base_fee.to_bytes(32, "big")
    data += a.block_hash + a.batcher.rjust(32, b"\0")
    if layout.has_operator_fee:
        data += a.operator_fee_scalar.to_bytes(4, "big") + a.operator_fee_constant.to_bytes(8, "big")
    if layout.has_da_footprint:
        data += a.da_footprint_gas_scalar.to_bytes(2, "big")
    return data


def decode_l1_attributes(data: bytes) -> tuple[OpFork, L1Attributes]:
    """Layout and fields of an L1 attributes call.

    Raises:
        InvalidL1Attributes: If selector or length belong to no layout.
    """
    layout = _LAYOUT_OF.get(data[:4])
    if layout is None:
        raise InvalidL1Attributes(f"selector 0x{data[:4].hex()} is no L1 attributes call")
    if len(data) != SIZES[layout]:
        raise InvalidL1Attributes(f"{layout.label} L1 attributes are {SIZES[layout]} bytes, got {len(data)}")
    if not layout.prices_blobs:
        return layout, _decode_bedrock(data)

    def uint(start: int, end: int) -> int:
        return int.from_bytes(data[start:end], "big")

    return layout, L1Attributes(
        number=uint(28, 36),
        timestamp=uint(20, 28),
        base_fee=uint(36, 68),
        block_hash=data[100:132],
        sequence_number=uint(12, 20),
        batcher=data[144:164],
        base_fee_scalar=uint(4, 8),
        blob_base_fee_scalar=uint(8, 12),
        blob_base_fee=uint(68, 100),
        operator_fee_scalar=uint(164, 168),
        operator_fee_constant=uint(168, 176),
        da_footprint_gas_scalar=uint(176, 178),
    )


def stated_footprint_scalar(data: bytes) -> int | None:
    """The DA footprint gas scalar in the calldata of an L1 attributes deposit; None before Jovian's layout.

    Consensus reads two bytes at a fixed place and asks no more of the length than that they are there.
    """
    if data[:4] != SELECTORS[OpFork.JOVIAN] or len(data) < SIZES[OpFork.JOVIAN]:
        return None
    return int.from_bytes(data[176:178], "big")


def _decode_bedrock(data: bytes) -> L1Attributes:
    words = [data[start : start + 32] for start in range(4, len(data), 32)]
    number, timestamp, base_fee, sequence_number, overhead, scalar = (
        int.from_bytes(words[index], "big") for index in (0, 1, 2, 4, 6, 7)
    )
    return L1Attributes(
        number,
        timestamp,
        base_fee,
        words[3],
        sequence_number,
        words[5][12:],
        overhead=overhead,
        scalar=scalar,
    )


def l1_attributes_deposit(attributes: L1Attributes, layout: OpFork, *, regolith: bool = True) -> DepositTx:
    """The deposit transaction that carries L1 attributes, as op-node derives it."""
    return DepositTx(
        source_hash=l1_attributes_source_hash(attributes.block_hash, attributes.sequence_number),
        sender=DEPOSITOR,
        to=L1_BLOCK_ADDRESS,
        mint=0,
        value=0,
        gas_limit=DEPOSIT_GAS if regolith else BEDROCK_DEPOSIT_GAS,
        is_system=not regolith,
        data=encode_l1_attributes(attributes, layout),
    )
