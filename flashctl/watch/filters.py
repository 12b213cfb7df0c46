"""Which flashblocks are shown: by what their transactions do.

A flashblock passes when one of its transactions meets every criterion; their positions are in `matches`.
Work is done only as far as a criterion needs it: a selector is read from the decoded transaction, a sender
costs a recovery of 48 us. Logs exist only where the stream carries receipts; where it does not, a hint
explains why nothing matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from flashctl.errors import DataError, UsageError
from flashctl.eth.hexdata import parse_hex, parse_number
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import recover_sender
from flashctl.eth.transactions import Transaction, decode_transaction
from flashctl.watch.config import FilterConfig
from flashctl.watch.events import WatchEvent

__all__ = [
    "NO_RECEIPTS_HINT",
    "TYPE_NAMES",
    "CheckedTransaction",
    "FlashblockFilter",
    "TransactionCheck",
    "index_range",
    "make_filter",
    "transaction_checks",
]

NO_RECEIPTS_HINT: Final = (
    "this stream carries no receipts, so topics and log addresses cannot match; "
    "follow a node instead (--source rpc), or filter by --to, --from or --selector"
)

TYPE_NAMES: Final = {"legacy": 0, "eip2930": 1, "eip1559": 2, "eip4844": 3, "eip7702": 4, "deposit": 0x7E}
"""Names of transaction types, EIP-2718's first byte."""

_RANGE: Final = re.compile(r"([0-9]{1,9})?(\.\.)?([0-9]{1,9})?\Z")
TransactionCheck = Callable[["CheckedTransaction"], bool]
"""Whether a transaction meets one criterion."""


class CheckedTransaction:
    """One transaction, decoded as far as a criterion needs."""

    def __init__(self, raw: bytes, receipts: Mapping[str, Any] | None) -> None:
        self.raw = raw
        self._receipts = receipts
        self._tx: Transaction | None = None
        self._decoded = False
        self._sender: bytes | None = None
        self._recovered = False

    @property
    def tx(self) -> Transaction | None:
        if not self._decoded:
            self._decoded = True
            try:
                self._tx = decode_transaction(self.raw)
            except DataError:
                self._tx = None
        return self._tx

    @property
    def sender(self) -> bytes | None:
        if not self._recovered:
            self._recovered = True
            try:
                self._sender = None if self.tx is None else recover_sender(self.tx)
            except DataError:
                self._sender = None
        return self._sender

    @property
    def hash(self) -> str:
        return "0x" + keccak256(self.raw).hex()

    def logs(self) -> list[Mapping[str, Any]]:
        """The logs of its receipt on the wire, in whichever shape it came."""
        receipt = (self._receipts or {}).get(self.hash)
        if isinstance(receipt, dict) and len(receipt) == 1:
            (receipt,) = receipt.values()
        logs = receipt.get("logs") if isinstance(receipt, dict) else None
        return [log for log in logs if isinstance(log, dict)] if isinstance(logs, list) else []


class FlashblockFilter:
    """A conjunction of criteria."""

    def __init__(
        self, checks: Sequence[TransactionCheck], indices: range | None, *, needs_receipts: bool
    ) -> None:
        self._checks = checks
        self._indices = indices
        self.needs_receipts = needs_receipts
        self.saw_receipts = False
        """Whether any flashblock so far carried receipts."""

    def apply(self, event: WatchEvent) -> WatchEvent | None:
        """The event with the positions of the transactions that matched, or None when it is to be hidden.

        Events other than flashblocks pass: a gap matters whatever one looks for.
        """
        if event.row is None:
            return event
        if self._indices is not None and event.index not in self._indices:
            return None
        if not self._checks:
            return event
        flashblock = event.row.flashblock
        receipts = flashblock.metadata.receipts
        self.saw_receipts = self.saw_receipts or bool(receipts)
        positions = [
            position
            for position, raw in enumerate(flashblock.diff.transactions)
            if self._passes(CheckedTransaction(raw, receipts))
        ]
        if not positions:
            return None
        hashes = ["0x" + keccak256(flashblock.diff.transactions[position]).hex() for position in positions]
        return replace(event, details={**event.details, "matches": positions, "match_hashes": hashes})

    def _passes(self, subject: CheckedTransaction) -> bool:
        return all(check(subject) for check in self._checks)


def make_filter(config: FilterConfig) -> FlashblockFilter | None:
    """The filter of the settings, or None when nothing is filtered.

    Raises:
        UsageError: An address, selector, topic, type or range that is none.
    """
    checks = transaction_checks(config)
    indices = None if config.indices is None else index_range(config.indices)
    if not checks and indices is None:
        return None
    return FlashblockFilter(checks, indices, needs_receipts=bool(config.topics))


def transaction_checks(config: FilterConfig) -> list[TransactionCheck]:
    """What a transaction must meet, the cheapest first.

    Raises:
        UsageError: An address, selector, topic or type that is none.
    """
    checks: list[TransactionCheck] = []
    if config.types:
        types = frozenset(_type_byte(text) for text in config.types)
        checks.append(lambda subject: (subject.raw[0] if subject.raw[:1] < b"\xc0" else 0) in types)
    if config.no_deposits:
        checks.append(lambda subject: subject.raw[:1] != b"\x7e")
    if config.targets:
        targets = _hex_set(config.targets, 20, "--to")
        checks.append(lambda subject: subject.tx is not None and subject.tx.to in targets)
    if config.selectors:
        selectors = _selectors(config.selectors)
        checks.append(lambda subject: subject.tx is not None and subject.tx.data[:4] in selectors)
    if config.min_value is not None:
        least = config.min_value
        checks.append(lambda subject: subject.tx is not None and subject.tx.value >= least)
    if config.topics:
        checks.append(_topic_check(_hex_set(config.topics, 32, "--topic")))
    if config.senders:
        senders = _hex_set(config.senders, 20, "--from")
        checks.append(lambda subject: subject.sender in senders)
    if config.addresses:
        checks.append(_address_check(_hex_set(config.addresses, 20, "--address")))
    return checks


def _topic_check(topics: frozenset[bytes]) -> TransactionCheck:
    wanted = {"0x" + topic.hex() for topic in topics}

    def check(subject: CheckedTransaction) -> bool:
        return any(
            str(topic).lower() in wanted for log in subject.logs() for topic in _members(log.get("topics"))
        )

    return check


def _address_check(addresses: frozenset[bytes]) -> TransactionCheck:
    wanted = {"0x" + address.hex() for address in addresses}

    def check(subject: CheckedTransaction) -> bool:
        tx = subject.tx
        if tx is not None and tx.to in addresses:
            return True
        if any(str(log.get("address")).lower() in wanted for log in subject.logs()):
            return True
        return subject.sender in addresses

    return check


def _members(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def _hex_set(texts: Sequence[str], size: int, flag: str) -> frozenset[bytes]:
    try:
        return frozenset(parse_hex(text, size=size) for text in texts)
    except DataError as error:
        raise UsageError(f"{flag}: {error}") from None


_FUNCTION: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,127}\([a-z0-9,()\[\]]{0,512}\)")
_AROUND: Final = re.compile(r"\s*([,()\[\]])\s*")
_WORD: Final = re.compile(r"[a-z0-9]+")
_TYPE: Final = re.compile(
    r"address|bool|string|function|bytes([1-9]|[12][0-9]|3[0-2])?"
    r"|u?int([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-6])"
)
_ALIAS: Final = re.compile(r"\b(u?int)(?![0-9a-z])")


def _selectors(texts: Sequence[str]) -> frozenset[bytes]:
    """Selectors as four bytes, or as the function that they are of: `transfer(address,uint256)`."""
    found: list[bytes] = []
    for text in texts:
        if "(" not in text:
            found += _hex_set([text], 4, "--selector")
            continue
        function = _ALIAS.sub(r"\g<1>256", _AROUND.sub(r"\1", text.strip()))
        if _FUNCTION.fullmatch(function) is None:
            raise UsageError(
                f"--selector {text!r}: not a function", hint="write name(type,...) without names of arguments"
            )
        for word in _WORD.findall(function, function.index("(")):
            if not (word.isdigit() or _is_type(word)):
                raise UsageError(f"--selector {text!r}: unknown type {word!r}")
        found.append(keccak256(function.encode())[:4])
    return frozenset(found)


def _is_type(word: str) -> bool:
    bits = word.removeprefix("u").removeprefix("int")
    return _TYPE.fullmatch(word) is not None and (not bits.isdigit() or int(bits) % 8 == 0)


def _type_byte(text: str) -> int:
    if text in TYPE_NAMES:
        return TYPE_NAMES[text]
    try:
        return parse_number(text, most=0x7F)
    except DataError:
        raise UsageError(
            f"--type {text!r}: not a type", hint=f"0x0 to 0x7f, or {', '.join(TYPE_NAMES)}"
        ) from None


def index_range(text: str) -> range:
    """`3`, `1..3`, `2..` or `..4`.

    Raises:
        UsageError: For anything else.
    """
    match = _RANGE.match(text)
    if match is None or (match.group(1) is None and match.group(3) is None):
        raise UsageError(f"--index {text!r}: not an index", hint="write 3, 1..3, 2.. or ..4")
    first = int(match.group(1) or 0)
    if match.group(2) is None:
        return range(first, first + 1)
    found = range(first, int(match.group(3)) + 1 if match.group(3) else 2**63)
    if not found:
        raise UsageError(f"--index {text!r}: no index", hint="the smaller one comes first")
    return found
