"""Catching up: blocks sealed while this engine was down are fetched from a peer's JSON-RPC.

A builder that was killed restarts with the chain it had. The consensus client then names an unknown head, and
gets SYNCING until the blocks between are imported. They come from any node, in order, and are executed like
every other block: the peer is not trusted. A node with `debug_getRawBlock` returns encodings, 16 in a
    request;
most serve only `eth` on their user ports, whose block objects are rebuilt into blocks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from flashctl.chain.chain import Chain, ChainBlock
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.errors import DataError, FlashctlError, ProtocolError, TimedOut, UnavailableError
from flashctl.eth.blocks import Block, decode_block
from flashctl.eth.hexdata import parse_hex, parse_quantity, quantity, to_hex
from flashctl.ethrpc.block_objects import block_from_object

__all__ = ["CatchUp"]

_LOG = logging.getLogger(__name__)

BATCH: Final = 16
"""Blocks of one request. At 1 MB a block that is 32 MB of hex, within any node's limits."""

OBJECTS_AT_ONCE: Final = 4
"""Block objects requested in parallel, each in a request of its own: a full block's is several MB."""

RETRY_S: Final = 1.0
"""Pause after a peer did not answer: half a block time, so that its return is noticed within a block."""

MAX_STEP_BACK: Final = 4096
"""How far back the peer's branch is searched for a common block."""


class CatchUp:
    """Imports a peer's blocks up to its head whenever blocks are missing."""

    def __init__(
        self,
        chain: Chain,
        peer: JsonRpcClient,
        import_block: Callable[[Block], Awaitable[ChainBlock]],
        choose: Callable[[bytes], Awaitable[object]],
        caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is fetched yet.

        Args:
            import_block: Keeps a block.
            choose: Makes a kept block the head.
            caught_up: Called whenever the own chain is, or has become, as new as the peer's.
        """
        self._chain = chain
        self._peer = peer
        self._import = import_block
        self._choose = choose
        self._caught_up = caught_up
        self._has_raw_blocks = True
        """Whether the peer offers debug_getRawBlock; assumed until it refuses."""
        self._wanted = asyncio.Event()
        # A restart is the usual reason to be behind, so the first check is due at once.
        self._wanted.set()

    def request(self) -> None:
        """Ancestors of a block are missing: fetch them."""
        self._wanted.set()

    async def run(self) -> None:
        """Fetch at each request, until cancelled."""
        is_failing = False
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                fetched = await self._follow()
            except FlashctlError as error:
                level = logging.DEBUG if is_failing else logging.INFO
                _LOG.log(level, "cannot catch up: %s", error)
                is_failing = True
                await asyncio.sleep(RETRY_S)
                # The request is not served yet: try again.
                self._wanted.set()
                continue
            is_failing = False
            self._caught_up()
            if fetched:
                _LOG.info("caught up", extra={"blocks": fetched, "head": self._chain.head.number})

    async def _follow(self) -> int:
        """Import the peer's blocks beyond the last common one; returns their number."""
        head = parse_quantity(await self._peer.call("eth_blockNumber"))
        next_number = await self._first_unknown(head)
        fetched = 0
        last: ChainBlock | None = None
        while next_number <= head:
            numbers = range(next_number, min(head + 1, next_number + BATCH))
            for block in await self._blocks(numbers):
                last = await self._import(block)
                fetched += 1
            next_number = numbers.stop
        if last is not None and last.number > self._chain.head.number:
            await self._choose(last.hash)
        return fetched

    async def _first_unknown(self, head: int) -> int:
        """The number after the newest block that both sides have."""
        number = min(head, self._chain.head.number)
        for _ in range(MAX_STEP_BACK):
            if number <= 0:
                return 1
            block_hash = await self._hash_of(number)
            if self._chain.header(block_hash) is not None:
                break
            number -= 1
        else:
            raise ProtocolError(
                f"{self._peer.url} shares none of the last {MAX_STEP_BACK} blocks with this chain"
            )
        # Blocks beyond the head may be imported already, but not be canonical yet.
        return number + 1

    async def _hash_of(self, number: int) -> bytes:
        header: Any = await self._peer.call("eth_getBlockByNumber", [quantity(number), False])
        if not isinstance(header, dict):
            raise ProtocolError(f"{self._peer.url} has no block {number} below its own head")
        return parse_hex(header.get("hash", ""), size=32)

    async def _blocks(self, numbers: range) -> list[Block]:
        if self._has_raw_blocks:
            try:
                return await self._raw_blocks(numbers)
            except (UnavailableError, TimedOut):
                raise
            except FlashctlError as error:
                # Providers reject an unsupported method, or batches of it, with many different errors.
                _LOG.debug("no debug_getRawBlock: %s", error)
                self._has_raw_blocks = False
        blocks: list[Block] = []
        for start in range(numbers.start, numbers.stop, OBJECTS_AT_ONCE):
            together = range(start, min(numbers.stop, start + OBJECTS_AT_ONCE))
            blocks += await asyncio.gather(*map(self._block, together))
        return blocks

    async def _raw_blocks(self, numbers: range) -> list[Block]:
        replies = await self._peer.batch([("debug_getRawBlock", [quantity(number)]) for number in numbers])
        blocks: list[Block] = []
        for reply in replies:
            if isinstance(reply, FlashctlError):
                try:
                    raise reply
                finally:
                    # An error bound to a local of a frame in its own traceback is a cycle, with the blocks.
                    del reply, replies
            blocks.append(decode_block(parse_hex(reply)))
        return blocks

    async def _block(self, number: int) -> Block:
        """One block from its object, whose fields must produce the hash it states: otherwise the object is
        incomplete, and not worth executing."""
        value: Any = await self._peer.call("eth_getBlockByNumber", [quantity(number), True])
        if not isinstance(value, dict):
            raise ProtocolError(f"{self._peer.url} has no block {number} below its own head")
        try:
            block = await asyncio.to_thread(block_from_object, value)
        except DataError as error:
            raise ProtocolError(f"{self._peer.url}, block {number}: {error}") from None
        if value.get("hash") != to_hex(block.hash):
            raise ProtocolError(f"{self._peer.url}, block {number}: its fields do not make its hash")
        return block
