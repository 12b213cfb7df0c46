"""What is typed after `/` in the live view: a filter by what the flags filter by.

    0x + 64 digits            hash of a transaction, or topic of a log
    0x + 40 digits            address: sender, recipient or emitter of a log
    0x + 8 digits             selector; so is name(type,...)
    0x + 16 digits            payload id
    0x + other digits         what a hash or a payload id begins with
    eip1559, deposit, ...     type of a transaction
    #123, gap, replaced, ...  text of the payload's heading or of the row's marks
    from:0x..  to:  address:  selector:  topic:  type:  min-value:  index:  tx:  payload:  block:

Words are a conjunction: a row is shown if its place meets those about a place, and one of its transactions
meets all those about transactions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from flashctl.errors import UsageError
from flashctl.watch.config import FilterConfig
from flashctl.watch.events import Row
from flashctl.watch.filters import (
    TYPE_NAMES,
    CheckedTransaction,
    TransactionCheck,
    index_range,
    transaction_checks,
)

__all__ = ["ViewFilter"]

_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")

_CONFIGS: Final[dict[str, Callable[[str], FilterConfig]]] = {
    "from": lambda value: FilterConfig(senders=(value,)),
    "to": lambda value: FilterConfig(targets=(value,)),
    "address": lambda value: FilterConfig(addresses=(value,)),
    "selector": lambda value: FilterConfig(selectors=(value,)),
    "topic": lambda value: FilterConfig(topics=(value,)),
    "type": lambda value: FilterConfig(types=(value,)),
    "min-value": lambda value: FilterConfig(min_value=_number(value)),
}
"""Criteria of transactions, by the names of their flags."""

_PlaceCheck = Callable[[str, int], bool]
"""Takes the text of a row's place (block number, payload id, marks) and the row's index."""


class ViewFilter:
    """A parsed filter; the empty one shows everything.

    Raises:
        UsageError: A word names a criterion and gives it a value that it cannot have.
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self._places: list[_PlaceCheck] = []
        self._checks: list[TransactionCheck] = []
        for word in self.text.split():
            self._add(word)

    def __bool__(self) -> bool:
        return bool(self.text)

    def passes(self, heading: str, index: int, row: Row) -> bool:
        """Whether a row of the payload with this heading is shown."""
        place = f"{heading} {' '.join(row.marks)}".lower()
        if not all(check(place, index) for check in self._places):
            return False
        if not self._checks:
            return True
        receipts = row.flashblock.metadata.receipts
        return any(
            all(check(subject) for check in self._checks)
            for subject in (CheckedTransaction(raw, receipts) for raw in row.flashblock.diff.transactions)
        )

    def _add(self, word: str) -> None:
        name, colon, value = word.partition(":")
        if colon and name in _CONFIGS:
            self._checks += transaction_checks(_CONFIGS[name](value))
        elif colon and name == "index":
            indices = index_range(value)
            self._places.append(lambda _, index: index in indices)
        elif colon and name in ("payload", "block"):
            wanted = value.lower() if name == "payload" else f"#{value.removeprefix('#')} "
            self._places.append(lambda place, _: wanted in place)
        elif colon and name == "tx":
            self._checks.append(_begins(value.lower()))
        elif word in TYPE_NAMES:
            self._checks += transaction_checks(FilterConfig(types=(word,)))
        elif "(" in word:
            self._checks += transaction_checks(FilterConfig(selectors=(word,)))
        elif _HEX.fullmatch(word):
            self._add_hex(word.lower())
        else:
            self._places.append(lambda place, _: word.lower() in place)

    def _add_hex(self, word: str) -> None:
        match len(word) - 2:
            case 64:
                topic = transaction_checks(FilterConfig(topics=(word,)))
                self._checks.append(_either([_begins(word), *topic]))
            case 40:
                self._checks += transaction_checks(FilterConfig(addresses=(word,)))
            case 16:
                self._places.append(lambda place, _: word in place)
            case 8:
                called = transaction_checks(FilterConfig(selectors=(word,)))
                self._checks.append(_either([_begins(word), *called]))
            case _:
                self._checks.append(_begins(word))


def _begins(digits: str) -> TransactionCheck:
    """Whether the hash of a transaction begins so."""
    return lambda subject: subject.hash.startswith(digits)


def _either(checks: Sequence[TransactionCheck]) -> TransactionCheck:
    return lambda subject: any(check(subject) for check in checks)


def _number(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise UsageError(f"--min-value {text!r}: not an amount of wei")
    return number
