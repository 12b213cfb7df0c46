"""`/ws/filter?addresses=&topics=&match=any|all`: only flashblocks with given addresses or topics.

The unit is the whole message, sent unchanged. An address matches as sender, recipient, created contract,
emitter of a log or account with a changed balance; a topic matches at any position of a log. Receipts are
read in both shapes in use (`{"type":"0x2","logs":[…]}` and `{"Eip1559":{"logs":[…]}}`); where a stream
carries none, from, to and created address still come from the transactions themselves. Index 0 carries `base`
and goes to every client, since a filtered client needs it to identify the block.

The addresses and topics of a message are extracted once for all clients; an inverted index maps them to the
filters that contain them. 1,000 clients whose filters miss cost two set intersections a message together,
where one decode per client cost 206 us each (flashbots' proxy, 50 KB brotli).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flashctl.core.flashblocks.wire import InvalidFlashblock, parse_object, unpack
from flashctl.core.hub import HttpResponse, HubMessage, InvalidRequest, UpgradeRequest
from flashctl.core.service import defects
from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode
from flashctl.eth.transactions import DepositTx, decode_transaction

__all__ = ["FilterIndex", "Match", "MessageTerms", "StreamFilter", "describe", "parse_filter"]

MAX_TERMS = 1000
"""Addresses and topics of one filter; a client that needs more takes the whole stream."""

_ADDRESS = re.compile(r"0x[0-9a-f]{40}\Z")
_TOPIC = re.compile(r"0x[0-9a-f]{64}\Z")


class Match(Enum):
    """How addresses and topics combine when a filter has both."""

    ANY = "any"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class MessageTerms:
    """The addresses and topics of a message that filters match; lower-case hex."""

    is_base: bool
    addresses: frozenset[str]
    topics: frozenset[str]


_NOTHING = MessageTerms(False, frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """The filter of one client; equal filters share their lane in the hub."""

    addresses: frozenset[str]
    topics: frozenset[str]
    match: Match = Match.ANY

    def accepts(self, message: HubMessage) -> bool:
        """Whether the client gets the message."""
        return self.matches(describe(message))

    def matches(self, terms: MessageTerms) -> bool:
        """Whether a message with these addresses and topics matches."""
        if terms.is_base:
            return True
        address = not self.addresses.isdisjoint(terms.addresses)
        topic = not self.topics.isdisjoint(terms.topics)
        if self.match is Match.ALL:
            return (address or not self.addresses) and (topic or not self.topics)
        return address or topic


class FilterIndex:
    """Inverted index from addresses and topics to the filters that match; the hub's router."""

    def __init__(self) -> None:
        self._all: set[StreamFilter] = set()
        self._by_term: dict[str, set[StreamFilter]] = {}

    def add(self, selector: Any) -> None:
        """Add a filter, for the first client with it."""
        self._all.add(selector)
        for term in _index_terms(selector):
            self._by_term.setdefault(term, set()).add(selector)

    def remove(self, selector: Any) -> None:
        """Remove a filter, after the last client with it has left."""
        self._all.discard(selector)
        for term in _index_terms(selector):
            holders = self._by_term.get(term, set())
            holders.discard(selector)
            if not holders:
                self._by_term.pop(term, None)

    def select(self, message: HubMessage) -> Iterable[StreamFilter]:
        """The filters that accept the message; each once."""
        if not self._all:
            return ()
        terms = describe(message)
        if terms.is_base:
            return tuple(self._all)
        known = self._by_term.keys()
        found: set[StreamFilter] = set()
        for term in (terms.addresses & known) | (terms.topics & known):
            found |= self._by_term[term]
        return [candidate for candidate in found if candidate.matches(terms)]


def _index_terms(selector: StreamFilter) -> frozenset[str]:
    """Terms of which one occurs in every message the filter accepts: for `all` one of the lists suffices."""
    if selector.match is Match.ALL and selector.addresses:
        return selector.addresses
    return selector.addresses | selector.topics


def parse_filter(request: UpgradeRequest) -> StreamFilter | None:
    """The filter of the query; None if it has no term, which is the whole stream.

    Raises:
        InvalidRequest: If a term is no address or topic, there are too many, or `match` is unknown.
    """
    addresses = _terms(request, "addresses", _ADDRESS, "an address")
    topics = _terms(request, "topics", _TOPIC, "a topic")
    if len(addresses) + len(topics) > MAX_TERMS:
        raise InvalidRequest(HttpResponse.json(400, {"message": f"a filter has at most {MAX_TERMS} terms"}))
    name = request.parameter("match") or Match.ANY.value
    try:
        match = Match(name.lower())
    except ValueError:
        raise InvalidRequest(HttpResponse.json(400, {"message": "match is any or all"})) from None
    return StreamFilter(addresses, topics, match) if addresses or topics else None


def _terms(request: UpgradeRequest, name: str, pattern: re.Pattern[str], what: str) -> frozenset[str]:
    terms = [term.strip().lower() for term in (request.parameter(name) or "").split(",")]
    found = [term if term.startswith("0x") else f"0x{term}" for term in terms if term]
    for number, term in enumerate(found, 1):
        if not pattern.match(term):
            raise InvalidRequest(
                HttpResponse.json(400, {"message": f"{name}: entry {number} is not {what} in hex"})
            )
    return frozenset(found)


def describe(message: HubMessage) -> MessageTerms:
    """The addresses and topics of a message, extracted once and kept with it."""
    terms = message.facts
    if not isinstance(terms, MessageTerms):
        try:
            terms = _describe(message.data, message.binary)
        except Exception as error:  # filters miss the message; unfiltered clients have it already
            defects.caught("proxy.filters", error)
            terms = _NOTHING
        message.facts = terms
    return terms


def _describe(data: bytes, binary: bool) -> MessageTerms:
    try:
        flashblock = parse_object(unpack(data, binary=binary))
    except InvalidFlashblock:
        return _NOTHING
    addresses: set[str] = set()
    topics: set[str] = set()
    metadata = _mapping(flashblock.get("metadata"))
    addresses.update(key.lower() for key in _mapping(metadata.get("new_account_balances")))
    for receipt in _receipts(metadata.get("receipts")):
        if isinstance(created := receipt.get("contractAddress"), str):
            addresses.add(created.lower())
        _add_logs(receipt.get("logs"), addresses, topics)
    for raw in _list(_mapping(flashblock.get("diff")).get("transactions")):
        addresses.update(_parties(raw))
    return MessageTerms(flashblock.get("index") == 0, frozenset(addresses), frozenset(topics))


def _receipts(value: object) -> Iterator[Mapping[str, Any]]:
    """Receipts of a hash-to-receipt object or a list, flat or tagged with their type's name."""
    items: Iterable[object] = value.values() if isinstance(value, dict) else _list(value)
    for item in items:
        receipt = _mapping(item)
        if "logs" not in receipt and len(receipt) == 1:
            receipt = _mapping(next(iter(receipt.values())))
        yield receipt


def _add_logs(value: object, addresses: set[str], topics: set[str]) -> None:
    for entry in _list(value):
        log = _mapping(entry)
        if isinstance(address := log.get("address"), str):
            addresses.add(address.lower())
        topics.update(topic.lower() for topic in _list(log.get("topics")) if isinstance(topic, str))


def _parties(raw: object) -> Iterator[str]:
    """Sender, recipient or created contract of one transaction, and the accounts it delegates."""
    try:
        transaction = decode_transaction(bytes.fromhex(str(raw)[2:]))
    except (DataError, ValueError):
        return
    if transaction.to is not None:
        yield "0x" + transaction.to.hex()
    if isinstance(transaction, DepositTx):
        yield "0x" + transaction.sender.hex()
        return
    from flashctl.eth.signatures import recover_sender  # coincurve: only a proxy with filters needs it

    try:
        sender = recover_sender(transaction)
    except DataError:
        return
    yield "0x" + sender.hex()
    if transaction.to is None:
        yield "0x" + _created_address(sender, transaction.nonce).hex()


def _created_address(sender: bytes, nonce: int) -> bytes:
    minimal = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    return keccak256(encode([sender, minimal]))[12:]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
