"""The nodes of a Merkle-Patricia trie: immutable, each with its encoding computed once when it is made.

A path is a string of hex digits, one per nibble: `bytes.hex` makes it, slices cut it, `bytes.fromhex`
packs it into the compact form, all in C. A tuple or bytes of nibbles needs a Python loop for each of
these.

A child is None, a node, or 33 bytes `0xa0 + hash` for a node that has not been loaded. `ref` is what a
parent embeds of a node: its RLP when that is shorter than a hash, else `0xa0 + hash`.

Source: Yellow Paper, appendix D.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import (
    Item,
    RlpError,
    decode_list,
    encode,
    encode_bytes,
    encode_list_payload,
    encode_pair,
)

__all__ = [
    "EMPTY_REFS",
    "NIBBLE",
    "NIBBLES",
    "Branch",
    "Child",
    "Extension",
    "InvalidNode",
    "Leaf",
    "Node",
    "decode_node",
    "unpack_path",
]

NIBBLES = "0123456789abcdef"
NIBBLE = {digit: value for value, digit in enumerate(NIBBLES)}
"""The index of a branch's child, by the digit of the path that leads to it."""

EMPTY_REFS = [b"\x80"] * 17
"""The references of a branch without children and value."""


class InvalidNode(DataError):
    """Bytes from a store or a witness are not a trie node."""

    reason: Final[str]

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid trie node: {reason}")


class Leaf:
    """The end of a path, with the value stored there."""

    __slots__ = ("path", "ref", "value")

    path: Final[str]
    """The rest of the key below the parent."""
    value: Final[bytes]
    ref: Final[bytes]

    def __init__(self, path: str, value: bytes) -> None:
        self.path = path
        self.value = value
        rlp = encode_pair(bytes.fromhex("3" + path if len(path) & 1 else "20" + path), value)
        self.ref = b"\xa0" + keccak256(rlp) if len(rlp) >= 32 else rlp

    def rlp(self) -> bytes:
        """The encoding of the node."""
        path = self.path
        return encode_pair(bytes.fromhex("3" + path if len(path) & 1 else "20" + path), self.value)


class Extension:
    """A stretch of path that all keys below share; its child is always a branch."""

    __slots__ = ("child", "path", "ref")

    path: Final[str]
    ref: Final[bytes]
    child: Child
    """Replaced once, by the loaded node in place of its hash."""

    def __init__(self, path: str, child: Child) -> None:
        self.path = path
        self.child = child
        self.ref = _reference(self.rlp())

    def rlp(self) -> bytes:
        """The encoding of the node."""
        path = self.path
        packed = bytes.fromhex("1" + path if len(path) & 1 else "00" + path)
        child = self.child
        return encode_list_payload(encode_bytes(packed) + (child if isinstance(child, bytes) else child.ref))


class Branch:
    """Sixteen ways on, and a value for the key that ends here."""

    __slots__ = ("children", "ref", "refs", "value")

    children: Final[list[Child | None]]
    """Entries are replaced only by the loaded node in place of its hash."""
    refs: Final[list[bytes]]
    """The embedded form of each child and of the value, 17 entries.

    Kept beside the children so that encoding is one join; collecting them from 16 children takes 1.5 us,
    to 2.5 us for the hash.
    """
    value: Final[bytes]
    ref: Final[bytes]

    def __init__(self, children: list[Child | None], refs: list[bytes], value: bytes = b"") -> None:
        self.children = children
        self.refs = refs
        self.value = value
        rlp = encode_list_payload(b"".join(refs))
        self.ref = b"\xa0" + keccak256(rlp) if len(rlp) >= 32 else rlp

    def with_child(self, index: int, child: Node) -> Branch:
        """This branch with another child at an index."""
        children = self.children.copy()
        refs = self.refs.copy()
        children[index] = child
        refs[index] = child.ref
        return Branch(children, refs, self.value)

    def rlp(self) -> bytes:
        """The encoding of the node."""
        return encode_list_payload(b"".join(self.refs))


Node: TypeAlias = Leaf | Extension | Branch
Child: TypeAlias = Leaf | Extension | Branch | bytes


def decode_node(raw: bytes) -> Node:
    """The node of one encoding, its children left as hashes.

    Raises:
        InvalidNode: Not a node.
    """
    try:
        return _node(decode_list(raw))
    except RlpError as error:
        raise InvalidNode(str(error)) from None


def unpack_path(packed: bytes) -> tuple[str, bool]:
    """The path of a compact encoding, and whether it belongs to a leaf.

    Raises:
        InvalidNode: The flag is none of the four.
    """
    digits = packed.hex()
    match digits[:1]:
        case "0" | "2" if digits[1] == "0":
            path = digits[2:]
        case "1" | "3":
            path = digits[1:]
        case _:
            raise InvalidNode("path with an unknown flag")
    return path, digits[0] in "23"


def _node(items: list[Item]) -> Node:
    if len(items) == 17:
        return _branch(items)
    match items:
        case [bytes(packed), target]:
            path, is_leaf = unpack_path(packed)
        case _:
            raise InvalidNode(f"{len(items)} fields, expected 2 or 17")
    if is_leaf:
        if not isinstance(target, bytes):
            raise InvalidNode("leaf value is a list")
        return Leaf(path, target)
    child = _child(target)
    if child is None or not path:
        raise InvalidNode("extension without a child or path")
    return Extension(path, child)


def _branch(items: list[Item]) -> Branch:
    value = items[16]
    if not isinstance(value, bytes):
        raise InvalidNode("branch value is a list")
    children = [_child(item) for item in items[:16]]
    refs = [encode(item) for item in items]
    return Branch(children, refs, value)


def _child(item: Item) -> Child | None:
    if isinstance(item, list):
        return _node(item)
    if not item:
        return None
    if len(item) != 32:
        raise InvalidNode(f"reference of {len(item)} bytes")
    return b"\xa0" + item


def _reference(rlp: bytes) -> bytes:
    return b"\xa0" + keccak256(rlp) if len(rlp) >= 32 else rlp
