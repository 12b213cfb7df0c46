"""What a piece of input is: a transaction, a flashblock, a block, a receipt, ... and how it is unwrapped.

The kind of a pasted document need not be named. Bytes are recognised by their first byte and the shape of
their RLP, JSON by the keys that only one kind of object has. Wrappers (JSON-RPC requests and answers, `watch
--json` envelopes, lines of a recorded stream) are taken off on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from flashctl.errors import DataError
from flashctl.eth.rlp import RlpError, decode

__all__ = [
    "BLOOM_WITHIN",
    "Document",
    "Kind",
    "UnknownDocument",
    "classify_bytes",
    "documents_of",
    "parse_hex_text",
]

MAX_UNWRAP_DEPTH = 6
"""Wrappers inside wrappers; a JSON-RPC batch of answers that hold engine envelopes has three."""


class Kind(StrEnum):
    """Everything that decode understands; the values are those of `--as`."""

    TX = "tx"
    FLASHBLOCK = "flashblock"
    BLOCK = "block"
    HEADER = "header"
    RECEIPT = "receipt"
    PAYLOAD = "payload"
    LOG = "log"
    CALL = "call"
    ERROR = "error"
    RLP = "rlp"


class Document(NamedTuple):
    """One thing to decode."""

    kind: Kind
    value: bytes | Mapping[str, Any]
    """Bytes, or the JSON object of it."""


class UnknownDocument(DataError):
    """The input is nothing that decode understands."""


def parse_hex_text(text: str) -> bytes:
    """Bytes from hex as people paste it: with or without 0x, in any case, quoted, broken over lines.

    Raises:
        UnknownDocument: If it is not hex; the message names the first character that is not.
    """
    digits = "".join(text.split()).strip("\"'`,;")
    if digits[:2] in ("0x", "0X"):
        digits = digits[2:]
    try:
        return bytes.fromhex(digits)
    except ValueError:
        pass
    for position, character in enumerate(digits):
        if character not in "0123456789abcdefABCDEF":
            raise UnknownDocument(f"not hex: {character!r} at character {position}") from None
    raise UnknownDocument(f"not hex: odd number of digits ({len(digits)})")


_BLOOM_HEADER = b"\xb9\x01\x00"
BLOOM_WITHIN = 1 + 4 + 33 + 9 + 3
"""Where a receipt has its bloom: behind the type, the list's header, status or root, and the gas. Asking for
it spares a transaction of a batch a decode of its own, 8 us of 75."""


def classify_bytes(raw: bytes) -> Kind:
    """The kind of raw bytes; what fits no other kind but is RLP is `RLP`, anything else a transaction."""
    if not raw:
        raise UnknownDocument("no bytes at all")
    if len(raw) >= 4 and _is_call(raw):
        return Kind.CALL
    if 0x80 <= raw[0] < 0xC0:
        return Kind.RLP
    start = 0 if raw[0] >= 0xC0 else 1
    if start and _BLOOM_HEADER not in raw[:BLOOM_WITHIN]:
        return Kind.TX  # of what begins with a type, only a receipt is something else
    try:
        item = decode(raw[start:])
    except RlpError:
        return Kind.TX
    if not isinstance(item, list):
        return Kind.TX
    sizes = [None if isinstance(member, list) else len(member) for member in item]
    if len(sizes) in (4, 5, 6) and sizes[2] == 256 and sizes[3] is None:
        return Kind.RECEIPT
    if start:
        return Kind.TX
    if len(sizes) >= 15 and sizes[:3] == [32, 32, 20] and sizes[6] == 256:
        return Kind.HEADER
    if len(sizes) in (3, 4) and isinstance(item[0], list) and len(item[0]) >= 15:
        return Kind.BLOCK
    return Kind.TX if len(sizes) in (6, 9) else Kind.RLP


_TYPES = frozenset((1, 2, 3, 4, 0x7D, 0x7E))


def _is_call(raw: bytes) -> bool:
    """Whether bytes are a selector with arguments: no transaction and no RLP begins like this."""
    if raw[0] in _TYPES and (len(raw) % 32 != 4 or raw[1] >= 0xC0):
        return False
    if _spans(raw, 0) or (raw[0] < 0x80 and _spans(raw, 1)):
        return False
    if len(raw) % 32 == 4:
        return True
    if raw[0] >= 0xC0:  # a list that is cut off, more likely
        return False
    from flashctl.decode.signatures import SignatureBook

    return bool(SignatureBook().by_selector(raw[:4]))


def _spans(raw: bytes, at: int) -> bool:
    """Whether what begins at `at` is one RLP string or list up to the end."""
    first = raw[at]
    if first < 0x80:
        return False
    short, base = (0xB8, 0x80) if first < 0xC0 else (0xF8, 0xC0)
    if first < short:
        return len(raw) == at + 1 + first - base
    width = first - short + 1
    return len(raw) == at + 1 + width + int.from_bytes(raw[at + 1 : at + 1 + width], "big")


def documents_of(value: Any, depth: int = 0) -> Iterator[Document]:
    """The documents in a parsed JSON value, wrappers removed; nothing for lines that carry none.

    Raises:
        UnknownDocument: For a value that is none of the known objects.
    """
    if depth > MAX_UNWRAP_DEPTH:
        raise UnknownDocument(f"JSON is wrapped more than {MAX_UNWRAP_DEPTH} times")
    match value:
        case str():
            raw = parse_hex_text(value)
            yield Document(classify_bytes(raw), raw)
        case list():
            for member in value:
                yield from documents_of(member, depth + 1)
        case dict():
            yield from _documents_of_object(value, depth)
        case _:
            raise UnknownDocument(f"nothing to decode in a JSON {_json_name(value)}")


def _json_name(value: Any) -> str:
    return {bool: "boolean", int: "number", float: "number", type(None): "null"}.get(type(value), "value")


def _documents_of_object(value: dict[str, Any], depth: int) -> Iterator[Document]:
    kind = _kind_of(value)
    if kind is not None:
        yield Document(kind, value)
        return
    for inner in _unwrapped(value):
        yield from documents_of(inner, depth + 1)


def _kind_of(value: Mapping[str, Any]) -> Kind | None:
    keys = value.keys()
    if "diff" in keys and ("payload_id" in keys or "payloadId" in keys):
        return Kind.FLASHBLOCK
    if "blockHash" in keys and "feeRecipient" in keys and "transactions" in keys:
        return Kind.PAYLOAD
    if "parentHash" in keys and "stateRoot" in keys and ("sha3Uncles" in keys or "transactionsRoot" in keys):
        return Kind.BLOCK if isinstance(value.get("transactions"), list) else Kind.HEADER
    if "logs" in keys and ("status" in keys or "cumulativeGasUsed" in keys):
        return Kind.RECEIPT
    if "topics" in keys and "address" in keys:
        return Kind.LOG
    if ("nonce" in keys or "sourceHash" in keys) and ("gas" in keys or "gasLimit" in keys):
        return Kind.TX
    return None


def _unwrapped(value: Mapping[str, Any]) -> list[Any]:
    """What a wrapper holds; empty for lines that legitimately hold nothing.

    Raises:
        UnknownDocument: If this is no wrapper either.
    """
    if "flashctl" in value and not isinstance(value["flashctl"], dict):
        return []  # the header line of a recorded stream
    if "t" in value and ("d" in value or "raw" in value):
        return [_recorded(value)]
    if "v" in value and isinstance(value.get("event"), str):
        return [value["data"]] if value["event"] == "flashblock" and "data" in value else []
    if "method" in value or "result" in value or "jsonrpc" in value:
        return _from_json_rpc(value)
    payload = value.get("executionPayload")
    if isinstance(payload, dict):  # what its hash needs beside it goes along
        beside = {key: value[key] for key in _BESIDE_A_PAYLOAD if value.get(key) is not None}
        return [{**payload, **beside}]
    for key in ("executionPayload", "raw", "rawTransaction", "rlp"):
        if key in value:
            return [value[key]]
    raise UnknownDocument(
        f"unknown JSON object with keys {', '.join(sorted(map(str, value))[:8]) or '(none)'}"
    )


_BESIDE_A_PAYLOAD = ("parentBeaconBlockRoot", "executionRequests")


def _recorded(line: Mapping[str, Any]) -> Any:
    """The message of one line of a recorded stream."""
    if "d" in line:
        return line["d"]
    import base64
    import binascii

    from flashctl.core.flashblocks.wire import parse_object, unpack

    try:
        frame = base64.b64decode(line["raw"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise UnknownDocument("the raw frame of a recorded line is not base64") from None
    return parse_object(unpack(frame, binary=line.get("enc") != "json"))


def _from_json_rpc(message: Mapping[str, Any]) -> list[Any]:
    if "error" in message:
        error = message["error"]
        text = error.get("message") if isinstance(error, dict) else error
        raise UnknownDocument(f"a JSON-RPC error: {text}")
    if "result" in message:
        return [message["result"]]
    params = message.get("params")
    method = str(message.get("method", ""))
    if isinstance(params, dict) and "result" in params:
        return [params["result"]]
    if isinstance(params, list) and params:
        if method.startswith("engine_forkchoiceUpdated"):
            attributes = params[1] if len(params) > 1 and isinstance(params[1], dict) else {}
            return [attributes.get("transactions") or []]
        if method.startswith("engine_newPayload"):
            return [
                {"executionPayload": params[0], **dict(zip(_BESIDE_A_PAYLOAD, params[2:4], strict=False))}
            ]
        return [params[0]]
    raise UnknownDocument("a JSON-RPC message without a result or parameters")
