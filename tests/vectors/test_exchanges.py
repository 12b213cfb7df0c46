"""The questions of the pack, asked of a chain of ours: what anvil shows is shown here, in the same form.

Fields, the kind of every value, errors' codes and the data of a revert are compared; where the state alone
decides (calls, code, storage, nonces), the values as well.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import pytest
from support.devnet_chain import mine
from support.node_lab import start
from support.rpc_lab import Caller
from support.vectors import Json, load
from vectors.exchange_scenario import TRANSACTIONS, filled

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.eth.hexdata import to_hex

SAME_VALUE = {
    "eth_chainId", "net_version", "web3_sha3", "eth_syncing", "eth_getCode", "eth_getStorageAt", "eth_call",
    "eth_getTransactionCount", "eth_getUncleCountByBlockNumber",
}  # fmt: skip
"""Methods whose answers are decided by the story alone."""

OTHER_CODES = {"eth_sendRawTransaction"}
"""geth answers -32000 for what cannot be decoded, and so do we; anvil answers -32602."""

OURS = {
    "blobGasUsed", "daFootprintGasScalar", "l1BaseFeeScalar", "l1BlobBaseFee", "l1BlobBaseFeeScalar", "l1Fee",
    "l1GasPrice", "l1GasUsed", "operatorFeeScalar", "operatorFeeConstant",
}  # fmt: skip
"""What OP nodes add to a receipt; anvil has no L1Block to take it from."""

ANVILS = {"totalDifficulty", "blobGasPrice", "blockTimestamp", "reward"}
"""What geth does not send: difficulty since the merge, a blob price, a receipt's time, no rewards as []."""

PLACES = range(len(load("exchanges")))


def name(place: int) -> str:
    case = load("exchanges")[place]
    return f"{case['method']} {str(case['params'])[:60]}"


def is_deposit(value: Any) -> bool:
    return isinstance(value, dict) and "depositReceiptVersion" in value


def form(value: Any) -> Any:
    """Which fields, and what kind of a value each has; without deposits, which anvil's blocks lack."""
    match value:
        case dict():
            return {key: form(inner) for key, inner in value.items()}
        case list():
            kept = [each for each in value if not is_deposit(each)]
            return [form(kept[0])] if kept else []
        case bool() | None:
            return value
        case int() | float():
            return "number"
        case str() if value.startswith("0x"):
            return "hex"
    return "text"


def differing(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """Where two forms differ, what only one side has by intent left out."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = [f"{path}.{key}: only anvil" for key in theirs.keys() - ours.keys() - ANVILS]
        found += [f"{path}.{key}: only here" for key in ours.keys() - theirs.keys() - OURS]
        for key in theirs.keys() & ours.keys():
            found += differing(theirs[key], ours[key], f"{path}.{key}")
        return found
    if isinstance(theirs, list) and isinstance(ours, list) and theirs and ours:
        return differing(theirs[0], ours[0], f"{path}[]")
    return [] if theirs == ours else [f"{path}: anvil {theirs}, here {ours}"]


async def ask(rpc: Caller, methods: Methods, method: str, params: list[Any]) -> Json:
    if methods.find(method) is None:
        return {"error": {"code": -32601}}
    try:
        return {"result": await rpc(method, *params)}
    except RpcError as error:
        return {"error": error.to_json()}


@cache
def answers() -> list[Json]:
    """Ours to every question, after the same story."""

    async def tell_and_ask() -> list[Json]:
        node, names = start(grown=False), {}
        for place, raw in enumerate(TRANSACTIONS):
            block = mine(node.chain, [raw])
            names[f"$tx{place}"] = to_hex(block.envelopes[-1].hash)
            names.setdefault("$block1", to_hex(block.hash))
        return [
            await ask(node.rpc, node.methods, case["method"], filled(case["params"], names))
            for case in load("exchanges")
        ]

    return asyncio.run(tell_and_ask())


@pytest.mark.parametrize("place", PLACES, ids=name)
def test_an_exchange(place: int) -> None:
    theirs, ours = load("exchanges")[place], answers()[place]
    if "error" in theirs:
        right, shown = theirs["error"], ours["error"]
        assert shown["code"] == right["code"] or theirs["method"] in OTHER_CODES
        assert shown.get("data") == right.get("data")
        return
    assert differing(form(theirs["result"]), form(ours["result"])) == []
    if theirs["method"] in SAME_VALUE:
        assert ours["result"] == theirs["result"]
