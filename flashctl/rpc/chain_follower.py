"""Follows the upstream node's head: polled, and fetched at once when newHeads announces one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from flashctl.core.service import defects
from flashctl.errors import FlashctlError
from flashctl.remote.state import CanonicalBlock
from flashctl.remote.upstream_client import UpstreamClient, parse_block
from flashctl.rpc.canonical import HeadTrack, HeadVerdict
from flashctl.rpc.chain_rules import ChainRules
from flashctl.rpc.new_heads import NewHeads

__all__ = ["ChainFollower"]

_LOG = logging.getLogger(__name__)

MAX_CATCH_UP: Final = 8
"""Blocks fetched one by one when the head has jumped; further back nothing is pending any more."""

MAX_TRIES_BETWEEN: Final = 5
"""Attempts to fetch a missing block between two heads, before the head is accepted without it: one of several
nodes behind the URL may lack that block."""

LIVE_POLL_S: Final = 1.0
"""Poll interval while newHeads is live: a subscription may go silent unnoticed."""

LAG_REMEMBERED_S: Final = 60.0
"""How long after a node was seen behind its answers are checked for that."""

MAX_PAUSE_S: Final = 1.0
"""Longest pause between polls of a node that does not answer."""


class ChainFollower:
    """Reports canonical blocks in order, the head last. Run `follow` as a task."""

    def __init__(
        self,
        node: UpstreamClient,
        rules: ChainRules,
        report: Callable[[list[CanonicalBlock]], Awaitable[None]],
        *,
        poll_interval_s: float,
        stale_after_s: float,
        ws_url: str | None = None,
    ) -> None:
        """`ws_url` is the node's WebSocket; without it the head is only polled."""
        self._node = node
        self._rules = rules
        self._report = report
        self._poll_interval_s = poll_interval_s
        self._stale_after_s = stale_after_s
        self._track = HeadTrack()
        self._failures = 0
        self._tries_between = 0
        self._knows_chain = False
        self._is_closed = False
        self._last_head_s: float | None = None
        self._behind_s: float | None = None
        self._look_now = asyncio.Event()
        self._is_announced_ahead = False
        """newHeads announced a block that eth_getBlockByNumber does not return yet (load-balanced
        upstream)."""
        self._new_heads = None if ws_url is None else NewHeads(ws_url, self._look_now.set)
        self._on_heads: list[Callable[[list[dict[str, Any]]], None]] = []
        self.failed = 0
        """Failed polls of the head."""
        self.behind = 0
        """Heads returned that are behind an earlier one."""
        self.reorgs = 0
        """Heads returned that do not extend the earlier ones."""

    def on_heads(self, callback: Callable[[list[dict[str, Any]]], None]) -> None:
        """Call back with block objects (transaction hashes in them) whenever the canonical head changes."""
        self._on_heads.append(callback)

    @property
    def knows_head(self) -> bool:
        """Whether the node has returned its head recently."""
        last = self._last_head_s
        return last is not None and time.monotonic() - last < self._stale_after_s + 2 * self._pause_s

    @property
    def lags(self) -> bool:
        """Whether the node, or one of those behind its URL, was seen behind recently."""
        return self._behind_s is not None and time.monotonic() - self._behind_s < LAG_REMEMBERED_S

    async def follow(self) -> None:
        """Poll the node's head until cancelled; an unreachable node is logged and retried."""
        listening = None if self._new_heads is None else asyncio.ensure_future(self._new_heads.run())
        try:
            while not self._is_closed:
                await self._poll()
        finally:
            if listening is not None:
                listening.cancel()

    async def close(self) -> None:
        """Stop polling, before the node's connections are closed."""
        self._is_closed = True
        self._look_now.set()

    async def _poll(self) -> None:
        self._is_announced_ahead |= self._look_now.is_set()
        self._look_now.clear()
        try:
            if not self._knows_chain:
                self._rules.connected(await self._node.chain_id())
                self._knows_chain = True
            if await self._look():
                self._is_announced_ahead = False
            self._last_head_s = time.monotonic()
            if self._failures:
                _LOG.info("canonical node answers again", extra={"failed": self._failures})
            self._failures = 0
        except FlashctlError as error:
            await self._failed(str(error))
        except Exception as error:
            defects.caught("rpc.head", error)
            await self._failed(type(error).__name__)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self._look_now.wait()

    async def _failed(self, reason: str) -> None:
        if self._is_closed:
            return
        self.failed += 1
        # Once per series of failures: the counter has their number.
        _LOG.log(logging.DEBUG if self._failures else logging.WARNING, "canonical node: %s", reason)
        self._failures += 1
        await asyncio.sleep(min(MAX_PAUSE_S, self._poll_interval_s * self._failures))

    @property
    def _pause_s(self) -> float:
        """The longest time between two polls of the head."""
        is_live = self._new_heads is not None and self._new_heads.is_live and not self._is_announced_ahead
        return max(self._poll_interval_s, LIVE_POLL_S) if is_live else self._poll_interval_s

    async def _look(self) -> bool:
        """Fetch and classify the node's head; whether it changed."""
        newest = await self._node.head()
        head, before = parse_block(newest), self._track.head
        verdict = self._track.judge(head, time.monotonic())
        if verdict is HeadVerdict.SAME:
            return False
        if verdict is HeadVerdict.BEHIND:
            self.behind += 1
            self._behind_s = time.monotonic()
            return False
        shown = [newest]
        if verdict is HeadVerdict.NEWER and before is not None:
            shown = [*await self._between(before, head), newest]
        blocks = [parse_block(block) for block in shown]
        if before is not None and (
            verdict is HeadVerdict.REORG
            or (blocks[0].number == before.number + 1 and _leaves(before, blocks[0]))
        ):
            self.reorgs += 1
            _LOG.warning("the chain was reorganised", extra={"block": blocks[0].number, "was": before.number})
        self._track.accept(blocks)
        await self._report(blocks)
        for callback in self._on_heads:
            try:
                callback(shown)
            except Exception as error:
                defects.caught("rpc.on_heads", error)
        return True

    async def _between(self, before: CanonicalBlock, head: CanonicalBlock) -> list[dict[str, Any]]:
        """The blocks between two heads: they settle pending ones, and subscribers get every head."""
        found = []
        for number in range(max(before.number + 1, head.number - MAX_CATCH_UP), head.number):
            try:
                block = await self._node.block(number)
                parse_block(block)
                found.append(block)
            except FlashctlError:
                if self._tries_between < MAX_TRIES_BETWEEN:
                    self._tries_between += 1
                    raise
        self._tries_between = 0
        return found


def _leaves(before: CanonicalBlock, following: CanonicalBlock) -> bool:
    return following.parent_hash != before.hash
