"""Polling filters: `eth_newFilter` and its family.

A filter remembers the block at which it was last asked and answers with what happened between that block
and the head, which needs no work per new block and no queue. If the block has left the canonical branch in
between, logs that went with it are reported first, marked as removed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Handler, optional, required
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_view import logs_of
from flashctl.ethrpc.chain_provider import ChainProvider
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.interfaces import ChainReader, StoredBlock, TransactionPool
from flashctl.ethrpc.log_search import MAX_RESULTS
from flashctl.lru import Lru
from flashctl.op.envelope import TxEnvelope

__all__ = ["FilterApi"]

MAX_FILTERS: Final = 10_000
"""Of all callers together; the one asked longest ago makes room."""

FILTER_LIFETIME_S: Final = 5 * 60
"""A filter that is not asked for this long is removed, as in geth."""

MAX_WAITING_HASHES: Final = 10_000
"""Transaction hashes kept for filters; a slower caller misses the oldest."""

MAX_CHANGED_BLOCKS: Final = 1_000
"""Blocks one answer looks at: six times what a chain of two-second blocks makes in a filter's lifetime."""


@dataclass(slots=True)
class _Filter:
    """One installed filter: exactly one of the three kinds."""

    asked_at: float
    """Event-loop time of the last request."""

    cursor: Header
    logs: LogFilter | None = None
    sequence: int | None = None
    """For pending transactions: how many had been seen when it was last asked."""


class FilterApi:
    """Methods of filters. Lives on the event loop."""

    def __init__(self, provider: ChainProvider, pool: TransactionPool | None) -> None:
        self._provider = provider
        self._chain = provider.chain
        self._readers = provider.readers
        self._search = provider.search
        self._pool = pool
        self._filters = Lru[str, _Filter](MAX_FILTERS)
        self._seen = 0
        self._hashes: deque[bytes] = deque(maxlen=MAX_WAITING_HASHES)
        self._leave: Callable[[], None] | None = None

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_newFilter", self.new_filter
        yield "eth_newBlockFilter", self.new_block_filter
        yield "eth_newPendingTransactionFilter", self.new_pending_filter
        yield "eth_getFilterChanges", self.changes
        yield "eth_getFilterLogs", self.filter_logs
        yield "eth_uninstallFilter", self.uninstall

    async def new_filter(self, params: list[Any]) -> str:
        return self._install(logs=LogFilter.parse(optional(params, 0)))

    async def new_block_filter(self, params: list[Any]) -> str:
        return self._install()

    async def new_pending_filter(self, params: list[Any]) -> str:
        if self._leave is None and self._pool is not None:
            self._leave = self._pool.subscribe(self._on_transaction)
        return self._install(sequence=self._seen)

    async def uninstall(self, params: list[Any]) -> bool:
        return self._filters.pop(str(required(params, 0, "filter id"))) is not None

    async def filter_logs(self, params: list[Any]) -> list[dict[str, Any]]:
        """All logs of a log filter's range, not only the new ones."""
        found = self._find(params)
        if found.logs is None:
            raise RpcError(ErrorCode.SERVER_ERROR, "filter not found")
        return await self._readers.run(self._search.find, found.logs)

    async def changes(self, params: list[Any]) -> list[Any]:
        """What happened since the last request."""
        found = self._find(params)
        if found.sequence is not None:
            missed = min(self._seen - found.sequence, len(self._hashes))
            found.sequence = self._seen
            return [to_hex(tx_hash) for tx_hash in list(self._hashes)[len(self._hashes) - missed :]]
        answer, found.cursor = await self._readers.run(_changes, self._provider, found.cursor, found.logs)
        return answer

    def _install(self, logs: LogFilter | None = None, sequence: int | None = None) -> str:
        now = asyncio.get_running_loop().time()
        self._expire(now)
        # The top bit is set: an id is a quantity and must not begin with a zero.
        name = hex(secrets.randbits(128) | 1 << 127)
        self._filters.put(name, _Filter(now, self._chain.head, logs, sequence))
        return name

    def _find(self, params: list[Any]) -> _Filter:
        name = str(required(params, 0, "filter id"))
        now = asyncio.get_running_loop().time()
        self._expire(now)
        found = self._filters.get(name)
        if found is None:
            raise RpcError(ErrorCode.SERVER_ERROR, "filter not found")
        found.asked_at = now
        return found

    def _expire(self, now: float) -> None:
        """The filters are in order of their last request, so the stale ones are in front."""
        while (oldest := self._filters.oldest) is not None:
            name, found = oldest
            if now - found.asked_at < FILTER_LIFETIME_S:
                return
            self._filters.pop(name)

    def _on_transaction(self, envelope: TxEnvelope) -> None:
        self._seen += 1
        self._hashes.append(envelope.hash)


def _between(chain: ChainReader, cursor: Header) -> tuple[list[StoredBlock], list[StoredBlock]]:
    """Blocks that left the canonical branch since `cursor` was its head (downwards), and that came."""
    old: list[StoredBlock] = []
    while not chain.is_canonical(cursor) and len(old) < MAX_CHANGED_BLOCKS:
        left, parent = chain.block(cursor.hash), chain.header(cursor.parent_hash)
        if left is None or parent is None:
            break
        old.append(left)
        cursor = parent
    new: list[StoredBlock] = []
    for number in range(cursor.number + 1, min(chain.head.number, cursor.number + MAX_CHANGED_BLOCKS) + 1):
        block_hash = chain.canonical_hash(number)
        block = None if block_hash is None else chain.block(block_hash)
        if block is not None:
            new.append(block)
    return old, new


def _changes(provider: ChainProvider, cursor: Header, wanted: LogFilter | None) -> tuple[list[Any], Header]:
    """What happened since `cursor` was the head, and the head that this reaches to."""
    chain = provider.chain
    head = chain.head
    old, new = _between(chain, cursor)
    reached = new[-1].header if new else head
    if wanted is None:
        return [to_hex(block.hash) for block in new], reached
    return _changed_logs(provider, wanted, old, new), reached


def _changed_logs(
    provider: ChainProvider, wanted: LogFilter, old: list[StoredBlock], new: list[StoredBlock]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for blocks, removed in ((old, True), (new, False)):
        for block in blocks:
            if len(found) < MAX_RESULTS and _in_range(wanted, block.number):
                found += logs_of(provider.view_of(block), wanted, removed=removed)
    return found


def _in_range(wanted: LogFilter, number: int) -> bool:
    """Whether a new block is one the filter asks about; tags do not bound what is new."""
    first, last = wanted.from_block, wanted.to_block
    return not (isinstance(first, int) and number < first) and not (isinstance(last, int) and number > last)
