"""Recorded answers of geth (ethereum/execution-apis) about the state at a chain's head, asked of our node.

The recorded chain is Ethereum's, not an OP chain, so its blocks are not executed here. Its head block with
the whole state after it stands as a genesis, and everything that was asked about that state must come out
the same: balances, code, storage, calls and their failures, error codes and messages.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support import fixture_path
from support.recorded_chain import recorded_head
from support.rpc_lab import Caller

from flashctl.chain.chain import Chain
from flashctl.chain.eth_api import EthApi
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods

METHODS = [
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_estimateGas",
    "eth_getBalance",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_getStorageValues",
    "eth_getTransactionCount",
    "eth_syncing",
    "net_version",
]


OLDER_STATE = {"eth_getBalance/get-balance-blockhash"}
"""Questions about blocks before the head, whose state is not in the reference data."""


def exchanges() -> list[tuple[str, list[Any], dict[str, Any], bool]]:
    """(name, parameters, response, whether only its shape counts) of every recorded exchange."""
    found = []
    root = fixture_path("execution-apis") / "tests"
    for method in METHODS:
        for path in sorted((root / method).glob("*.io")):
            text = path.read_text()
            lines = [line[3:] for line in text.splitlines() if line[:2] in (">>", "<<")]
            request, response = json.loads(lines[0]), json.loads(lines[1])
            name = f"{method}/{path.stem}"
            if name not in OLDER_STATE:
                found.append((name, request.get("params", []), response, "speconly:" in text))
    return found


@pytest.mark.parametrize(
    ("name", "params", "response", "shape_only"),
    exchanges(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_recorded_exchange(name: str, params: list[Any], response: dict[str, Any], shape_only: bool) -> None:
    async def ask() -> Any:
        methods = Methods()
        EthApi(Chain.open(recorded_head())).register(methods)
        return await Caller(methods)(name.split("/")[0], *params)

    try:
        answer = {"result": asyncio.run(ask())}
    except RpcError as error:
        answer = {"error": error.to_json()}
    if shape_only:
        assert answer.keys() == response.keys() - {"jsonrpc", "id"}
        return
    assert answer == {key: value for key, value in response.items() if key in ("result", "error")}
