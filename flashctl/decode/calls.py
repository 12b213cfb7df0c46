"""Calldata and logs in words, as far as the signature book reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flashctl.decode.abi import AbiError, Argument, Entry, decode_arguments, decode_log
from flashctl.decode.signatures import SignatureBook

__all__ = ["describe_call", "describe_log", "describe_revert"]

_BUILTIN = SignatureBook()


def describe_call(data: bytes, book: SignatureBook | None) -> dict[str, Any] | None:
    """The function that calldata calls, with what follows its arguments under `trailing`.

    Where the data does not follow the signature, `mismatch` says why and `data` is what stands there. None
    when the selector is unknown.
    """
    entries = (book or _BUILTIN).by_selector(data[:4])
    identifier, refused = "0x" + data[:4].hex(), ""
    for entry in entries:
        try:
            arguments, rest = decode_arguments(entry.params, data[4:])
        except AbiError as error:
            refused = refused or str(error)
            continue
        return _named(entry, arguments, identifier) | (_trailing(rest) if rest else {})
    if not entries:
        return None
    return {
        "selector": identifier,
        "signature": entries[0].signature,
        "name": entries[0].name,
        "mismatch": refused,
        "data": "0x" + data[4:].hex(),
    }


_BUILDER_MARK = bytes.fromhex("8021" * 8)
"""The end of data that names who built the call (ERC-8021)."""


def _trailing(rest: bytes) -> dict[str, Any]:
    """Bytes behind the arguments; the codes in them where they are an attribution (ERC-8021, schema 0: the
    codes, their length in a byte, a zero, the mark)."""
    trailing: dict[str, Any] = {"trailing": "0x" + rest.hex()}
    body = rest.removesuffix(_BUILDER_MARK)
    if len(body) == len(rest) or len(body) < 2 or body[-1] != 0 or body[-2] > len(body) - 2:
        return trailing
    codes = body[-2 - body[-2] : -2]
    return trailing | {"builderCodes": codes.decode("ascii", "replace").split(",")}


def describe_revert(data: bytes, book: SignatureBook | None) -> dict[str, Any] | None:
    """The error that revert data carries."""
    return describe_call(data, book) if len(data) >= 4 else None


def describe_log(topics: Sequence[bytes], data: bytes, book: SignatureBook | None) -> dict[str, Any] | None:
    """The event of a log; None when it is anonymous or unknown.

    Where topics or data do not follow the event, `mismatch` says why.
    """
    if not topics:
        return None
    entries, refused = (book or _BUILTIN).by_topic(topics[0]), ""
    for entry in entries:
        try:
            return _named(entry, decode_log(entry, topics, data), "0x" + topics[0].hex())
        except AbiError as error:
            refused = refused or str(error)
    if not entries:
        return None
    return {
        "topic": "0x" + topics[0].hex(),
        "signature": entries[0].signature,
        "name": entries[0].name,
        "mismatch": refused,
    }


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
