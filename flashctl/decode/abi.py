"""Contract ABI: signatures to types, calldata and logs to named values.

Only decoding, and only what Solidity emits: elementary types, arrays, tuples, and events with indexed
arguments (contract ABI specification, "Formal Specification of the Encoding"). A package for it costs 195
ms of import, more than the whole start-up budget of `flashctl decode`.

Values come out ready for JSON: integers as decimal strings (a uint256 does not survive a JavaScript
number), bytes and addresses as hex, tuples as objects when their members have names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from flashctl.errors import DataError

__all__ = [
    "AbiError",
    "AbiType",
    "Argument",
    "Entry",
    "Param",
    "decode_arguments",
    "decode_log",
    "entries_from_json",
    "parse_signature",
]

MAX_VALUES = 20_000
"""Values decoded from one call. Offsets may point backwards and share data, so a small input can describe a
huge tree; the largest real multicalls stay under 5,000."""

MAX_TYPE_DEPTH = 16
"""Nesting of tuples and arrays in a signature."""

_WORD = 32
_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_ELEMENTARY = re.compile(r"(u?int[0-9]{0,3}|address|bool|bytes[0-9]{0,2}|string|function)\Z")
_DIMENSION = re.compile(r"\[([0-9]{0,9})\]")


class AbiError(DataError):
    """A signature that cannot be parsed, or data that does not follow its types."""


class AbiType(NamedTuple):
    """A type of the ABI: an elementary base or a tuple, wrapped in zero or more array dimensions."""

    base: str
    members: tuple[Param, ...] = ()
    dimensions: tuple[int | None, ...] = ()
    """Lengths from the innermost outwards; None for a dynamic array."""

    @property
    def canonical(self) -> str:
        base = (
            "(" + ",".join(m.type.canonical for m in self.members) + ")"
            if self.base == "tuple"
            else self.base
        )
        return base + "".join(f"[{'' if size is None else size}]" for size in self.dimensions)

    @property
    def element(self) -> AbiType:
        return AbiType(self.base, self.members, self.dimensions[:-1])

    @property
    def is_dynamic(self) -> bool:
        if self.dimensions:
            return self.dimensions[-1] is None or self.element.is_dynamic
        if self.base == "tuple":
            return any(member.type.is_dynamic for member in self.members)
        return self.base in ("bytes", "string")

    @property
    def head_size(self) -> int:
        """Bytes this type takes in the head of its container."""
        if self.is_dynamic:
            return _WORD
        if self.dimensions:
            return (self.dimensions[-1] or 0) * self.element.head_size
        if self.base == "tuple":
            return sum(member.type.head_size for member in self.members)
        return _WORD


class Param(NamedTuple):
    """One declared parameter."""

    name: str
    type: AbiType
    indexed: bool = False


class Entry(NamedTuple):
    """A function, event or error of a contract."""

    kind: str
    name: str
    params: tuple[Param, ...]

    @property
    def signature(self) -> str:
        """The canonical text whose hash is the selector or topic."""
        return f"{self.name}({','.join(param.type.canonical for param in self.params)})"


class Argument(NamedTuple):
    """One decoded value."""

    name: str
    type: str
    value: Any


# -- signatures ------------------------------------------------------------------------------------


def parse_signature(text: str) -> Entry:
    """Parse `transfer(address to, uint256 amount)`, with an optional leading `function`, `event` or `error`.

    Raises:
        AbiError: If the text is not a signature.
    """
    head, _, rest = text.strip().partition("(")
    words = head.split()
    kind = words[0] if len(words) == 2 and words[0] in ("function", "event", "error") else "function"
    if not words or len(words) > 2 or not _NAME.fullmatch(words[-1]) or not rest:
        raise AbiError(f"not a signature: {text!r} (expected name(type,...))")
    params, end = _parse_params("(" + rest, 0, 0)
    if kind == "function" and any(param.indexed for param in params):
        kind = "event"
    trailer = ("(" + rest)[end:].strip()
    if trailer and not trailer.startswith(
        ("external", "public", "view", "pure", "payable", "returns", ";", "anonymous")
    ):
        raise AbiError(f"not a signature: {text!r} ({trailer!r} after the parameters)")
    return Entry(kind, words[-1], params)


def _parse_params(text: str, at: int, depth: int) -> tuple[tuple[Param, ...], int]:
    """Parse a parenthesised list that starts at `at`; returns it and the position after its `)`."""
    if depth > MAX_TYPE_DEPTH:
        raise AbiError(f"types are nested deeper than {MAX_TYPE_DEPTH}")
    params: list[Param] = []
    at += 1
    while at < len(text):
        if text[at].isspace() or text[at] == ",":
            at += 1
        elif text[at] == ")":
            return tuple(params), at + 1
        else:
            param, at = _parse_param(text, at, depth)
            params.append(param)
    raise AbiError("a parameter list is not closed")


def _parse_param(text: str, at: int, depth: int) -> tuple[Param, int]:
    members: tuple[Param, ...] = ()
    if text.startswith("tuple(", at):
        at += 5
    if text[at] == "(":
        members, at = _parse_params(text, at, depth + 1)
        base = "tuple"
    else:
        match = _NAME.match(text, at)
        if match is None:
            raise AbiError(f"unexpected {text[at]!r} in a parameter list")
        base, at = _elementary(match.group()), match.end()
    dimensions: list[int | None] = []
    while match := _DIMENSION.match(text, at):
        dimensions.append(int(match.group(1)) if match.group(1) else None)
        at = match.end()
    if len(dimensions) > MAX_TYPE_DEPTH:
        raise AbiError(f"types are nested deeper than {MAX_TYPE_DEPTH}")
    end = min((i for i in (text.find(",", at), text.find(")", at)) if i >= 0), default=len(text))
    words = [
        word for word in text[at:end].split() if word not in ("memory", "calldata", "storage", "payable")
    ]
    indexed = "indexed" in words
    name = next((word for word in words if word != "indexed"), "")
    return Param(name, AbiType(base, members, tuple(dimensions)), indexed), end


def _elementary(name: str) -> str:
    if not _ELEMENTARY.match(name):
        raise AbiError(f"unknown type {name!r}")
    if name in ("uint", "int"):
        return name + "256"
    digits = name.lstrip("abcdefghijklmnopqrstuvwxyz")
    size = int(digits) if digits else None
    if name.startswith(("uint", "int")) and (size is None or size % 8 or not 8 <= size <= 256):
        raise AbiError(f"unknown type {name!r}")
    if name.startswith("bytes") and size is not None and not 1 <= size <= 32:
        raise AbiError(f"unknown type {name!r}")
    return name


def entries_from_json(document: Any) -> list[Entry]:
    """The functions, events and errors of a JSON ABI, or of an artifact that holds one under `abi`.

    Raises:
        AbiError: If the document is no ABI.
    """
    if isinstance(document, dict):
        document = document.get("abi")
    if not isinstance(document, list):
        raise AbiError("not an ABI: expected a JSON array, or an object with an `abi` array")
    entries = []
    for item in document:
        if not isinstance(item, dict):
            raise AbiError("not an ABI: every entry must be an object")
        if item.get("type", "function") in ("function", "event", "error") and isinstance(
            item.get("name"), str
        ):
            params = tuple(_json_param(param, 0) for param in item.get("inputs") or ())
            entries.append(Entry(item.get("type", "function"), item["name"], params))
    return entries


def _json_param(param: Any, depth: int) -> Param:
    if not isinstance(param, dict) or not isinstance(param.get("type"), str) or depth > MAX_TYPE_DEPTH:
        raise AbiError("not an ABI: a parameter without a type")
    base, bracket, rest = param["type"].partition("[")
    sizes = _DIMENSION.findall(bracket + rest)
    members: tuple[Param, ...] = ()
    if base == "tuple":
        members = tuple(_json_param(member, depth + 1) for member in param.get("components") or ())
    else:
        base = _elementary(base)
    kind = AbiType(base, members, tuple(int(size) if size else None for size in sizes))
    return Param(str(param.get("name") or ""), kind, bool(param.get("indexed")))


# -- data ------------------------------------------------------------------------------------------


class _Decoder:
    __slots__ = ("budget", "data", "end")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.budget = MAX_VALUES
        self.end = 0
        """Behind the last byte that stands for something."""

    def word(self, at: int) -> bytes:
        self.end = max(self.end, at + _WORD)
        word = self.data[at : at + _WORD]
        if len(word) != _WORD:
            raise AbiError(f"the data ends inside a word at offset {at}")
        return word

    def integer(self, at: int) -> int:
        return int.from_bytes(self.word(at), "big")

    def sequence(self, types: Iterable[AbiType], base: int) -> list[Any]:
        """Decode a tuple of types whose head starts at `base`."""
        values = []
        at = base
        for kind in types:
            place = at
            if kind.is_dynamic:
                offset = self.integer(at)
                if offset > len(self.data):
                    raise AbiError(f"the offset at {at} points past the end of the data")
                place = base + offset
            values.append(self.value(kind, place))
            at += kind.head_size
        return values

    def value(self, kind: AbiType, at: int) -> Any:
        self.budget -= 1
        if self.budget < 0:
            raise AbiError(f"the data describes more than {MAX_VALUES:,} values")
        if kind.dimensions:
            return self._array(kind, at)
        if kind.base == "tuple":
            return _named(kind.members, self.sequence((m.type for m in kind.members), at))
        if kind.base in ("bytes", "string"):
            return self._dynamic_bytes(kind.base, at)
        return _elementary_value(kind.base, self.word(at), at)

    def _array(self, kind: AbiType, at: int) -> list[Any]:
        length = kind.dimensions[-1]
        if length is None:
            length = self.integer(at)
            at += _WORD
        if length > self.budget:
            raise AbiError(f"an array of {length:,} elements at offset {at} does not fit the data")
        return self.sequence((kind.element,) * length, at)

    def _dynamic_bytes(self, base: str, at: int) -> str:
        size = self.integer(at)
        content = self.data[at + _WORD : at + _WORD + size] if size <= len(self.data) else b""
        if len(content) != size:
            raise AbiError(f"{size:,} bytes announced at offset {at} run past the end of the data")
        padded = at + _WORD + -(-size // _WORD) * _WORD
        self.end = max(self.end, min(padded, len(self.data)))
        if base == "string":
            return content.decode("utf-8", "replace")
        return "0x" + content.hex()


def _elementary_value(base: str, word: bytes, at: int) -> Any:
    if base == "address":
        _expect_zero(word[:12], at, base)
        return "0x" + word[12:].hex()
    if base == "bool":
        _expect_zero(word[:31], at, base)
        if word[31] > 1:
            raise AbiError(f"the word at offset {at} is no bool: {word[31]}")
        return word[31] == 1
    if base.startswith("uint"):
        bits = int(base[4:])
        _expect_zero(word[: 32 - bits // 8], at, base)
        return str(int.from_bytes(word, "big"))
    if base.startswith("int"):
        number, half = int.from_bytes(word, "big", signed=True), 1 << int(base[3:]) - 1
        if not -half <= number < half:
            raise AbiError(f"the word at offset {at} is no {base}: {number}")
        return str(number)
    if base == "function":
        _expect_zero(word[24:], at, base)
        return "0x" + word[:24].hex()
    size = int(base[5:])
    _expect_zero(word[size:], at, base)
    return "0x" + word[:size].hex()


def _expect_zero(padding: bytes, at: int, base: str) -> None:
    """Refuse dirty padding: it is how data of another signature shows itself."""
    if padding.strip(b"\x00"):
        raise AbiError(f"the word at offset {at} is no {base}")


def _named(params: Sequence[Param], values: Sequence[Any]) -> Any:
    names = [param.name for param in params]
    if all(names) and len(set(names)) == len(names):
        return dict(zip(names, values, strict=True))
    return list(values)


def decode_arguments(params: Sequence[Param], data: bytes) -> tuple[list[Argument], bytes]:
    """Decode calldata after its selector, or the data of an error; and what is left behind the arguments.

    Raises:
        AbiError: If the data does not follow the types.
    """
    decoder = _Decoder(data)
    values = decoder.sequence((param.type for param in params), 0)
    arguments = [
        Argument(param.name or f"arg{number}", param.type.canonical, value)
        for number, (param, value) in enumerate(zip(params, values, strict=True))
    ]
    return arguments, data[decoder.end :]


def decode_log(entry: Entry, topics: Sequence[bytes], data: bytes) -> list[Argument]:
    """Decode a log of a known event; indexed dynamic values are shown as the hash that stands for them.

    Raises:
        AbiError: If topics or data do not follow the event.
    """
    indexed = [param for param in entry.params if param.indexed]
    if len(topics) != len(indexed) + 1:
        raise AbiError(f"{entry.signature} has {len(indexed)} indexed arguments, the log {len(topics) - 1}")
    plain = [param for param in entry.params if not param.indexed]
    decoded = iter(_Decoder(data).sequence((param.type for param in plain), 0))
    remaining = iter(topics[1:])
    arguments = []
    for number, param in enumerate(entry.params):
        value = _topic_value(param.type, next(remaining)) if param.indexed else next(decoded)
        arguments.append(Argument(param.name or f"arg{number}", param.type.canonical, value))
    return arguments


def _topic_value(kind: AbiType, topic: bytes) -> Any:
    if kind.dimensions or kind.base in ("tuple", "bytes", "string"):
        return "0x" + topic.hex()
    return _elementary_value(kind.base, topic, 0)
