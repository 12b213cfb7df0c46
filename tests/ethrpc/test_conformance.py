"""Recorded answers of geth (ethereum/execution-apis) about the state at a chain's head, asked of our node.

The recorded chain is Ethereum's, not an OP chain, so its blocks are not executed here. Its head block with
the whole state after it stands as a genesis, and everything that was asked about that state must come out
the same: balances, code, storage, calls and their failures, error codes and messages. Of all other methods
those exchanges are asked that end in an error or find nothing. (`test_simulate_conformance` and
`test_trace_conformance` have theirs, `test_views` what blocks, transactions and receipts look like.)
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.recorded_chain import recorded_head
from support.reference import reference_path
from support.rpc_lab import Caller

from flashctl.chain.chain import Chain
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.ethrpc.eth_api import EthApi

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


ELSEWHERE = ("eth_simulateV1", "debug_trace")
"""Beginnings of methods whose recorded exchanges other files ask, all of them."""


def exchanges() -> list[tuple[str, list[Any], dict[str, Any], bool]]:
    """(name, parameters, response, whether only its shape counts) of every exchange that can be asked."""
    found = []
    for path in sorted((reference_path("execution-apis") / "tests").glob("*/*.io")):
        method, text = path.parent.name, path.read_text()
        lines = [line[3:] for line in text.splitlines() if line[:2] in (">>", "<<")]
        request, response = json.loads(lines[0]), json.loads(lines[1])
        name = f"{method}/{path.stem}"
        is_asked = method in METHODS or (not method.startswith(ELSEWHERE) and finds_nothing(response))
        if is_asked and name not in OLDER_STATE:
            found.append((name, request.get("params", []), response, "speconly:" in text))
    return found


def finds_nothing(response: dict[str, Any]) -> bool:
    return "error" in response or response["result"] is None


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
