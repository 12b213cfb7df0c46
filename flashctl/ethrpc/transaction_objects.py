"""Transactions as nodes return them in JSON, back to the bytes that they encode.

`eth_getBlockByNumber(..., true)`, `eth_getTransactionByHash` and `eth_subscribe` give objects. Re-encoding
them gives the bytes, and with them the hash, the sender and everything else that is known about raw
transactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashctl.errors import DataError
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    Authorization,
    BlobTx,
    DepositTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    Transaction,
    encode_transaction,
)

__all__ = ["InvalidObject", "raw_from_object"]


class InvalidObject(DataError):
    """A JSON object lacks a field or has one of the wrong form."""


class _Fields:
    """Typed access to a JSON object, with errors that name the key."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value

    def _get(self, *names: str) -> Any:
        for name in names:
            if self.value.get(name) is not None:
                return self.value[name]
        raise InvalidObject(f"the object has no {names[0]}")

    def integer(self, *names: str, default: int | None = None) -> int:
        if default is not None and all(self.value.get(name) is None for name in names):
            return default
        value = self._get(*names)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        return parse_quantity(value)

    def data(self, *names: str, size: int | None = None) -> bytes:
        return parse_hex(self._get(*names), size=size)

    def target(self) -> bytes | None:
        to = self.value.get("to")
        return None if to in (None, "", "0x") else parse_hex(to, size=20)

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        value = self.value.get(name) or []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise InvalidObject(f"{name} is not a list of objects")
        return value


def raw_from_object(value: Mapping[str, Any]) -> bytes:
    """The EIP-2718 encoding of a transaction object.

    Raises:
        DataError: If fields are missing or malformed, or the type is unknown.
    """
    return encode_transaction(_transaction(_Fields(value)))


def _transaction(f: _Fields) -> Transaction:
    kind = f.integer("type", default=0)
    if kind == 0x7E:
        return DepositTx(
            f.data("sourceHash", size=32),
            f.data("from", size=20),
            f.target(),
            f.integer("mint", default=0),
            f.integer("value"),
            f.integer("gas", "gasLimit"),
            bool(f.value.get("isSystemTx")),
            f.data("input", "data"),
        )
    nonce, gas, value, data = (
        f.integer("nonce"),
        f.integer("gas", "gasLimit"),
        f.integer("value"),
        f.data("input", "data"),
    )
    r, s = f.integer("r"), f.integer("s")
    if kind == 0:
        return LegacyTx(nonce, f.integer("gasPrice"), gas, f.target(), value, data, f.integer("v"), r, s)
    chain_id, access = f.integer("chainId"), _access_list(f)
    y_parity = f.integer("yParity", "v")
    if kind == 1:
        return AccessListTx(
            chain_id, nonce, f.integer("gasPrice"), gas, f.target(), value, data, access, y_parity, r, s
        )
    tip, fee = f.integer("maxPriorityFeePerGas"), f.integer("maxFeePerGas")
    if kind == 2:
        return FeeMarketTx(chain_id, nonce, tip, fee, gas, f.target(), value, data, access, y_parity, r, s)
    to = f.data("to", size=20)
    if kind == 3:
        hashes = f.value.get("blobVersionedHashes")
        if not isinstance(hashes, list):
            raise InvalidObject("the object has no blobVersionedHashes")
        blob_hashes = tuple(parse_hex(blob_hash, size=32) for blob_hash in hashes)
        blob_fee = f.integer("maxFeePerBlobGas")
        return BlobTx(
            chain_id, nonce, tip, fee, gas, to, value, data, access, blob_fee, blob_hashes, y_parity, r, s
        )  # fmt: skip
    if kind == 4:
        authorizations = tuple(_authorization(_Fields(entry)) for entry in f.entries("authorizationList"))
        return SetCodeTx(
            chain_id, nonce, tip, fee, gas, to, value, data, access, authorizations, y_parity, r, s
        )
    raise InvalidObject(f"unknown transaction type 0x{kind:02x}")


def _access_list(f: _Fields) -> tuple[AccessListEntry, ...]:
    entries = []
    for entry in f.entries("accessList"):
        keys = entry.get("storageKeys") or []
        if not isinstance(keys, list):
            raise InvalidObject("storageKeys is not a list")
        address = _Fields(entry).data("address", size=20)
        entries.append(AccessListEntry(address, tuple(parse_hex(key, size=32) for key in keys)))
    return tuple(entries)


def _authorization(f: _Fields) -> Authorization:
    return Authorization(
        f.integer("chainId"),
        f.data("address", size=20),
        f.integer("nonce"),
        f.integer("yParity", "v"),
        f.integer("r"),
        f.integer("s"),
    )
