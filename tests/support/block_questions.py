"""One question for every method of the table that takes a block, and what its answers have in common while
the block is not sealed and afterwards."""

from __future__ import annotations

from typing import Any

from flashctl.ethrpc.block_methods import BlockMethod, Given

ZERO_HASH = "0x" + "00" * 32

_OF_SEALED = ("blockHash", "hash", "stateRoot", "parentHash", "withdrawalsRoot", "size")
"""Fields of blocks that only sealing makes; of simulated ones above all."""


def questions(method: BlockMethod, account: str, contract: str, call: dict[str, Any]) -> list[Any]:
    """Parameters with None where the block goes."""
    words = {
        "eth_getStorageAt": [contract, "0x0", None],
        "eth_getStorageValues": [{contract: ["0x0"]}, None],
        "eth_getCode": [contract, None],
        "eth_getProof": [contract, ["0x0"], None],
        "eth_feeHistory": ["0x2", None, [50]],
        "eth_simulateV1": [{"blockStateCalls": [{"calls": [call]}]}, None],
        "debug_traceCall": [call, None, {"tracer": "callTracer"}],
        "debug_traceBlockByNumber": [None, {"tracer": "callTracer"}],
        "debug_traceBlockByHash": [None, {"tracer": "prestateTracer"}],
        "trace_call": [call, ["trace"], None],
    }
    if method.name in words:
        return words[method.name]
    if method.name in ("eth_call", "eth_estimateGas", "eth_createAccessList"):
        return [call, None]
    if method.name.endswith("AndIndex"):
        return [None, "0x1"]
    if method.given is Given.FILTER:
        return [None]
    return [account] * method.index + [None]


def named(method: BlockMethod, params: list[Any], block: str) -> list[list[Any]]:
    """The question about a block, in every form in which the method takes a tag, a number or a hash."""
    is_hash = len(block) == 66
    forms: list[Any]
    match method.given:
        case Given.NUMBER:
            forms = [] if is_hash else [block]
        case Given.HASH:
            forms = [block] if is_hash else []
        case Given.REF:
            forms = [block, {"blockHash" if is_hash else "blockNumber": block}]
        case Given.FILTER:
            forms = [{"blockHash": block} if is_hash else {"fromBlock": block, "toBlock": block}]
    place = params.index(None)
    return [[*params[:place], form, *params[place + 1 :]] for form in forms]


def in_common(answer: Any) -> Any:
    """An answer without what only a sealed block has."""
    if isinstance(answer, list):
        return [in_common(item) for item in answer]
    if isinstance(answer, dict):
        is_block = "transactionsRoot" in answer
        left_out = _OF_SEALED if is_block else ("blockHash",)
        return {name: in_common(value) for name, value in answer.items() if name not in left_out}
    return answer
