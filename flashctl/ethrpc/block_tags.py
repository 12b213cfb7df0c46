"""How a JSON-RPC caller names a block: a tag, a number, a hash, or the object form of EIP-1898.

Words of errors are those of geth, which client libraries match on. What a name resolves to depends on the
node, so nothing here looks anything up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from flashctl.errors import InvalidParams

__all__ = [
    "BlockHash",
    "BlockNumber",
    "BlockRef",
    "InvalidBlockRef",
    "Tag",
    "parse_block_number",
    "parse_block_ref",
]

MAX_BLOCK_NUMBER: Final = 2**63 - 1
_HASH_CHARACTERS: Final = 66


class Tag(StrEnum):
    """A block named by its role."""

    LATEST = "latest"
    PENDING = "pending"
    SAFE = "safe"
    FINALIZED = "finalized"
    EARLIEST = "earliest"


_TAGS: Final = {tag.value: tag for tag in Tag} | {"unsafe": Tag.LATEST, "": Tag.LATEST}
"""`unsafe` is what OP nodes call the latest block; the empty string is what some wallets send for it."""


@dataclass(frozen=True, slots=True)
class BlockHash:
    """A block named by its hash."""

    hash: bytes
    require_canonical: bool = False
    """Whether a block beside the canonical chain counts as unknown (EIP-1898)."""


BlockNumber: TypeAlias = Tag | int
BlockRef: TypeAlias = Tag | int | BlockHash


class InvalidBlockRef(InvalidParams):
    """A parameter that names no block; the text is the message of the JSON-RPC error."""


def parse_block_number(value: object, *, index: int = 0) -> BlockNumber:
    """A tag or number, where a hash is not allowed.

    Args:
        value: The parameter as JSON; null stands for `latest`.
        index: Its position among the parameters, for the message.

    Raises:
        InvalidBlockRef: If it is neither.
    """
    if value is None:
        return Tag.LATEST
    if not isinstance(value, str):
        raise InvalidBlockRef(f"invalid argument {index}: a block is named by a string")
    tag = _TAGS.get(value)
    return _number(value, index) if tag is None else tag


def parse_block_ref(value: object, *, index: int = 0) -> BlockRef:
    """A tag, a number, a hash, or an object with `blockNumber` or `blockHash` (EIP-1898).

    Raises:
        InvalidBlockRef: If it is none of these, or an object with both keys.
    """
    if isinstance(value, str) and len(value) == _HASH_CHARACTERS:
        return BlockHash(_hash(value, index))
    if not isinstance(value, dict):
        return parse_block_number(value, index=index)
    number, block_hash = value.get("blockNumber"), value.get("blockHash")
    if number is not None and block_hash is not None:
        raise InvalidBlockRef("cannot specify both BlockHash and BlockNumber, choose one or the other")
    if block_hash is not None:
        return BlockHash(_hash(block_hash, index), value.get("requireCanonical") is True)
    if number is None:
        raise InvalidBlockRef(f"invalid argument {index}: neither blockNumber nor blockHash given")
    return parse_block_number(number, index=index)


def _number(text: str, index: int) -> int:
    if text[:2] not in ("0x", "0X"):
        raise InvalidBlockRef(f"invalid argument {index}: hex string without 0x prefix")
    digits = text[2:]
    if not digits:
        raise InvalidBlockRef(f'invalid argument {index}: hex string "0x"')
    # int() takes underscores, signs, spaces and the digits of every script, which are no hex digits.
    if not (digits.isascii() and digits.isalnum()) or len(digits) > _HASH_CHARACTERS:
        raise InvalidBlockRef(f"invalid argument {index}: invalid hex string")
    try:
        number = int(digits, 16)
    except ValueError:
        raise InvalidBlockRef(f"invalid argument {index}: invalid hex string") from None
    if number > MAX_BLOCK_NUMBER:
        raise InvalidBlockRef(f"invalid argument {index}: block number larger than int64")
    return number


def _hash(value: object, index: int) -> bytes:
    if not isinstance(value, str) or len(value) != _HASH_CHARACTERS or value[:2] not in ("0x", "0X"):
        raise InvalidBlockRef(f"invalid argument {index}: a block hash is 0x and 64 hex digits")
    try:
        decoded = bytes.fromhex(value[2:])
    except ValueError:
        decoded = b""
    if len(decoded) != 32:
        raise InvalidBlockRef(f"invalid argument {index}: a block hash is 0x and 64 hex digits")
    return decoded
