"""One small story told to any node, and what it is asked afterwards.

The devnet's accounts are those of every development tool, so anvil holds the same ones, and the same raw
transactions run on both. `$tx0` in a question is the hash of a transaction, `$block1` that of a block.
"""

from __future__ import annotations

from typing import Any

from support.devnet_chain import GWEI, address, contract, encode_call, sign, sign_raw

from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode_bytes, encode_uint, join_list
from flashctl.eth.transactions import AccessListEntry, AccessListTx, LegacyTx

__all__ = ["QUESTIONS", "TRANSACTIONS", "filled"]

PROBE, TOKEN = contract("Probe"), contract("Token")


def created(sender: int, nonce: int) -> bytes:
    return keccak256(join_list((encode_bytes(address(sender)), encode_uint(nonce))))[12:]


PROBE_AT, TOKEN_AT = created(0, 0), created(1, 0)
PROBE_HEX, TOKEN_HEX, FRIEND = to_hex(PROBE_AT), to_hex(TOKEN_AT), "0x" + "99" * 20
TRANSACTIONS = [
    sign(0, 0, data=PROBE.creation_code, gas=2_000_000),
    sign(1, 0, data=TOKEN.creation_code + (10**6).to_bytes(32, "big"), gas=2_000_000),
    sign_raw(LegacyTx(0, 50 * GWEI, 21_000, bytes.fromhex(FRIEND[2:]), 10**18, b"", 35 + 2 * 901, 0, 0), 2),
    sign_raw(
        AccessListTx(
            901, 1, 50 * GWEI, 90_000, PROBE_AT, 0, PROBE.selectors["increment()"],
            (AccessListEntry(PROBE_AT, (bytes(32),)),), 0, 0, 0,
        ),
        2,
    ),
    sign(0, 1, to=PROBE_AT, data=encode_call(PROBE, "emitNotes(uint256)", 3)),
    sign(1, 1, to=TOKEN_AT, data=encode_call(TOKEN, "transfer(address,uint256)", address(5), 7)),
    sign(0, 2, to=PROBE_AT, data=encode_call(PROBE, "refuse(uint256)", 9)),
]  # fmt: skip
"""Each is a block of its own."""


def call(function: str, *words: int | bytes, **more: str) -> dict[str, str]:
    data = to_hex(encode_call(PROBE, function, *words))
    return {"from": to_hex(address(3)), "to": PROBE_HEX, "data": data} | more


def token(function: str, *words: int | bytes) -> dict[str, str]:
    return {"to": TOKEN_HEX, "data": to_hex(encode_call(TOKEN, function, *words))}


ME, ZERO_HASH = to_hex(address(0)), "0x" + "00" * 32
FORTY_TWO = "0x" + "00" * 31 + "2a"
QUESTIONS: list[tuple[str, list[Any]]] = [
    ("eth_chainId", []),
    ("net_version", []),
    ("web3_sha3", ["0x68656c6c6f"]),
    ("eth_blockNumber", []),
    ("eth_syncing", []),
    ("eth_gasPrice", []),
    ("eth_maxPriorityFeePerGas", []),
    ("eth_feeHistory", ["0x3", "latest", [25.0, 75.0]]),
    ("eth_feeHistory", ["0x2", "latest", []]),
    *(("eth_getBlockByNumber", [tag, False]) for tag in ("0x1", "0x3", "latest", "earliest")),
    *(("eth_getBlockByNumber", [tag, True]) for tag in ("0x1", "0x3", "latest", "earliest")),
    ("eth_getBlockByNumber", ["0xffff", False]),
    ("eth_getBlockByHash", ["$block1", True]),
    ("eth_getBlockByHash", [ZERO_HASH, False]),
    ("eth_getBlockTransactionCountByNumber", ["0x1"]),
    ("eth_getBlockTransactionCountByHash", [ZERO_HASH]),
    ("eth_getUncleCountByBlockNumber", ["0x1"]),
    ("eth_getTransactionByHash", [ZERO_HASH]),
    ("eth_getTransactionReceipt", [ZERO_HASH]),
    *(("eth_getTransactionByHash", [f"$tx{place}"]) for place in range(len(TRANSACTIONS))),
    *(("eth_getTransactionReceipt", [f"$tx{place}"]) for place in range(len(TRANSACTIONS))),
    ("eth_getTransactionByBlockNumberAndIndex", ["0x1", "0x63"]),
    ("eth_getBlockReceipts", ["0x5"]),
    ("eth_getBalance", [FRIEND, "latest"]),
    ("eth_getBalance", [FRIEND, "0x1"]),
    ("eth_getTransactionCount", [ME, "latest"]),
    ("eth_getTransactionCount", [ME, "0x1"]),
    ("eth_getTransactionCount", [FRIEND, "latest"]),
    ("eth_getCode", [PROBE_HEX, "latest"]),
    ("eth_getCode", [PROBE_HEX, "0x0"]),
    ("eth_getCode", [FRIEND, "latest"]),
    *(("eth_getStorageAt", [TOKEN_HEX, slot, "latest"]) for slot in ("0x0", "0x1", "0x5")),
    ("eth_getProof", [PROBE_HEX, [ZERO_HASH], "latest"]),
    ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "latest"}]),
    ("eth_getLogs", [{"fromBlock": "0x5", "toBlock": "0x5", "address": PROBE_HEX}]),
    ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "latest", "address": FRIEND}]),
    ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "latest", "topics": [[ZERO_HASH], None]}]),
    ("eth_call", [call("increment()"), "latest"]),
    ("eth_call", [call("increment()"), "0x1"]),
    ("eth_call", [call("divide(uint256,uint256)", 84, 2), "latest"]),
    ("eth_call", [call("divide(uint256,uint256)", 84, 0), "latest"]),
    ("eth_call", [call("refuse(uint256)", 5), "latest"]),
    ("eth_call", [call("spin(uint256)", 10), "latest"]),
    ("eth_call", [call("balanceAt(address)", address(9)), "latest"]),
    ("eth_call", [token("balanceOf(address)", address(5)), "latest"]),
    ("eth_call", [token("transfer(address,uint256)", address(5), 5), "latest"]),
    ("eth_call", [token("totalSupply()"), "latest"]),
    ("eth_call", [{"to": FRIEND}, "latest"]),
    ("eth_call", [{"data": "0x600160005260206000f3"}, "latest"]),
    ("eth_call", [call("increment()"), "latest", {PROBE_HEX: {"stateDiff": {ZERO_HASH: FORTY_TWO}}}]),
    ("eth_call", [{"to": FRIEND}, "latest", {FRIEND: {"code": "0x602a60005260206000f3"}}]),
    ("eth_estimateGas", [call("refuse(uint256)", 5)]),
    ("eth_estimateGas", [{"from": ME, "to": FRIEND, "value": "0x1"}]),
    ("eth_createAccessList", [call("increment()"), "latest"]),
    ("debug_traceTransaction", ["$tx5", {"tracer": "callTracer", "tracerConfig": {"withLog": True}}]),
    ("debug_traceTransaction", ["$tx3", {"disableStack": True, "disableStorage": True}]),
    ("debug_traceCall", [call("divide(uint256,uint256)", 84, 2), "latest", {"tracer": "callTracer"}]),
    ("eth_sendRawTransaction", ["0x"]),
    ("eth_nonsense", []),
    ("eth_getBalance", ["0x12", "latest"]),
    ("eth_getBalance", []),
    ("eth_getBlockByNumber", ["newest", False]),
]  # fmt: skip


def filled(value: Any, names: dict[str, str]) -> Any:
    """A question with the hashes that its names stand for."""
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value
