"""The operations of the Engine API on an execution engine, without the JSON.

    new_payload            a block of the consensus client: known, built here, executable, or without its
    parent forkchoice_updated     the head; and, with attributes, a payload to build upon it
    get_payload            the payload

Blocks are executed in a thread, one at a time, and another thread changes the head: the event loop stays
responsive, and neither waits for threads that serve user calls. A block whose parent is unknown is kept, and
`on_gap` is called so that the parent is fetched; until then the answer is SYNCING.

Source: execution-apis src/engine, https://specs.optimism.io/protocol/exec-engine.html
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

from flashctl.builder.payload.job import ForcedTransactionFailed, JobFailed
from flashctl.builder.payload.jobs import PayloadJobs
from flashctl.chain.ahead import BlocksAhead
from flashctl.chain.chain import Chain, ChainBlock, InvalidForkchoice, UnknownBlock
from flashctl.core.engine.payloads import ForkchoiceResult, ForkchoiceState, PayloadStatus, PayloadValidity
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.errors import DataError
from flashctl.eth.blocks import Block, Header
from flashctl.lru import Lru
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.execution import InvalidBlock, SealedBlock

__all__ = ["MAX_WAITING_BLOCKS", "ExecutionEngine"]

_LOG = logging.getLogger(__name__)

MAX_WAITING_BLOCKS: Final = 64
"""Blocks kept while their parent is missing: two minutes of a chain, long enough to fetch the blocks
between."""

MAX_WAITING_BYTES: Final = 64 * 2**20
"""Of their transactions together. A full block of OP Mainnet has a few megabytes."""

CHAIN_THREADS: Final = 2
"""One that executes blocks, one that changes the head."""

MAX_INVALID_HASHES: Final = 256
"""Hashes of invalid blocks kept, so that their descendants are rejected without execution."""

ZERO_HASH: Final = bytes(32)

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")


class ExecutionEngine:
    """An execution engine over one chain."""

    def __init__(
        self,
        chain: Chain,
        payloads: PayloadJobs,
        on_gap: Callable[[], None] | None = None,
        ahead: BlocksAhead | None = None,
    ) -> None:
        """Start from the chain's head.

        Args:
            on_gap: Called when a block or head arrives whose ancestors are unknown.
            ahead: Executes blocks while they are streamed.
        """
        self.chain = chain
        self.payloads = payloads
        self._on_gap = on_gap
        self._ahead = ahead
        self._import = asyncio.Lock()
        self._choice = asyncio.Lock()
        self._threads = ThreadPoolExecutor(CHAIN_THREADS, "chain")
        self._waiting: OrderedDict[bytes, Block] = OrderedDict()
        self._invalid = Lru[bytes, tuple[bytes | None, str]](MAX_INVALID_HASHES)
        """Hash of an invalid block to its last valid ancestor and the validation error."""

    @property
    def blocks_ahead(self) -> int:
        """Blocks beyond the head that wait for an ancestor."""
        head = self.chain.head.number
        return sum(block.number > head for block in self._waiting.values())

    # ---- validating blocks ----------------------------------------------------------------------

    async def new_payload(self, block: Block) -> PayloadStatus:
        """The payload status of a block: executes it if its parent is known."""
        known = self.chain.header(block.hash)
        if known is not None:
            return PayloadStatus(PayloadValidity.VALID, block.hash)
        parent_hash = block.header.parent_hash
        verdict = self._invalid.peek(block.hash) or self._invalid.peek(parent_hash)
        if verdict is not None:
            self._refuse(block.hash, *verdict)
            return PayloadStatus(PayloadValidity.INVALID, *verdict)
        if self.chain.header(parent_hash) is None:
            self._keep_waiting(block)
            self._report_gap()
            return PayloadStatus(PayloadValidity.SYNCING)
        try:
            await self.import_block(block)
        except InvalidBlock as error:
            _LOG.warning(
                "invalid block: %s", error, extra={"block": block.number, "hash": "0x" + block.hash.hex()}
            )
            return PayloadStatus(PayloadValidity.INVALID, parent_hash, str(error))
        return PayloadStatus(PayloadValidity.VALID, block.hash)

    async def import_block(self, block: Block) -> ChainBlock:
        """Execute and keep a block whose parent is known, then every waiting descendant of it.

        Raises:
            UnknownBlock: The parent is not known.
            InvalidBlock: The block breaks a rule.
        """
        kept = await self._keep(block)
        while (child := self._waiting_child(kept.hash)) is not None:
            try:
                kept_child = await self._keep(child)
            except InvalidBlock as error:
                _LOG.warning("invalid block that waited for its parent: %s", error)
                continue
            kept = kept_child
        return kept

    async def _keep(self, block: Block) -> ChainBlock:
        async with self._import:
            self._waiting.pop(block.hash, None)
            sealed = self.payloads.sealed(block.hash)
            try:
                if sealed is not None:
                    return await self._in_thread(self.chain.insert, sealed)
                return await self._in_thread(self._execute, block)
            except InvalidBlock as error:
                self._refuse(block.hash, block.header.parent_hash, str(error))
                raise

    def _execute(self, block: Block) -> ChainBlock:
        begun = self._ahead.take(block) if self._ahead is not None else None
        return self.chain.import_block(block, begun)

    async def _in_thread(self, work: Callable[[*_Given], _Result], *args: *_Given) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def close(self) -> None:
        """Start no further work in threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _keep_waiting(self, block: Block) -> None:
        """Keep a block until its parent arrives; the oldest are evicted."""
        if block.hash in self._waiting:
            return
        self._waiting[block.hash] = block
        size = sum(_size(waiting) for waiting in self._waiting.values())
        while len(self._waiting) > MAX_WAITING_BLOCKS or size > MAX_WAITING_BYTES:
            _, oldest = self._waiting.popitem(last=False)
            size -= _size(oldest)

    def _waiting_child(self, parent_hash: bytes) -> Block | None:
        return next(
            (block for block in self._waiting.values() if block.header.parent_hash == parent_hash), None
        )

    def _refuse(self, block_hash: bytes, last_valid: bytes | None, reason: str) -> None:
        self._invalid.put(block_hash, (last_valid, reason))

    def _report_gap(self) -> None:
        if self._on_gap is not None:
            self._on_gap()

    # ---- following the fork choice --------------------------------------------------------------

    async def forkchoice_updated(
        self, state: ForkchoiceState, attributes: PayloadAttributes | None
    ) -> ForkchoiceResult:
        """Make a block the head, and start a payload on it if there are attributes.

        Raises:
            RpcError: -38002 for a safe or finalized block that is not on the head's branch; -38003 for
                attributes that cannot be built.
        """
        if state.head == ZERO_HASH:
            return ForkchoiceResult(
                PayloadStatus(PayloadValidity.INVALID, None, "forkchoice requested update to zero hash")
            )
        if (verdict := self._invalid.peek(state.head)) is not None:
            return ForkchoiceResult(PayloadStatus(PayloadValidity.INVALID, *verdict))
        if self.chain.header(state.head) is None:
            self._report_gap()
            return ForkchoiceResult(PayloadStatus(PayloadValidity.SYNCING))
        try:
            head = await self.choose(state.head, state.safe, state.finalized)
        except (UnknownBlock, InvalidForkchoice) as error:
            raise RpcError(
                ErrorCode.INVALID_FORKCHOICE_STATE, "Invalid forkchoice state", str(error)
            ) from None
        valid = PayloadStatus(PayloadValidity.VALID, state.head)
        if attributes is None:
            return ForkchoiceResult(valid)
        return ForkchoiceResult(valid, await self._start(head, attributes))

    async def choose(self, head: bytes, safe: bytes | None = None, finalized: bytes | None = None) -> Header:
        """Make a kept block the head, one request after the other, without blocking the event loop however
        far it is from the current one. Raises what `Chain.set_head` raises.
        """
        async with self._choice:
            return (await self._in_thread(self.chain.set_head, head, safe, finalized)).head

    async def _start(self, parent: Header, attributes: PayloadAttributes) -> bytes:
        if attributes.timestamp <= parent.timestamp:
            reason = f"timestamp {attributes.timestamp} is not after the parent's {parent.timestamp}"
            raise RpcError(ErrorCode.INVALID_PAYLOAD_ATTRIBUTES, f"Invalid payload attributes: {reason}")
        try:
            return await self.payloads.start(parent, attributes)
        except (DataError, ForcedTransactionFailed) as error:
            raise RpcError(
                ErrorCode.INVALID_PAYLOAD_ATTRIBUTES, f"Invalid payload attributes: {error}"
            ) from None
        except JobFailed as error:
            raise RpcError(ErrorCode.INTERNAL_ERROR, str(error)) from None

    # ---- payloads -------------------------------------------------------------------------------

    def get_payload(self, identity: bytes) -> SealedBlock:
        """The block of a payload job, which stops building.

        Raises:
            RpcError: -38001 for an unknown id.
        """
        job = self.payloads.job(identity)
        sealed = job.resolve() if job is not None else None
        if sealed is None:
            raise RpcError(ErrorCode.UNKNOWN_PAYLOAD, "Unknown payload")
        return sealed


def _size(block: Block) -> int:
    return sum(map(len, block.transactions))
