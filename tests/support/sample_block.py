"""A block of an L2 whose header fits its body, as a node's answer too."""

from __future__ import annotations

from support.decode_lab import every_type

from flashctl.eth.blocks import EMPTY_OMMERS_HASH, EMPTY_REQUESTS_HASH, Block, Header
from flashctl.eth.ordered_trie import ordered_root
from flashctl.ethrpc.rpc_json import block_json
from flashctl.op.envelope import recover_all

__all__ = ["BLOCK", "HEADER", "OBJECT", "TRANSACTIONS"]

RAWS = every_type()
TRANSACTIONS = (RAWS["attributes"], RAWS["eip1559"], RAWS["legacy"])
HEADER = Header(
    b"\x11" * 32, EMPTY_OMMERS_HASH, bytes(20), b"\x22" * 32, ordered_root(TRANSACTIONS), b"\x33" * 32,
    bytes(256), 0, 5, 30_000_000, 21_000, 1_700_000_000, bytes.fromhex("01000000fa000000060000000000000001"),
    b"\x44" * 32, bytes(8), 7, b"\x55" * 32, 4000, 0, b"\x66" * 32, EMPTY_REQUESTS_HASH,
)  # fmt: skip
BLOCK = Block(HEADER, TRANSACTIONS)
OBJECT = block_json(HEADER, recover_all(TRANSACTIONS), full=True)
