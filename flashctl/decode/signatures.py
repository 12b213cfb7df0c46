"""Functions, events and errors that most transactions of an OP Stack chain use.

The table is `signatures.txt`, one Solidity signature a line, because those can be read and checked; parsing
and hashing its 300 lines takes 13 ms and waits for the first lookup, so that a decode without calldata never
pays for it. What is not in the table comes from `--abi` or `--sig`, and those win over it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from flashctl.decode.abi import Entry, parse_signature
from flashctl.eth.keccak import keccak256

__all__ = ["SignatureBook", "builtin_texts"]

_TABLE = Path(__file__).with_name("signatures.txt")


def builtin_texts() -> list[str]:
    """Every signature of the table, as written."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@cache
def _builtin() -> tuple[dict[bytes, list[Entry]], dict[bytes, list[Entry]]]:
    return _index(map(parse_signature, builtin_texts()))


def _index(entries: Iterable[Entry]) -> tuple[dict[bytes, list[Entry]], dict[bytes, list[Entry]]]:
    """Entries by selector (functions and errors) and by topic (events)."""
    selectors: dict[bytes, list[Entry]] = {}
    topics: dict[bytes, list[Entry]] = {}
    for entry in entries:
        digest = keccak256(entry.signature.encode())
        if entry.kind == "event":
            topics.setdefault(digest, []).append(entry)
        else:
            selectors.setdefault(digest[:4], []).append(entry)
    return selectors, topics


class SignatureBook:
    """The signatures known to one run: the user's first, then the built-in table."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._selectors, self._topics = _index(entries)

    def by_selector(self, selector: bytes) -> list[Entry]:
        """Functions and errors with this 4-byte selector, most trusted first."""
        return self._selectors.get(selector, []) or _builtin()[0].get(selector, [])

    def by_topic(self, topic: bytes) -> list[Entry]:
        """Events with this first topic; several when they differ only in what is indexed."""
        return self._topics.get(topic, []) or _builtin()[1].get(topic, [])
