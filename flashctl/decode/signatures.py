"""Functions, events and errors that most transactions of an OP Stack chain use.

The table is `signatures.txt`: Solidity signatures, because those can be read and checked, each behind its
selector (an event behind the first four bytes of its topic), because parsing and hashing all of them would
take 13 ms of a start-up budget of 150. A test keeps the two in step. What is not in the table comes from
`--abi` or `--sig`, and those win over it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path

from flashctl.decode.abi import Entry, parse_signature
from flashctl.eth.keccak import keccak256

__all__ = ["SignatureBook", "builtin_texts"]

_TABLE = Path(__file__).with_name("signatures.txt")


def builtin_texts() -> list[tuple[str, str]]:
    """Every signature of the table, as written, with the key in front of it."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    return [(line[:8], line[9:]) for line in lines if line and not line.startswith("#")]


@cache
def _table() -> str:
    return "\n" + _TABLE.read_text(encoding="utf-8")


@lru_cache(maxsize=4096)
def _builtin(digest: bytes, kind: str) -> tuple[Entry, ...]:
    """The entries of the table under a selector, or under the first four bytes of a topic."""
    table, key = _table(), f"\n{digest[:4].hex()} "
    entries = []
    at = table.find(key)
    while at >= 0:
        end = table.find("\n", at + 1)
        entry = parse_signature(table[at + len(key) : end if end >= 0 else None])
        if kind != "event":
            found = entry.kind != "event"
        else:
            found = entry.kind == "event" and keccak256(entry.signature.encode()) == digest
        if found:
            entries.append(entry)
        at = table.find(key, at + 1)
    return tuple(entries)


class SignatureBook:
    """The signatures known to one run: the user's first, then the built-in table."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._selectors: dict[bytes, list[Entry]] = {}
        self._topics: dict[bytes, list[Entry]] = {}
        self.unused: dict[bytes, str] = {}
        """What the user gave and nothing has asked for yet, by selector or topic."""
        for entry in entries:
            digest = keccak256(entry.signature.encode())
            self.unused[digest if entry.kind == "event" else digest[:4]] = entry.signature
            if entry.kind == "event":
                self._topics.setdefault(digest, []).append(entry)
            else:
                self._selectors.setdefault(digest[:4], []).append(entry)

    def keep_unused(self, keys: Collection[bytes]) -> None:
        """Count as unused only what another book, which has seen other lines, has not used either."""
        self.unused = {key: text for key, text in self.unused.items() if key in keys}

    def by_selector(self, selector: bytes) -> Sequence[Entry]:
        """Functions and errors with this 4-byte selector, most trusted first."""
        self.unused.pop(selector, None)
        return self._selectors.get(selector) or _builtin(selector, "function")

    def by_topic(self, topic: bytes) -> Sequence[Entry]:
        """Events with this first topic; several when they differ only in what is indexed."""
        self.unused.pop(topic, None)
        return self._topics.get(topic) or _builtin(topic, "event")
