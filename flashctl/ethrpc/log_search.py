"""Finding logs: over a range of sealed blocks, in one block, and in the block being built.

A range is narrowed by the blooms first (one query for the range), then only blocks that may match are read.
Blocks, results and time are bounded, so that one caller cannot occupy a node.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, Protocol

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError, invalid_params
from flashctl.eth.blocks import Header
from flashctl.ethrpc.block_readers import MAX_SECONDS
from flashctl.ethrpc.block_tags import BlockHash, BlockRef, Tag
from flashctl.ethrpc.block_view import logs_of
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.interfaces import BlockView, ChainReader, UnsealedBlock

__all__ = ["LogSearch"]

MAX_BLOCKS: Final = 100_000
"""Numbers of one query. Their blooms are 25 MB at most and 0.2 s to go through."""

BLOOMS_AT_ONCE: Final = 500
"""Numbers of one look-up in the database, which keeps other readers waiting for a millisecond."""

MAX_RESULTS: Final = 20_000
"""Logs of one answer, about 12 MB of JSON."""


class Blocks(Protocol):
    """What a search asks of the provider over a chain."""

    @property
    def chain(self) -> ChainReader: ...

    def header(self, ref: BlockRef) -> Header | None: ...

    def view(self, ref: BlockRef) -> BlockView | None: ...

    def unsealed(self, ref: BlockRef) -> UnsealedBlock | None: ...

    def pending_view(self, pending: UnsealedBlock) -> BlockView: ...

    def stored_view(self, block_hash: bytes) -> BlockView | None: ...


class LogSearch:
    """Answers eth_getLogs. Safe to run outside the event loop."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._chain = blocks.chain

    def find(self, wanted: LogFilter) -> list[dict[str, Any]]:
        """All logs that a filter wants, by position in the chain.

        Raises:
            RpcError: For a range that makes no sense or reaches beyond the head, an unknown block, or more
                blocks, logs or time than the limits.
        """
        if wanted.block_hash is not None:
            view = self._blocks.view(BlockHash(wanted.block_hash))
            if view is None:
                raise RpcError(ErrorCode.SERVER_ERROR, "unknown block")
            return logs_of(view, wanted)
        first, last, pending = self._range(wanted)
        found = self._sealed(wanted, first, last)
        if pending is not None:
            found += logs_of(pending, wanted)
        return found

    def _range(self, wanted: LogFilter) -> tuple[int, int, BlockView | None]:
        """First and last number, and the block being built if the range goes that far."""
        head = self._chain.head.number
        bounds = wanted.from_block, wanted.to_block
        pending = None if bounds[1] is None else self._blocks.unsealed(bounds[1])
        first, last = (head + 1 if bound is Tag.PENDING else self._number(bound) for bound in bounds)
        view = None
        if pending is not None:
            view = self._blocks.pending_view(pending)
            last = pending.header.number
        elif bounds[1] is Tag.PENDING:
            last = head
            if bounds[0] is Tag.PENDING:
                return first, head, None
        if first > last:
            raise invalid_params("invalid block range params")
        if view is None and last > head:
            raise invalid_params("block range extends beyond current head block")
        if last - first >= MAX_BLOCKS:
            raise invalid_params(f"block range too large: {last - first + 1} blocks, at most {MAX_BLOCKS}")
        return first, min(last, head), view

    def _number(self, bound: Tag | int | None) -> int:
        if isinstance(bound, int):
            return bound
        header = self._blocks.header(Tag.LATEST if bound is None else bound)
        return self._chain.head.number if header is None else header.number

    def _sealed(self, wanted: LogFilter, first: int, last: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + MAX_SECONDS
        for block_hash, bloom in self._candidates(first, last):
            if not wanted.may_match(bloom):
                continue
            view = self._blocks.stored_view(block_hash)
            if view is None:
                continue
            found += logs_of(view, wanted)
            if len(found) > MAX_RESULTS:
                raise RpcError(
                    ErrorCode.LIMIT_EXCEEDED,
                    f"query exceeds max results {MAX_RESULTS}, retry with the range "
                    f"{first}-{max(first, view.number - 1)}",
                )
            if time.monotonic() > deadline:
                raise RpcError(
                    ErrorCode.LIMIT_EXCEEDED, f"query exceeds {MAX_SECONDS:g} s, narrow the block range"
                )
        return found

    def _candidates(self, first: int, last: int) -> Iterator[tuple[bytes, bytes]]:
        for start in range(first, last + 1, BLOOMS_AT_ONCE):
            yield from self._chain.blooms(start, min(last, start + BLOOMS_AT_ONCE - 1))
