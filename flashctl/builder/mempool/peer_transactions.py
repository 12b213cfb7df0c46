"""Pending transactions of the `--sync-rpc` peer are copied into the mempool, in place of gossip.

Users send transactions to any engine. One that only the fallback holds would never be in a block of the
builder, and a restarted builder begins with an empty mempool. So the peer's mempool is read:

    whole                           at the start, after an outage of either side, and periodically, because
                                    a transaction rejected once may be admissible later
    eth_newPendingTransactionFilter the new ones, a few times a second; where a peer has no filters, the whole
                                    is polled

Only hashes are read; unknown ones are fetched and pass admission like a user's: the peer is not trusted.
Nothing is sent to it, so two nodes that read from each other exchange no transaction twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

from flashctl.builder.mempool.admission import Mempool
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.errors import FlashctlError, ProtocolError
from flashctl.eth.hexdata import parse_hex, to_hex

__all__ = ["PeerTransactions"]

_LOG = logging.getLogger(__name__)

POLL_S: Final = 0.2
"""Between polls of the filter: a flashblock."""

READ_EVERY_S: Final = 60.0
"""Between full reads of a peer with filters: 5 MB of a full mempool."""

READ_WITHOUT_NEWS_S: Final = 4.0
"""The same of a peer without: two blocks."""

RETRY_S: Final = 1.0
"""Pause after the peer did not answer."""

BATCH: Final = 64
"""Transactions fetched at once: 16 MB of hex if each is as large as a pool takes."""

MAX_FETCHED: Final = 10_000
"""Of one read: as many as a mempool of default size holds. The rest follows at the next read."""


class PeerTransactions:
    """Copies a peer's pending transactions. `run` it on the event loop."""

    def __init__(self, peer: JsonRpcClient, queue: Mempool) -> None:
        """Nothing is read before the first request."""
        self._peer = peer
        self._queue = queue
        self._wanted = asyncio.Event()
        self._filter: str | None = None
        """Id of the peer's pending transaction filter."""

        self._is_failing = False
        self.taken = 0
        """Transactions copied since the start."""

    def request(self) -> None:
        """Read the whole mempool, now that the own chain is as new as the peer's. Earlier, transactions would
        be rejected by outdated nonces and balances."""
        self._wanted.set()

    async def run(self) -> None:
        """Follow the peer's mempool from the first request on, until cancelled."""
        await self._wanted.wait()
        while True:
            try:
                await self._follow()
            except FlashctlError as error:
                level = logging.DEBUG if self._is_failing else logging.WARNING
                _LOG.log(level, "cannot read the pool of %s: %s", self._peer.url, error)
                self._is_failing, self._filter = True, None
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """Read the whole once, then poll for new ones until the next full read."""
        self._wanted.clear()
        if self._filter is None:
            # Installed before the full read, so that none is missed between.
            self._filter = await self._new_filter()
        taken = await self._take_over(await self._waiting())
        if taken:
            _LOG.info("copied transactions from the mempool of %s", self._peer.url, extra={"count": taken})
        if self._is_failing:
            self._is_failing = False
            _LOG.info("the pool of %s can be read again", self._peer.url)
        loop = asyncio.get_running_loop()
        until = loop.time() + (READ_EVERY_S if self._filter is not None else READ_WITHOUT_NEWS_S)
        while loop.time() < until and not self._wanted.is_set():
            await asyncio.sleep(POLL_S)
            if self._filter is not None:
                news = await self._peer.call("eth_getFilterChanges", [self._filter])
                await self._take_over(list(_hashes(news)))

    async def _new_filter(self) -> str | None:
        """None if the peer has no filters."""
        try:
            name = await self._peer.call("eth_newPendingTransactionFilter")
        except RpcError as error:
            _LOG.debug("%s has no pending transaction filters: %s", self._peer.url, error)
            return None
        return name if isinstance(name, str) else None

    async def _waiting(self) -> list[bytes]:
        """Hashes of the peer's pending transactions, each sender's in nonce order; without txpool methods,
        those of its pending block."""
        try:
            content = await self._peer.call("txpool_content")
        except RpcError as error:
            _LOG.debug("%s does not show its pool: %s", self._peer.url, error)
            block = await self._peer.call("eth_getBlockByNumber", ["pending", False])
            return list(_hashes(block.get("transactions"))) if isinstance(block, dict) else []
        return await asyncio.to_thread(lambda: list(_hashes_of_content(content)))

    async def _take_over(self, hashes: Sequence[bytes]) -> int:
        """Fetch and admit unknown transactions; returns how many were admitted."""
        unknown = [tx_hash for tx_hash in hashes if tx_hash not in self._queue][:MAX_FETCHED]
        taken = 0
        for start in range(0, len(unknown), BATCH):
            calls = [
                ("eth_getRawTransactionByHash", [to_hex(tx_hash)])
                for tx_hash in unknown[start : start + BATCH]
            ]
            replies = await self._peer.batch(calls)
            taken += sum(await asyncio.gather(*map(self._admit, replies)))
        self.taken += taken
        return taken

    async def _admit(self, reply: Any) -> bool:
        """Whether a fetched transaction was admitted; if not, it was usually included meanwhile."""
        if isinstance(reply, RpcError) or not reply:
            return False
        try:
            await self._queue.submit(parse_hex(reply))
        except FlashctlError as error:
            _LOG.debug("a transaction of %s was not admitted: %s", self._peer.url, error)
            return False
        return True


def _hashes(values: Any) -> Iterator[bytes]:
    """Of a list as a node gives it.

    Raises:
        ProtocolError: It is none.
    """
    if not isinstance(values, list):
        raise ProtocolError("a list of transaction hashes was expected")
    for value in values:
        yield parse_hex(value, size=32)


def _hashes_of_content(content: Any) -> Iterator[bytes]:
    """Of txpool_content: what is executable first.

    Raises:
        ProtocolError: It does not look like it.
    """
    for part in ("pending", "queued"):
        for by_nonce in _values(content, part):
            if not isinstance(by_nonce, dict):
                raise ProtocolError("txpool_content: not an object per sender")
            # Decimal texts, which sort as numbers by their length first.
            for nonce in sorted(by_nonce, key=lambda text: (len(text), text)):
                tx = by_nonce[nonce]
                yield parse_hex(tx.get("hash", "") if isinstance(tx, dict) else "", size=32)


def _values(content: Any, part: str) -> list[Any]:
    senders = content.get(part) if isinstance(content, dict) else None
    if not isinstance(senders, dict):
        raise ProtocolError(f"txpool_content without {part}")
    return list(senders.values())
