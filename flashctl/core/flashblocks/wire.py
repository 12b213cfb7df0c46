"""One flashblock message: decode every dialect seen on the wire, encode the ones flashctl publishes.

A message is one WebSocket frame holding one JSON object. `decode` goes through three steps, each public for
callers that need only some of them:

    frame bytes --unpack--> JSON text --parse_object--> dict --from_object--> Flashblock

* `unpack` (core.frame) undoes brotli and zstd, with a limit on the output.
* `parse_object` also takes the flashblock out of a JSON-RPC notification (bloXroute-style feeds).
* `from_object` checks and converts what the rules of a sequence need and keeps the rest: fields that
  flashctl does not define stay in `extra`, `metadata` is read leniently, for it changed six times in two
  years.

A relay forwards the bytes it received; `encode` is for messages that originate here.

Sources: flashbots/rollup-boost specs/flashblocks.md, op-rbuilder's pinned messages, base/base, and
ethereum-optimism/specs specs/protocol/subblocks.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson

from flashctl.core.flashblocks.dialects import OP_RBUILDER, Dialect
from flashctl.core.flashblocks.frame import (
    MAX_DECOMPRESSED_BYTES,
    MAX_FRAME_BYTES,
    FrameTooLarge,
    InvalidFlashblock,
    compress,
    unpack,
)
from flashctl.errors import DataError
from flashctl.eth.hexdata import MAX_HEIGHT, MAX_TIMESTAMP, MAX_WORD, parse_number, parse_quantity

__all__ = [
    "MAX_DECOMPRESSED_BYTES",
    "MAX_FRAME_BYTES",
    "MAX_INDEX",
    "ZERO_HASH",
    "Base",
    "Diff",
    "Flashblock",
    "FrameTooLarge",
    "InvalidFlashblock",
    "Metadata",
    "compress",
    "decode",
    "encode",
    "from_object",
    "parse_object",
    "to_object",
    "unpack",
]

MAX_INDEX: Final = 2**16 - 1
"""Far beyond any block: twelve seconds of one flashblock a millisecond. What follows from an index (the next
one, how many are missing) must stay small."""

ZERO_HASH: Final = bytes(32)
"""How a builder that computes no root fills the field: unavailable, never a commitment."""

_EMPTY_BLOOM: Final = bytes(256)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Base:
    """The part of a block that is fixed when building starts; sent with index 0 and only there."""

    parent_beacon_block_root: bytes
    parent_hash: bytes
    fee_recipient: bytes
    prev_randao: bytes
    block_number: int
    gas_limit: int
    timestamp: int
    """Seconds since the epoch."""
    extra_data: bytes
    """EIP-1559 parameters: empty before Holocene, 9 bytes since, 17 from Jovian."""
    base_fee_per_gas: int
    """Wei."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields flashctl does not know, as received."""


@dataclass(frozen=True, slots=True)
class Diff:
    """What one flashblock adds to the block, and the totals of the block up to and including it."""

    transactions: tuple[bytes, ...]
    """EIP-2718 bytes; only those this message adds."""
    gas_used: int
    """Of the whole block so far."""
    receipts_root: bytes = ZERO_HASH
    logs_bloom: bytes = _EMPTY_BLOOM
    state_root: bytes = ZERO_HASH
    """Zero where the builder leaves it to the end (Base, subblocks)."""
    block_hash: bytes = ZERO_HASH
    withdrawals_root: bytes = ZERO_HASH
    withdrawals: tuple[Any, ...] = ()
    """Empty on an L2; kept as received."""
    blob_gas_used: int | None = None
    """From Jovian the cumulative data-availability footprint, not blob gas."""
    post_exec_tx: bytes | None = None
    """Lagoon: the latest cumulative post-execution transaction, beside `transactions`."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a builder adds to a flashblock beyond the block itself: hints, never needed to follow the
    chain."""

    block_number: int | None = None
    new_account_balances: Mapping[str, Any] | None = None
    """Address to quantity, as on the wire."""
    receipts: Mapping[str, Any] | None = None
    """Transaction hash to receipt, in whichever of the three shapes it came."""
    prev_flashblock_id: str | None = None
    """`"<block>-<index>"` of the message before this one; `0-0` means unset."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flashblock:
    """One message of the stream."""

    payload_id: str
    """`0x` and 16 lower-case hex digits: constant in one build, the key that groups messages into a block."""
    index: int
    base: Base | None
    diff: Diff
    metadata: Metadata
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def block_number(self) -> int:
        """The block this belongs to: from `base`, else from `metadata` (decoding made sure that one has
        it)."""
        if self.base is not None:
            return self.base.block_number
        assert self.metadata.block_number is not None
        return self.metadata.block_number


def decode(
    data: bytes | str,
    *,
    binary: bool = False,
    max_decompressed: int = MAX_DECOMPRESSED_BYTES,
) -> Flashblock:
    """The flashblock in one frame, whatever its dialect.

    `binary` is the kind of WebSocket frame it was: text frames are JSON, binary ones JSON, brotli or zstd.

    Raises:
        InvalidFlashblock: If the frame is anything else; FrameTooLarge if it is over a limit.
    """
    return from_object(parse_object(unpack(data, binary=binary, max_decompressed=max_decompressed)))


# --- JSON text -> flashblock ---


def parse_object(text: bytes) -> dict[str, Any]:
    """The flashblock object in a JSON text, in snake_case; taken out of a JSON-RPC notification if it is in
    one.

    Raises:
        InvalidFlashblock: If the text is not JSON, or is JSON of something else; the hint then names it.
    """
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        hint = "the endpoint answers with a web page: is the path right?" if text[:1] == b"<" else None
        raise InvalidFlashblock(f"JSON: {error}", hint=hint) from None
    if not isinstance(value, dict):
        raise InvalidFlashblock(f"expected a JSON object, got {_kind(value)}")
    message: dict[str, Any] = _notification_result(value) if "jsonrpc" in value else value
    return _snake_case(message) if "payloadId" in message else message


_NODE_HINT: Final = "this is a JSON-RPC endpoint of a node, not a flashblocks stream"


def _notification_result(message: dict[str, Any]) -> dict[str, Any]:
    params = message.get("params")
    result = params.get("result") if isinstance(params, dict) else None
    if not isinstance(result, dict) or not ("payload_id" in result or "payloadId" in result):
        raise InvalidFlashblock("JSON-RPC message without a flashblock", hint=_NODE_HINT)
    return result


_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


def _snake_case(message: dict[str, Any]) -> dict[str, Any]:
    """The names of camelCase feeds in the snake_case of the other feeds.

    Only the three levels whose keys are field names: below `metadata` keys may be hashes and addresses.
    """

    def renamed(mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {_CAPITAL.sub("_", key).lower(): value for key, value in mapping.items()}

    top = renamed(message)
    for name in ("base", "diff", "metadata"):
        if isinstance(top.get(name), dict):
            top[name] = renamed(top[name])
    return top


def from_object(message: Mapping[str, Any]) -> Flashblock:
    """The flashblock a parsed JSON object describes.

    Raises:
        InvalidFlashblock: If a field that every dialect has is absent or of the wrong form.
    """
    rest = dict(message)
    payload_id = _required(rest, "payload_id", "payload_id", _payload_id)
    index = _required(rest, "index", "index", _index)
    # The first drafts of the specification called the object `static`.
    early = rest.pop("static", None)
    base = rest.pop("base", None)
    metadata = _metadata(rest.pop("metadata", None))
    flashblock = Flashblock(
        payload_id=payload_id,
        index=index,
        base=_base(base if base is not None else early),
        diff=_required(rest, "diff", "diff", _diff),
        metadata=metadata,
        extra=rest,
    )
    if flashblock.base is None and metadata.block_number is None:
        raise InvalidFlashblock("no block number, and no base to take it from", "metadata.block_number")
    return flashblock


def _base(value: object) -> Base | None:
    if value is None:
        return None
    rest = _fields(value, "base")
    return Base(
        parent_beacon_block_root=_required(rest, "parent_beacon_block_root", "base", _hash),
        parent_hash=_required(rest, "parent_hash", "base", _hash),
        fee_recipient=_required(rest, "fee_recipient", "base", _address),
        prev_randao=_required(rest, "prev_randao", "base", _hash),
        block_number=_required(rest, "block_number", "base", _height),
        gas_limit=_required(rest, "gas_limit", "base", _height),
        timestamp=_required(rest, "timestamp", "base", _timestamp),
        extra_data=_required(rest, "extra_data", "base", _hex),
        base_fee_per_gas=_required(rest, "base_fee_per_gas", "base", _base_fee),
        extra=rest,
    )


def _diff(value: object, where: str) -> Diff:
    rest = _fields(value, where)
    return Diff(
        transactions=_required(rest, "transactions", where, _transactions),
        gas_used=_required(rest, "gas_used", where, _height),
        receipts_root=_optional(rest, "receipts_root", where, _hash, ZERO_HASH),
        logs_bloom=_optional(rest, "logs_bloom", where, _bloom, _EMPTY_BLOOM),
        state_root=_optional(rest, "state_root", where, _hash, ZERO_HASH),
        block_hash=_optional(rest, "block_hash", where, _hash, ZERO_HASH),
        withdrawals_root=_optional(rest, "withdrawals_root", where, _hash, ZERO_HASH),
        withdrawals=_optional(rest, "withdrawals", where, _list, ()),
        blob_gas_used=_optional(rest, "blob_gas_used", where, _height, None),
        post_exec_tx=_optional(rest, "post_exec_tx", where, _hex, None),
        extra=rest,
    )


def _metadata(value: object) -> Metadata:
    if value is None:
        return Metadata()
    rest = _fields(value, "metadata")
    return Metadata(
        block_number=_optional(rest, "block_number", "metadata", _metadata_height, None),
        new_account_balances=_pop_if(rest, "new_account_balances", dict),
        receipts=_pop_if(rest, "receipts", dict),
        prev_flashblock_id=_pop_if(rest, "prev_flashblock_id", str),
        extra=rest,
    )


def _pop_if(rest: dict[str, Any], name: str, kind: type[T]) -> T | None:
    """`rest[name]` if it is a `kind`; anything else stays in `rest`, since metadata has no schema."""
    value = rest.get(name)
    if isinstance(value, kind):
        del rest[name]
        return value
    return None


# --- field converters ---
#
# Each takes the JSON value and the path that an error should name. They do what eth.hexdata does, but
# inline: a Base flashblock has a hundred fields to convert five times a second in every process of the
# pipeline.


def _required(rest: dict[str, Any], name: str, where: str, convert: Callable[[Any, str], T]) -> T:
    path = name if where == name else f"{where}.{name}"
    try:
        value = rest.pop(name)
    except KeyError:
        raise InvalidFlashblock("missing", path) from None
    return convert(value, path)


def _optional(rest: dict[str, Any], name: str, where: str, convert: Callable[[Any, str], T], default: T) -> T:
    value = rest.pop(name, None)
    return default if value is None else convert(value, f"{where}.{name}")


def _fields(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidFlashblock(f"expected an object, got {_kind(value)}", where)
    return dict(value)


def _hex(value: Any, where: str) -> bytes:
    if not isinstance(value, str) or value[:2] not in ("0x", "0X"):
        raise InvalidFlashblock(f"expected 0x-prefixed hex, got {_kind(value)}", where)
    try:
        data = bytes.fromhex(value[2:])
    except ValueError:
        raise InvalidFlashblock("not hex digits in pairs", where) from None
    # bytes.fromhex skips white space, which no producer writes.
    if len(data) * 2 + 2 != len(value):
        raise InvalidFlashblock("white space between hex digits", where)
    return data


def _sized(value: Any, where: str, size: int) -> bytes:
    data = _hex(value, where)
    if len(data) != size:
        raise InvalidFlashblock(f"expected {size} bytes, got {len(data)}", where)
    return data


def _hash(value: Any, where: str) -> bytes:
    return _sized(value, where, 32)


def _address(value: Any, where: str) -> bytes:
    return _sized(value, where, 20)


def _bloom(value: Any, where: str) -> bytes:
    return _sized(value, where, 256)


def _payload_id(value: Any, where: str) -> str:
    return "0x" + _sized(value, where, 8).hex()


def _quantity(value: Any, where: str, most: int) -> int:
    try:
        return parse_quantity(value, most=most)
    except DataError as error:
        raise InvalidFlashblock(
            f"expected a hex quantity up to {most:#x}, got {_kind(value)}", where
        ) from error


def _number(value: Any, where: str, most: int) -> int:
    """A JSON integer; a string of one (bloXroute) or a hex quantity will do."""
    try:
        return parse_number(value, most=most)
    except DataError as error:
        raise InvalidFlashblock(f"expected an integer up to {most}, got {_kind(value)}", where) from error


def _height(value: Any, where: str) -> int:
    """A block number or an amount of gas."""
    return _quantity(value, where, MAX_HEIGHT)


def _base_fee(value: Any, where: str) -> int:
    return _quantity(value, where, MAX_WORD)


def _timestamp(value: Any, where: str) -> int:
    return _quantity(value, where, MAX_TIMESTAMP)


def _metadata_height(value: Any, where: str) -> int:
    return _number(value, where, MAX_HEIGHT)


def _index(value: Any, where: str) -> int:
    return _number(value, where, MAX_INDEX)


def _list(value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise InvalidFlashblock(f"expected a list, got {_kind(value)}", where)
    return tuple(value)


def _transactions(value: Any, where: str) -> tuple[bytes, ...]:
    """The transactions, all at once as long as nothing is wrong with any: half of the time of a message."""
    if isinstance(value, list):
        try:
            raws = tuple([bytes.fromhex(item[2:]) for item in value if item[:2] == "0x"])
            # Equal lengths: none was left out for lack of a prefix, and none had white space in it.
            if sum(map(len, raws)) * 2 + len(value) * 2 == sum(map(len, value)):
                return raws
        except (TypeError, ValueError):
            pass
    return tuple([_hex(item, f"{where}[{number}]") for number, item in enumerate(_list(value, where))])


def _kind(value: object) -> str:
    """What a JSON value is, for an error; short strings are shown."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            shown = value if len(value) <= 20 else value[:20] + "…"
            return ascii(shown)
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case _:
            return "an object"


# --- flashblock -> JSON text ---


def encode(flashblock: Flashblock, dialect: Dialect = OP_RBUILDER) -> bytes:
    """The JSON text of `flashblock`, as one frame."""
    return orjson.dumps(to_object(flashblock, dialect))


def to_object(flashblock: Flashblock, dialect: Dialect = OP_RBUILDER) -> dict[str, Any]:
    """`flashblock` as the JSON object that `encode` writes, in the field order of op-rbuilder."""
    message: dict[str, Any] = {"payload_id": flashblock.payload_id, "index": flashblock.index}
    if flashblock.base is not None:
        message["base"] = _base_object(flashblock.base)
    message["diff"] = _diff_object(flashblock.diff, unavailable=not dialect.has_roots)
    message["metadata"] = _metadata_object(flashblock, dialect)
    message.update(flashblock.extra)
    return message


def _base_object(base: Base) -> dict[str, Any]:
    return {
        "parent_beacon_block_root": "0x" + base.parent_beacon_block_root.hex(),
        "parent_hash": "0x" + base.parent_hash.hex(),
        "fee_recipient": "0x" + base.fee_recipient.hex(),
        "prev_randao": "0x" + base.prev_randao.hex(),
        "block_number": hex(base.block_number),
        "gas_limit": hex(base.gas_limit),
        "timestamp": hex(base.timestamp),
        "extra_data": "0x" + base.extra_data.hex(),
        "base_fee_per_gas": hex(base.base_fee_per_gas),
        **base.extra,
    }


def _diff_object(diff: Diff, *, unavailable: bool) -> dict[str, Any]:
    zero = "0x" + ZERO_HASH.hex()
    message: dict[str, Any] = {
        "state_root": zero if unavailable else "0x" + diff.state_root.hex(),
        "receipts_root": "0x" + diff.receipts_root.hex(),
        "logs_bloom": "0x" + diff.logs_bloom.hex(),
        "gas_used": hex(diff.gas_used),
        "block_hash": zero if unavailable else "0x" + diff.block_hash.hex(),
        "transactions": ["0x" + raw.hex() for raw in diff.transactions],
        "withdrawals": [] if unavailable else list(diff.withdrawals),
        "withdrawals_root": zero if unavailable else "0x" + diff.withdrawals_root.hex(),
    }
    if diff.blob_gas_used is not None:
        message["blob_gas_used"] = hex(diff.blob_gas_used)
    if diff.post_exec_tx is not None:
        message["post_exec_tx"] = "0x" + diff.post_exec_tx.hex()
    message.update(diff.extra)
    return message


def _metadata_object(flashblock: Flashblock, dialect: Dialect) -> dict[str, Any]:
    metadata = flashblock.metadata
    message: dict[str, Any] = {"block_number": flashblock.block_number}
    for name, empty in dialect.always.items():
        message[name] = getattr(metadata, name) or empty
    for name in dialect.if_held:
        if (value := getattr(metadata, name)) is not None:
            message[name] = value
    if dialect.keeps_unknown:
        message.update(metadata.extra)
    return message
