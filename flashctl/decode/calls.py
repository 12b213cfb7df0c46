"""Calldata and logs in words, as far as the signature book reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flashctl.decode.abi import AbiError, Argument, Entry, decode_arguments, decode_log
from flashctl.decode.signatures import SignatureBook

__all__ = ["describe_call", "describe_log", "describe_revert"]

_BUILTIN = SignatureBook()


def describe_call(data: bytes, book: SignatureBook | None) -> dict[str, Any] | None:
    """The function that calldata calls; arguments are left out when the data does not follow the signature.

    None when the selector is unknown.
    """
    entries = (book or _BUILTIN).by_selector(data[:4])
    for entry in entries:
        try:
            return _named(entry, decode_arguments(entry.params, data[4:]), "0x" + data[:4].hex())
        except AbiError:
            continue
    if entries:
        return {"selector": "0x" + data[:4].hex(), "signature": entries[0].signature, "name": entries[0].name}
    return None


def describe_revert(data: bytes, book: SignatureBook | None) -> dict[str, Any] | None:
    """The error that revert data carries."""
    return describe_call(data, book) if len(data) >= 4 else None


def describe_log(topics: Sequence[bytes], data: bytes, book: SignatureBook | None) -> dict[str, Any] | None:
    """The event of a log; None when it is anonymous or unknown."""
    if not topics:
        return None
    entries = (book or _BUILTIN).by_topic(topics[0])
    for entry in entries:
        try:
            return _named(entry, decode_log(entry, topics, data), "0x" + topics[0].hex())
        except AbiError:
            continue
    return None


def _named(entry: Entry, arguments: Sequence[Argument], identifier: str) -> dict[str, Any]:
    key = "topic" if entry.kind == "event" else "selector"
    return {
        key: identifier,
        "signature": entry.signature,
        "name": entry.name,
        "arguments": [
            {"name": argument.name, "type": argument.type, "value": argument.value} for argument in arguments
        ],
    }
