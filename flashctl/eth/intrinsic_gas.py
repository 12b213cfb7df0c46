"""Gas that a transaction costs before its first instruction runs (Yellow Paper 6.2).

EIP-2 (creation), EIP-2028 (calldata), EIP-2930 (access lists), EIP-3860 (init code), EIP-7623 (floor for
calldata, from Prague), EIP-7702 (authorizations). Transactions of a fork cannot carry fields
that it lacks, so only the floor depends on the fork.
"""

from __future__ import annotations

from typing import Final

from flashctl.eth.transactions import DepositTx, LegacyTx, SetCodeTx, Transaction

__all__ = ["calldata_tokens", "floor_gas", "intrinsic_gas", "price_of_parts"]

TRANSACTION: Final = 21_000
CREATION: Final = 32_000
INIT_CODE_WORD: Final = 2
TOKEN: Final = 4
LISTED_ADDRESS: Final = 2_400
LISTED_SLOT: Final = 1_900
AUTHORIZATION: Final = 25_000
"""Charged as if the account did not exist; if it does, half is refunded."""
FLOOR_TOKEN: Final = 10


def calldata_tokens(data: bytes) -> int:
    """A zero byte is one token, any other byte four (EIP-2028 in the terms of EIP-7623)."""
    return 4 * len(data) - 3 * data.count(0)


def price_of_parts(
    tokens: int, init_code: int | None, addresses: int, slots: int, authorizations: int
) -> int:
    """Gas charged before execution, by what there is of each part.

    Args:
        tokens: Of the calldata.
        init_code: Its size in bytes if the transaction creates a contract.
        addresses: Entries of the access list.
        slots: Storage keys in all of them.
        authorizations: Entries of the authorization list.
    """
    gas = TRANSACTION + TOKEN * tokens
    if init_code is not None:
        gas += CREATION + INIT_CODE_WORD * ((init_code + 31) // 32)
    return gas + LISTED_ADDRESS * addresses + LISTED_SLOT * slots + AUTHORIZATION * authorizations


def intrinsic_gas(tx: Transaction) -> int:
    """Gas charged before execution; a transaction whose gas limit is below it is invalid."""
    listed = () if isinstance(tx, LegacyTx | DepositTx) else tx.access_list
    return price_of_parts(
        calldata_tokens(tx.data),
        len(tx.data) if tx.to is None else None,
        len(listed),
        sum(len(entry.storage_keys) for entry in listed),
        len(tx.authorizations) if isinstance(tx, SetCodeTx) else 0,
    )


def floor_gas(tokens: int) -> int:
    """The least that a transaction with so many tokens of calldata uses from Prague on (EIP-7623)."""
    return TRANSACTION + FLOOR_TOKEN * tokens
