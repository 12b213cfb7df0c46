"""Blocks of a flashblocks stream, executed while they grow: importing one has only its last part left.

    open      index 0 of a payload: the block's context and its first transactions
    append    the transactions of the next flashblock
    advance   executes what has come; in a thread
    take      what was executed of a block that is to be imported

The stream decides what is executed early and nothing else. `execute_block` continues an execution only if its
context is that of the block's header and its transactions are the block's first, byte for byte; it checks the
header, executes the rest and compares every root. A stream that lies costs the time that was spent on it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from flashctl.chain.chain import Chain, UnknownBlock
from flashctl.core.service import defects
from flashctl.errors import DataError, FlashctlError
from flashctl.eth.blocks import Block
from flashctl.eth.keccak import keccak256
from flashctl.evm.message import Deadline
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.execution import BlockExecution

__all__ = ["BlocksAhead"]

_LOG = logging.getLogger(__name__)

MAX_PAYLOADS: Final = 3
"""The block that is streamed, the one before it until it is imported, and one that was replaced."""

MAX_BYTES: Final = 32 * 2**20
"""Of one payload's transactions. A full block of OP Mainnet has a few megabytes."""

BYTES_OF_AN_OBJECT: Final = 64
"""What a transaction takes beside its bytes: a stream may show a million empty ones."""

RECOVERED_AT_ONCE: Final = 64
"""Transactions whose senders are recovered in one go: some 5 ms that an import may wait for."""

MAX_GAS_LIMITS: Final = 2
"""A block may have so many times its parent's gas limit to be executed ahead. Gas bounds the memory that a
transaction takes; the chain's own blocks are bounded by L1's configuration, a stream's by nothing."""

MAX_EXECUTION_S: Final = 4.0
"""Wall time for one payload. An honest block of two seconds was built in less."""


@dataclass(slots=True, eq=False)
class _Payload:
    """One payload of the stream."""

    context: BlockContext
    raws: list[bytes] = field(default_factory=list)
    size: int = 0
    execution: BlockExecution | None = None
    """None until the parent is known."""
    left_s: float = MAX_EXECUTION_S
    deadline: Deadline | None = None
    """Of what is being executed."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the block is imported or the payload dropped: no further transaction is begun."""
    running: threading.Lock = field(default_factory=threading.Lock)
    """Held while `execution` changes."""

    def abandon(self) -> None:
        """Execute no more of it; a transaction that runs is stopped."""
        self.stop.set()
        if (deadline := self.deadline) is not None:
            deadline.expire()

    def hand_over(self, block: Block) -> None:
        """Execute no more of it, but for a transaction that runs and belongs to the block: its import would
        have to execute that as well. One that does not is stopped, for the import would wait for it."""
        self.stop.set()
        at = len(self.execution.envelopes) if self.execution is not None else 0
        if tuple(self.raws[: at + 1]) != block.transactions[: at + 1]:
            self.abandon()


class BlocksAhead:
    """What a stream has shown of blocks that are not imported yet. Safe to use from several threads."""

    def __init__(self, chain: Chain, pooled: Callable[[bytes], TxEnvelope | None] = lambda _: None) -> None:
        """`pooled` finds a transaction by its hash, where the mempool has it with sender and size known."""
        self._chain = chain
        self._pooled = pooled
        self._lock = threading.Lock()
        self._payloads: dict[str, _Payload] = {}
        """By payload id, the oldest first."""
        self.taken = 0
        """Transactions of imported blocks that had been executed before the block came."""

    def open(self, payload_id: str, context: BlockContext) -> None:
        """Begin a payload; the oldest makes room."""
        with self._lock:
            if (before := self._payloads.pop(payload_id, None)) is not None:
                before.abandon()
            self._payloads[payload_id] = _Payload(context)
            while len(self._payloads) > MAX_PAYLOADS:
                self._payloads.pop(next(iter(self._payloads))).abandon()

    def append(self, payload_id: str, raws: Iterable[bytes]) -> None:
        """The transactions of the next flashblock of a payload; ignored for one that was dropped."""
        with self._lock:
            payload = self._payloads.get(payload_id)
            if payload is None:
                return
            for raw in raws:
                payload.raws.append(raw)
                payload.size += len(raw) + BYTES_OF_AN_OBJECT
        if payload.size > MAX_BYTES:
            self.drop(payload_id)

    def drop(self, payload_id: str) -> None:
        """Forget a payload: it was replaced, or a flashblock of it is missing."""
        with self._lock:
            payload = self._payloads.pop(payload_id, None)
        if payload is not None:
            payload.abandon()

    def advance(self) -> None:
        """Execute what has come of every payload whose parent is known."""
        with self._lock:
            payloads = list(self._payloads.items())
        for payload_id, payload in payloads:
            try:
                with payload.running:
                    self._execute(payload)
            except UnknownBlock:
                continue  # the parent is being imported; the next head asks again
            except FlashctlError as error:
                _LOG.debug("payload %s is not executed ahead: %s", payload_id, error)
                self._forget(payload_id, payload)
            except Exception as error:
                defects.caught("chain.ahead", error, payload_id)
                self._forget(payload_id, payload)

    def take(self, block: Block) -> BlockExecution | None:
        """What was executed of a block, which is the caller's from here on; None if nothing was.

        Waits for the transaction that is being executed if it belongs to the block.
        """
        context = BlockContext.from_header(block.header)
        with self._lock:
            found = [item for item in self._payloads.items() if item[1].context == context]
            for payload_id, payload in found:
                payload.hand_over(block)
                del self._payloads[payload_id]
        for _, payload in reversed(found):
            with payload.running:
                execution = payload.execution
            if execution is not None and execution.is_beginning_of(block):
                self.taken += len(execution.envelopes)
                return execution
        return None

    def _forget(self, payload_id: str, payload: _Payload) -> None:
        """Unless another one has its id by now."""
        with self._lock:
            if self._payloads.get(payload_id) is payload:
                del self._payloads[payload_id]

    def _execute(self, payload: _Payload) -> None:
        if payload.stop.is_set():
            return
        execution = payload.execution
        if execution is None:
            execution = self._chain.open_block(payload.context)
            if payload.context.gas_limit > MAX_GAS_LIMITS * execution.parent.gas_limit:
                raise DataError(
                    f"gas limit {payload.context.gas_limit} of a block whose parent has "
                    f"{execution.parent.gas_limit}"
                )
            payload.execution = execution
        begun = perf_counter()
        payload.deadline = deadline = Deadline(MAX_EXECUTION_S, payload.left_s)
        try:
            while (waiting := self._waiting(payload, execution)) and not payload.stop.is_set():
                for envelope in self._envelopes(waiting):
                    if payload.stop.is_set():
                        return
                    execution.execute(envelope, deadline=deadline)
            if not payload.stop.is_set():
                execution.seal()
        finally:
            payload.left_s -= perf_counter() - begun

    def _waiting(self, payload: _Payload, execution: BlockExecution) -> list[bytes]:
        """The next transactions: few at a time, for recovering their senders is not interrupted."""
        done = len(execution.envelopes)
        return payload.raws[done : done + RECOVERED_AT_ONCE]

    def _envelopes(self, raws: list[bytes]) -> list[TxEnvelope]:
        """Decoded, with the work that admission to the mempool has done already."""
        found = [self._pooled(keccak256(raw)) for raw in raws]
        fresh = iter(recover_all([raw for raw, known in zip(raws, found, strict=True) if known is None]))
        return [known if known is not None else next(fresh) for known in found]
