"""Messages of every dialect with one field made wrong, for everybody who reads a stream."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

from support.flashblocks import make_flashblock

from flashctl.core.flashblocks import wire
from flashctl.core.flashblocks.dialects import DIALECTS

__all__ = ["HOSTILE_VALUES", "dialects", "mutations"]

HOSTILE_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 1e300, 2**16, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30),
    *("", " ", "0", "1", "-1", "+1", "1_0", " 1", "1 ", "01", "1e9", "nan", "9" * 20, "9" * 5000),
    *("0x", "0x0", "0x00", "0X1", "0x-9", "0x+9", "0x_1", "0x1_0", " 0x1", "0x 1", "0x1 ", "0x1\n", "-0x1"),
    *("0x" + "1" * 64, "0x" + "f" * 64, "0x" + "f" * 65, "0x" + "00" * 32, "0x" + "00" * 300, "0xzz"),
    *("0x\u0663", "\u0663", "\uff11", "\u00b2", "\x00", "\u2028", "\x1b[31m", "é" * 40),
    *([], [[]], [None], [0], ["0x"], ["0x02"], ["0x7e"], ["0x" + "c0" * 40], [{}], ["\x00"]),
    *({}, {"": None}, {"0x": []}, {"logs": 1}, {"Eip1559": []}, {"Eip1559": {"logs": [{"topics": 7}]}}),
)
"""What stands where something else was meant."""

_HASH: Final = "0x" + "ab" * 32
_ADDRESS: Final = "0x" + "cd" * 20
_LOG: Final = {"address": _ADDRESS, "topics": [_HASH], "data": "0x"}
_RECEIPT: Final = {"type": "0x2", "status": "0x1", "cumulativeGasUsed": "0x5208", "logs": [_LOG]}


def dialects(block: int = 7, index: int = 1) -> dict[str, dict[str, Any]]:
    """One well-formed message of each dialect, by name; index 0 comes with its base."""
    flashblock = make_flashblock(
        block, index, block, transactions=(b"\x02\xc0", b"\x7e\xc0"), gas_used=21_000
    )
    plain = {name: wire.to_object(flashblock, dialect) for name, dialect in DIALECTS.items()}
    tagged = copy.deepcopy(plain["op-rbuilder"])
    tagged["metadata"]["receipts"] = {_HASH: {"Eip1559": _RECEIPT}}
    flat = copy.deepcopy(plain["op-rbuilder"])
    flat["metadata"].update(
        receipts={_HASH: {**_RECEIPT, "contractAddress": _ADDRESS}}, new_account_balances={_ADDRESS: "0x1"}
    )
    flat["diff"].update(blob_gas_used="0x10", post_exec_tx="0x7d", withdrawals=[{"index": "0x0"}])
    early = copy.deepcopy(flat)
    if "base" in early:
        early["static"] = early.pop("base")
    camel = {
        "payloadId": flat["payload_id"],
        "index": str(index),
        "diff": {_camel(name): value for name, value in flat["diff"].items()},
        "metadata": {"blockNumber": str(block)},
        **({"base": {_camel(name): value for name, value in flat["base"].items()}} if index == 0 else {}),
    }
    notification = {"jsonrpc": "2.0", "method": "subscribe", "params": {"subscription": "1", "result": camel}}
    return {**plain, "flat": flat, "tagged": tagged, "static": early, "bloxroute": notification}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def mutations(message: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """`message` with one value replaced or removed, for every place in it: the place, the JSON text."""
    for path in _paths(message):
        for number, value in enumerate(HOSTILE_VALUES):
            changed = copy.deepcopy(message)
            holder = _holder(changed, path)
            holder[path[-1]] = value
            yield f"{path} value {number}", json.dumps(changed).encode()
        changed = copy.deepcopy(message)
        holder = _holder(changed, path)
        del holder[path[-1]]
        yield f"{path} removed", json.dumps(changed).encode()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in items:
        yield (*path, key)
        yield from _paths(member, (*path, key))


def _holder(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value
