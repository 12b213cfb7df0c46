"""Gas that a transaction costs before its first instruction runs.

The figures are those of the current rules (Prague, which OP Stack chains follow from Isthmus). The EVM has
the same arithmetic per fork for execution; this one exists so that a decode does not import an EVM.
"""

from __future__ import annotations

from flashctl.eth.transactions import DepositTx, LegacyTx, SetCodeTx, Transaction

__all__ = ["floor_gas", "intrinsic_gas"]

_TRANSACTION = 21_000
_CREATE = 32_000
"""EIP-2."""
_INITCODE_WORD = 2
"""EIP-3860."""
_ZERO_BYTE = 4
_NONZERO_BYTE = 16
"""EIP-2028."""
_ACCESS_ADDRESS = 2_400
_ACCESS_KEY = 1_900
"""EIP-2930."""
_AUTHORIZATION = 25_000
"""EIP-7702, charged as if the account did not exist."""
_FLOOR_PER_TOKEN = 10
"""EIP-7623: a zero byte is one token, any other four."""


def intrinsic_gas(tx: Transaction) -> int:
    """Gas charged before execution; a transaction whose gas limit is below it is invalid."""
    data = tx.data
    zeros = data.count(0)
    gas = _TRANSACTION + zeros * _ZERO_BYTE + (len(data) - zeros) * _NONZERO_BYTE
    if tx.to is None:
        gas += _CREATE + _INITCODE_WORD * ((len(data) + 31) // 32)
    if not isinstance(tx, (LegacyTx, DepositTx)):
        for entry in tx.access_list:
            gas += _ACCESS_ADDRESS + _ACCESS_KEY * len(entry.storage_keys)
    if isinstance(tx, SetCodeTx):
        gas += _AUTHORIZATION * len(tx.authorizations)
    return gas


def floor_gas(tx: Transaction) -> int:
    """The least that a transaction with this much calldata pays from Prague on (EIP-7623)."""
    zeros = tx.data.count(0)
    return _TRANSACTION + _FLOOR_PER_TOKEN * (zeros + 4 * (len(tx.data) - zeros))
