"""Transaction objects as viem and ethers print them, in the form of JSON-RPC.

Both give numbers as decimal strings or numbers; viem names types (`eip1559`), ethers nests the signature and
writes `gasLimit` and `data`. Nodes say the same in hex, and that is what everything else here reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flashctl.decode.names import TYPE_NAMES

__all__ = ["as_json_rpc"]

_NUMBERS: Final = (
    "type", "nonce", "gas", "gasLimit", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas",
    "maxFeePerBlobGas", "value", "mint", "chainId", "v", "yParity", "r", "s", "blockNumber",
    "transactionIndex",
)  # fmt: skip
_TYPES: Final = {name: hex(number) for number, name in TYPE_NAMES.items()}
_MAX_DIGITS: Final = 78
"""Of 2^256 in decimal."""


def as_json_rpc(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object with its numbers in hex and its signature flat; itself where that changes nothing."""
    signature = next(
        (value[name] for name in ("signature", "sig") if isinstance(value.get(name), dict)), None
    )
    numbers = {name: value[name] for name in _NUMBERS if not _is_hex(value.get(name))}
    if signature is None and not numbers:
        return value
    made = {**value, **{name: _number(number) for name, number in numbers.items()}}
    if isinstance(value.get("type"), str):
        made["type"] = _TYPES.get(value["type"], made["type"])
    if signature is not None:
        made |= _signature(signature, made.get("type"))
    if isinstance(value.get("authorizationList"), list):
        made["authorizationList"] = [
            _authorization(entry) if isinstance(entry, dict) else entry
            for entry in value["authorizationList"]
        ]
    return made


def _is_hex(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value[:2] in ("0x", "0X"))


def _number(value: Any) -> Any:
    """Hex of a number in any form; anything else is left for the parser of the field to refuse."""
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    if isinstance(value, str) and len(value) <= _MAX_DIGITS:
        digits = value.removesuffix("n")  # a BigInt as consoles print it
        if digits.isascii() and digits.isdigit():
            return hex(int(digits))
    return value


def _signature(signature: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The fields of an ethers signature: its v is 27 or 28, what a legacy transaction carries is networkV."""
    v, network = _number(signature.get("v")), _number(signature.get("networkV"))
    flat = {"r": signature.get("r"), "s": signature.get("s")}
    if kind in (None, "0x0"):
        return flat | {"v": v if network is None else network}
    parity = {"0x1b": "0x0", "0x1c": "0x1"}.get(v, v) if isinstance(v, str) else v
    return flat | {"yParity": parity}


def _authorization(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    made = as_json_rpc(entry)
    if isinstance(entry.get("signature"), dict):
        made = {**made, **_signature(entry["signature"], "0x4")}
    return made if "address" in made else {**made, "address": made.get("contractAddress")}
