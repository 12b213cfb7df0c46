"""The 59 recorded exchanges of eth_simulateV1 (ethereum/execution-apis), asked of our node.

Every field is compared. What cannot be the same on an OP chain is listed in `DIFFERENT`, with its reason.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.recorded_chain import recorded_head, recorded_headers
from support.reference import reference_path

from flashctl.chain.chain import Chain
from flashctl.chain.genesis import Genesis
from flashctl.core.jsonrpc.errors import rpc_error_for
from flashctl.core.jsonrpc.methods import Methods
from flashctl.eth.blocks import Block
from flashctl.ethrpc.eth_api import EthApi
from flashctl.ethrpc.simulate_run import simulation_json
from flashctl.evm.message import Deadline
from flashctl.op.simulate import SimulationBase

FEE_PARAMETERS = b"\x01" + (8).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes(8)
"""Ethereum's EIP-1559 constants, in the extra data where an OP chain has them (Jovian)."""

HASHES = {"hash", "parentHash", "blockHash", "stateRoot"}

DIFFERENT: dict[str, tuple[set[str], str]] = {
    "two-blocks-with-complete-eth-sends": (HASHES, "the base fee goes to a vault instead of being burnt"),
    "use-as-many-features-as-possible": (
        HASHES | {"logIndex"},
        "the base fee goes to a vault; geth leaves numbers out for the logs that a revert took back",
    ),
    "blobs": ({"blobGasUsed"}, "blobs are not sold"),
}

VALIDATED: tuple[set[str], str] = (
    HASHES | {"size", "extraData"},
    "with validation base fees are computed, from parameters that Ethereum's headers do not carry: the head "
    "gets extra data and so another hash",
)

ON_ANOTHER_BASE = {"empty-with-block-num-set-firstblock": 1, "empty-with-block-num-set-minusone": 53}
"""Exchanges upon a block before the head, whose state is not in the reference data: nothing in them runs."""

OLDER_BASE: dict[int, tuple[set[str], str]] = {
    1: (
        HASHES
        | {
            "baseFeePerGas", "blobGasUsed", "difficulty", "excessBlobGas", "parentBeaconBlockRoot",
            "requestsHash", "size", "withdrawals", "withdrawalsRoot",
        },
        "block 1 is from before the merge, which no OP chain has seen",
    ),
    53: (HASHES - {"parentHash"}, "the state is that of block 54"),
}  # fmt: skip

READS_HASHES = {"blockhash-simple", "blockhash-start-before-head", "use-as-many-features-as-possible"}
"""Exchanges that ask for hashes of blocks before the head, which is all that the node has."""


def exchanges() -> list[Path]:
    return sorted((reference_path("execution-apis") / "tests" / "eth_simulateV1").glob("*.io"))


@pytest.fixture(autouse=True)
def no_footprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ethereum's blocks have no DA footprint: with none here, hashes can be compared too."""
    monkeypatch.setattr("flashctl.op.fees.DEFAULT_DA_FOOTPRINT_GAS_SCALAR", 0)


def name_of(path: Path) -> str:
    return path.stem.removeprefix("ethSimulate-")


def head_for(payload: dict[str, Any]) -> Genesis:
    head = recorded_head()
    header = head.block.header
    if payload.get("validation"):
        header = replace(header, extra_data=FEE_PARAMETERS)
    return Genesis(head.config, Block(header, ()), head.world)


async def ask_node(head: Genesis, params: list[Any]) -> Any:
    methods = Methods()
    EthApi(Chain.open(head)).register(methods)
    handler = methods.find("eth_simulateV1")
    assert handler is not None
    return await handler(params)


def ask_upon(head: Genesis, number: int, params: list[Any]) -> Any:
    """The same on a block whose ancestors are known; beside the node's, for it has no older blocks."""
    headers = recorded_headers()
    header = head.block.header if number == head.block.number else headers[number]
    base = SimulationBase(head.config, header, head.world, lambda asked: headers[asked].hash, head.world)
    return simulation_json(base, params[0], 50_000_000, Deadline(60))


def answer(name: str, params: list[Any]) -> dict[str, Any]:
    head = head_for(params[0])
    base = ON_ANOTHER_BASE.get(name)
    try:
        if base is not None or name in READS_HASHES:
            found = ask_upon(head, base or head.block.number, params)
        else:
            found = asyncio.run(ask_node(head, params))
    except Exception as error:
        translated = rpc_error_for(error)
        if translated is None:
            raise
        return {"error": translated.to_json()}
    return {"result": found}


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, list):
        return [without(item, names) for item in value]
    if isinstance(value, dict):
        return {key: without(item, names) for key, item in value.items() if key not in names}
    return value


@pytest.mark.parametrize("path", exchanges(), ids=name_of)
def test_recorded_simulation(path: Path) -> None:
    lines = [line[3:] for line in path.read_text().splitlines() if line[:2] in (">>", "<<")]
    params, response = json.loads(lines[0])["params"], json.loads(lines[1])
    name = name_of(path)
    different = set(DIFFERENT.get(name, (set(), ""))[0])
    if params[0].get("validation"):
        different |= VALIDATED[0]
    if name in ON_ANOTHER_BASE:
        different |= OLDER_BASE[ON_ANOTHER_BASE[name]][0]
    expected = {key: value for key, value in response.items() if key in ("result", "error")}
    assert without(answer(name, params), different) == without(expected, different)
