"""Parameters of JSON-RPC methods: read with bounds, refused in geth's words."""

from __future__ import annotations

from typing import Any, Final

from flashctl.core.jsonrpc.errors import RpcError, invalid_params
from flashctl.core.jsonrpc.methods import optional, required
from flashctl.eth.hexdata import InvalidHex, parse_hex, parse_quantity

__all__ = [
    "address_param",
    "bool_param",
    "bytes_param",
    "hash_param",
    "quantity_param",
    "slot_param",
    "storage_key",
]

MAX_INDEX: Final = 2**32
_HASH_DIGITS: Final = 64


def address_param(params: list[Any], index: int) -> bytes:
    """A required address, 20 bytes."""
    return _sized(params, index, "address", 20, "common.Address")


def hash_param(params: list[Any], index: int) -> bytes:
    """A required hash, 32 bytes."""
    return _sized(params, index, "hash", 32, "common.Hash")


def bytes_param(params: list[Any], index: int, name: str) -> bytes:
    """Required bytes of any length."""
    try:
        return parse_hex(required(params, index, name))
    except InvalidHex as error:
        raise invalid_params(f"invalid argument {index}: {error}") from None


def quantity_param(params: list[Any], index: int, name: str, *, most: int = MAX_INDEX) -> int:
    """A required number; JSON numbers are taken too, as geth does for counts."""
    value = required(params, index, name)
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        try:
            number = parse_quantity(value)
        except InvalidHex as error:
            raise invalid_params(f"invalid argument {index}: {error}") from None
    if not 0 <= number <= most:
        raise invalid_params(f"invalid argument {index}: {name} out of range")
    return number


def bool_param(params: list[Any], index: int, default: bool) -> bool:
    """An optional boolean."""
    value = optional(params, index, default)
    if not isinstance(value, bool):
        raise invalid_params(f"invalid argument {index}: expected true or false")
    return value


def slot_param(params: list[Any], index: int) -> int:
    """A required storage key: hex of at most 32 bytes."""
    return storage_key(required(params, index, "storage key"))


def storage_key(value: Any) -> int:
    """One storage key, of at most 32 bytes and with any number of digits.

    Raises:
        RpcError: -32602 in geth's words.
    """
    digits = value[2:] if isinstance(value, str) and value[:2] in ("0x", "0X") else value
    if not isinstance(digits, str) or not all(
        digit in "0123456789abcdefABCDEF" for digit in digits[:_HASH_DIGITS]
    ):
        raise invalid_params(f'invalid hex in storage key: "{str(value)[:80]}"')
    if len(digits) > _HASH_DIGITS:
        raise invalid_params(f'storage key too long (want at most 32 bytes): "{value[:80]}"')
    return int(digits, 16) if digits else 0


def _sized(params: list[Any], index: int, name: str, size: int, kind: str) -> bytes:
    value = required(params, index, name)
    if not isinstance(value, str):
        raise invalid_params(
            f"invalid argument {index}: json: cannot unmarshal non-string into Go value of type {kind}"
        )
    if value[:2] not in ("0x", "0X"):
        raise _unfit(index, "hex string without 0x prefix", kind)
    if len(value) != 2 + 2 * size:
        raise invalid_params(
            f"invalid argument {index}: hex string has length {len(value) - 2}, want {2 * size} for {kind}"
        )
    try:
        return parse_hex(value, size=size)
    except InvalidHex:
        raise _unfit(index, "invalid hex string", kind) from None


def _unfit(index: int, reason: str, kind: str) -> RpcError:
    return invalid_params(
        f"invalid argument {index}: json: cannot unmarshal {reason} into Go value of type {kind}"
    )
