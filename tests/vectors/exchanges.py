"""JSON-RPC exchanges with anvil: the oracle for an answer's shape, and for what does not depend on a chain.

Our own answers, byte for byte, are a record of `tests/ethrpc/test_recorded_answers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
from support.anvil import anvil
from vectors.exchange_scenario import QUESTIONS, TRANSACTIONS, filled
from vectors.oracles import npm_version
from vectors.packing import Json, Kind

from flashctl.eth.hexdata import to_hex

__all__ = ["kind"]

OPTIONS = (
    "--network", "optimism", "--hardfork", "isthmus", "--chain-id", "901", "--timestamp", "1800000000",
    "--steps-tracing",
)  # fmt: skip


def ask(client: httpx.Client, method: str, params: list[Any]) -> Json:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply: Json = client.post("/", json=request).json()
    return {name: reply[name] for name in ("result", "error") if name in reply}


def cases() -> Iterator[Json]:
    with anvil(*OPTIONS) as server:
        client = server._client
        names = {}
        for place, raw in enumerate(TRANSACTIONS):
            names[f"$tx{place}"] = server.call("eth_sendRawTransaction", to_hex(raw))
        names["$block1"] = server.call("eth_getBlockByNumber", "0x1", False)["hash"]
        for method, params in QUESTIONS:
            yield {"method": method, "params": params} | ask(client, method, filled(params, names))


def kind() -> Kind:
    """The file of the pack."""
    about = "questions about a small chain, and what anvil answers"
    return Kind("exchanges", about, cases(), npm_version("@foundry-rs/anvil"))
