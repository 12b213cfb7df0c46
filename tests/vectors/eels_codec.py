"""EELS' RLP, tries and receipts, for JSON lines on stdin: run by the interpreter that has EELS."""

from __future__ import annotations

import json
import sys
from typing import Any

from ethereum.forks.prague.blocks import Log, Receipt, encode_receipt
from ethereum.forks.prague.bloom import logs_bloom
from ethereum.forks.prague.fork_types import Address
from ethereum.forks.prague.transactions import (
    AccessListTransaction,
    BlobTransaction,
    FeeMarketTransaction,
    LegacyTransaction,
    SetCodeTransaction,
)
from ethereum.forks.prague.trie import Trie, root, trie_set
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes32
from ethereum_types.numeric import Uint

TYPES = (LegacyTransaction, AccessListTransaction, FeeMarketTransaction, BlobTransaction, SetCodeTransaction)


def item(value: Any) -> Any:
    return [item(inner) for inner in value] if isinstance(value, list) else bytes.fromhex(value)


def shown(value: Any) -> Any:
    return [shown(inner) for inner in value] if isinstance(value, (list, tuple)) else bytes(value).hex()


def decoded(data: bytes) -> dict[str, Any]:
    try:
        return {"decoded": shown(rlp.decode(data))}
    except Exception as error:
        return {"refused": type(error).__name__}


def receipt(fields: dict[str, Any]) -> dict[str, Any]:
    logs = tuple(
        Log(
            Address(bytes.fromhex(address)),
            tuple(Bytes32(bytes.fromhex(topic)) for topic in topics),
            bytes.fromhex(data),
        )
        for address, topics, data in fields["logs"]
    )
    bloom = logs_bloom(logs)
    made = Receipt(fields["succeeded"], Uint(fields["gas"]), bloom, logs)
    # EELS asks for the transaction only to learn its type.
    kind = TYPES[fields["type"]]
    encoded = encode_receipt(object.__new__(kind), made)
    raw = encoded if isinstance(encoded, bytes) else rlp.encode(encoded)
    return {"encoded": raw.hex(), "bloom": bloom.hex()}


def trie_root(request: dict[str, Any]) -> dict[str, Any]:
    trie: Any = Trie(secured=request["secured"], default=b"")
    for key, value in request["entries"]:
        trie_set(trie, bytes.fromhex(key), bytes.fromhex(value))
    return {"root": root(trie).hex()}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    match request["kind"]:
        case "rlp":
            return {"encoded": rlp.encode(item(request["item"])).hex()}
        case "bytes":
            return decoded(bytes.fromhex(request["data"]))
        case "receipt":
            return receipt(request)
        case _:
            return trie_root(request)


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))))
