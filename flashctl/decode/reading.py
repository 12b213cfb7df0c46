"""Raw bytes to a transaction, for bytes that a node accepts.

Everything else (sidecars, unsigned bytes, encodings that need repair) is `tx_formats`, which is imported only
when it is needed: a decode of one good transaction has 150 ms for everything, and the modules behind
`tx_formats` alone take 20.
"""

from __future__ import annotations

from dataclasses import replace

from flashctl.decode.tx_reading import Reading
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode_list_payload, encode_uint
from flashctl.eth.transactions import (
    InvalidTransaction,
    LegacyTx,
    SignedTransaction,
    decode_transaction,
)

__all__ = ["read_transaction", "signing_hash_of"]


def read_transaction(raw: bytes) -> Reading:
    """Read a transaction in whichever form it comes.

    Raises:
        Unreadable: With the first field and byte that cannot be understood.
    """
    try:
        tx = decode_transaction(raw)
    except InvalidTransaction as error:
        from flashctl.decode.tx_formats import read_other_form

        return read_other_form(raw, error)
    if isinstance(tx, LegacyTx) and tx.r == tx.s == 0 and tx.v >= 35:
        # What a wallet signs under EIP-155 has the shape of a transaction whose v is the chain id.
        return Reading(raw, replace(tx, v=35 + 2 * tx.v), signed=False)
    return Reading(raw, tx)


def signing_hash_of(raw: bytes, tx: SignedTransaction) -> bytes:
    """What the sender of a signed transaction signed, cut out of its canonical encoding.

    The signature is the last three fields, so everything before it is already encoded: 4 us instead of the 12
    that encoding the fields again takes.
    """
    start = 0 if raw[0] >= 0xC0 else 1
    first = raw[start]
    payload_start = start + 1 if first < 0xF8 else start + 1 + first - 0xF7
    if isinstance(tx, LegacyTx):
        end = len(raw) - len(encode_uint(tx.v)) - len(encode_uint(tx.r)) - len(encode_uint(tx.s))
        chain_id = tx.chain_id
        protection = b"" if chain_id is None else encode_uint(chain_id) + b"\x80\x80"
        return keccak256(encode_list_payload(raw[payload_start:end] + protection))
    end = len(raw) - 1 - len(encode_uint(tx.r)) - len(encode_uint(tx.s))
    return keccak256(raw[:1] + encode_list_payload(raw[payload_start:end]))
