"""Checks of a block's header before its transactions are executed, and how an invalid block is reported."""

from __future__ import annotations

from typing import Any, Final

from flashctl.errors import DataError
from flashctl.eth.blocks import EMPTY_OMMERS_HASH, EMPTY_REQUESTS_HASH, Block, Header
from flashctl.op.base_fee import next_base_fee
from flashctl.op.config import ChainConfig
from flashctl.op.extra_data import InvalidFeeParameters, decode_extra_data
from flashctl.op.forks import OpFork

__all__ = ["InvalidBlock", "check_header", "check_seal"]


class InvalidBlock(DataError):
    """A block that breaks a rule of consensus."""

    field: Final[str | None]
    """Name of the header field that is wrong, None where the fault is elsewhere."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.field = field

    @classmethod
    def mismatch(cls, field: str, expected: object, got: object) -> InvalidBlock:
        """A field that is not what it must be."""
        return cls(f"invalid {field}: expected {_shown(expected)}, got {_shown(got)}", field)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"0x{value.hex()}" if len(value) <= 32 else f"0x{value[:16].hex()}... ({len(value)} bytes)"
    return "none" if value is None else str(value)


def check_header(config: ChainConfig, parent: Header, block: Block) -> None:
    """Check everything in a header that follows from the parent and the fork alone.

    Raises:
        InvalidBlock: For the first field that is wrong.
    """
    header = block.header
    if header.timestamp <= parent.timestamp:
        raise InvalidBlock.mismatch("timestamp", f"more than {parent.timestamp}", header.timestamp)
    fork = config.fork_at(header.timestamp)
    _check_extra_data(fork, header)
    try:
        base_fee = next_base_fee(config, parent, header.timestamp)
    except InvalidFeeParameters as error:
        raise InvalidBlock(f"parent: {error}") from None
    has_beacon_root = fork.has_beacon_root
    expected: dict[str, Any] = {
        "parent_hash": parent.hash,
        "number": parent.number + 1,
        "ommers_hash": EMPTY_OMMERS_HASH,
        "difficulty": 0,
        "nonce": bytes(8),
        "base_fee_per_gas": base_fee,
        "excess_blob_gas": 0 if has_beacon_root else None,
        "requests_hash": EMPTY_REQUESTS_HASH if fork.has_requests else None,
    }
    for field, value in expected.items():
        if getattr(header, field) != value:
            raise InvalidBlock.mismatch(field, value, getattr(header, field))
    if (header.parent_beacon_block_root is None) is has_beacon_root:
        wanted = "a hash from ecotone" if has_beacon_root else None
        raise InvalidBlock.mismatch("parent_beacon_block_root", wanted, header.parent_beacon_block_root)
    if header.gas_used > header.gas_limit:
        raise InvalidBlock.mismatch("gas_used", f"at most {header.gas_limit}", header.gas_used)
    _check_withdrawals(fork, block)


def _check_extra_data(fork: OpFork, header: Header) -> None:
    # Before Holocene nothing reads the extra data, and op-geth's headers may carry up to 32 bytes.
    if not fork.has_fee_parameters:
        if len(header.extra_data) > 32:
            raise InvalidBlock.mismatch("extra_data", "at most 32 bytes", header.extra_data)
        return
    try:
        decode_extra_data(fork, header.extra_data)
    except InvalidFeeParameters as error:
        raise InvalidBlock(f"invalid extra_data: {error}", "extra_data") from None


def _check_withdrawals(fork: OpFork, block: Block) -> None:
    if fork.has_withdrawals and block.withdrawals != ():
        found = "none" if block.withdrawals is None else len(block.withdrawals)
        raise InvalidBlock.mismatch("withdrawals", "an empty list", found)
    if not fork.has_withdrawals and block.withdrawals is not None:
        raise InvalidBlock.mismatch("withdrawals", None, "a list")


def check_seal(stated: Header, computed: Header) -> None:
    """Compare what a header states with what execution came to.

    Raises:
        InvalidBlock: For the first field that differs; gas and receipts come first, since they locate a
            divergence better than the state root does.
    """
    fields = (
        "transactions_root",
        "gas_used",
        "receipts_root",
        "logs_bloom",
        "blob_gas_used",
        "withdrawals_root",
        "state_root",
    )
    for field in fields:
        if getattr(stated, field) != getattr(computed, field):
            raise InvalidBlock.mismatch(field, getattr(computed, field), getattr(stated, field))
    if stated.hash != computed.hash:
        raise InvalidBlock.mismatch("hash", computed.hash, stated.hash)
