"""eth_sendRawTransactionSync (EIP-7966): its errors, the bounds of its time-out, and what is no refusal."""

from __future__ import annotations

from typing import Any, Final

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex

__all__ = ["NOT_READY", "bounded_timeout_ms", "is_known", "not_confirmed", "not_ready"]

CONFIRMATION_TIMEOUT: Final = 4
"""A transaction was taken but not seen in a block in time."""

NOT_READY: Final = 5
"""A transaction was taken and cannot be executed yet."""

_KNOWN: Final = ("already known", "alreadyknown", "already imported")
"""geth's and reth's words, and those of older nodes."""


def bounded_timeout_ms(asked: int | None, longest: int) -> int:
    """The time-out that holds: one that is not between one and the longest means the longest."""
    return asked if asked is not None and 0 < asked <= longest else longest


def not_confirmed(transaction_hash: bytes, timeout_ms: int) -> RpcError:
    """The transaction is in no block or flashblock after that time."""
    shown = to_hex(transaction_hash)
    message = f"Transaction {shown} was added to the mempool but wasn't confirmed within {timeout_ms} ms."
    return RpcError(CONFIRMATION_TIMEOUT, message, shown)


def not_ready(transaction_hash: bytes, next_nonce: int | None = None) -> RpcError:
    """The transaction waits behind a gap; `next_nonce` is what would fill it, where that is known."""
    shown = to_hex(transaction_hash)
    known = "" if next_nonce is None else f", the next one of its sender is {next_nonce}"
    message = (
        f"Transaction {shown} was added to the mempool but cannot be executed yet: nonce too high{known}."
    )
    return RpcError(NOT_READY, message, shown)


def is_known(refusal: Any) -> bool:
    """Whether a pool refused a transaction, in these words, because it has it already."""
    text = str(refusal).lower()
    return any(words in text for words in _KNOWN)
