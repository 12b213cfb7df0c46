"""Dispatch of the methods that take a block, by the table in `chain.block_methods`.

Each has the same plan. A streamed block is meant: answered from it, refused, or asked for the latest one, as
the table says. `pending` is meant and nothing is: the node's latest block, so that nobody ever gets null or
an error because a stream paused (base/base#178). Anything else is the node's to answer, byte for byte.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Handler, PassOn
from flashctl.errors import InvalidParams
from flashctl.ethrpc.block_methods import BLOCK_METHODS, BlockMethod, Given, Means
from flashctl.ethrpc.block_tags import Tag
from flashctl.ethrpc.filters import LogFilter
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.latest import LatestCalls
from flashctl.rpc.naming import Naming

__all__ = ["BlockDispatch", "Served"]

Served = Callable[[PendingBlock, list[Any]], Awaitable[Any]]
"""What a method answers about a streamed block."""


class BlockDispatch:
    """See the module docstring."""

    def __init__(self, naming: Naming, latest: LatestCalls) -> None:
        self._naming = naming
        self._latest = latest

    def handler(self, name: str, served: Served | None = None) -> Handler:
        """The handler of a method of the table.

        Args:
            served: For those that are answered from the stream.
        """
        method = BLOCK_METHODS[name]
        assert (served is not None) is (method.overlay is Means.SERVED), name
        if method.given is Given.FILTER:
            return lambda params: self._filtered(method, params)
        return lambda params: self._answer(method, served, params)

    async def _answer(self, method: BlockMethod, served: Served | None, params: list[Any]) -> Any:
        try:
            ref = method.ref(params)
        except (InvalidParams, RpcError):
            if served is not None:
                raise
            raise PassOn from None  # a method that we do not know well: the node may understand it
        if served is None and ref is Tag.LATEST:
            raise PassOn  # of sealed blocks only, whatever `latest` is elsewhere: the latest that has it
        block = self._naming.streamed(ref)
        if block is None:
            if self._naming.is_latest(ref):
                return await self._latest.call(method.name, method.about(params, Tag.LATEST))
            raise PassOn
        if served is not None:
            return await served(block, params)
        raise method.refusal()

    async def _filtered(self, method: BlockMethod, params: list[Any]) -> Any:
        """Bounds of a range that are not answered from the stream."""
        try:
            wanted = LogFilter.parse(params[method.index] if method.index < len(params) else None)
        except InvalidParams:
            raise PassOn from None
        bounds = [bound for bound in (wanted.from_block, wanted.to_block) if bound not in (None, Tag.LATEST)]
        if method.overlay is Means.REFUSED and any(map(self._naming.streamed, bounds)):
            raise method.refusal()
        if any(map(self._naming.is_latest, bounds)):
            return await self._latest.call(method.name, method.about(params, Tag.LATEST))
        raise PassOn
