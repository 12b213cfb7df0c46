"""`--confirm`: payloads as the stream showed them, against the blocks that were sealed.

The stream does not carry whether a block was sealed, so a node is asked: the transaction hashes of a payload,
concatenated, must be those of the sealed block. Block hashes are not compared, since builders fill them with
a provisional value or not at all.

    ShownPayload   what the stream showed of one payload
    judge          pure: the verdict on a payload, given the sealed block's hashes
    Confirmer      asks a node for the blocks and emits sealed | dropped | unsealed events
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.low_rate import LowRateClient
from flashctl.errors import FlashctlError
from flashctl.eth.keccak import keccak256
from flashctl.lru import Lru
from flashctl.watch.events import WatchEvent

__all__ = ["Confirmer", "SealedVerdict", "ShownPayload", "judge"]

_LOG = logging.getLogger(__name__)

POLL_S: Final = 0.25
GIVE_UP_AFTER_S: Final = 30.0
"""After its payload closed, a block that has not been sealed for this long counts as unsealed."""
MAX_WAITING: Final = 256
"""Payloads waiting for a verdict; the oldest is given up beyond it."""


@dataclass(slots=True)
class ShownPayload:
    """The transactions that a payload showed, in order."""

    payload_id: str
    block: int
    hashes: list[str] = field(default_factory=list)
    whole: bool = True
    """False when flashblocks of it are missing: then only what was shown can be looked for."""
    closed_ns: int = 0


@dataclass(frozen=True, slots=True)
class SealedVerdict:
    """How a payload compares with its sealed block."""

    held: bool
    """Every transaction shown is in the block, in the order shown, and at its position if the payload was
    whole."""
    dropped: tuple[str, ...]
    """Shown, and not in the block."""
    moved: int
    """In the block at another position."""
    unseen: int
    """In the block, and never shown."""


def judge(shown: ShownPayload, sealed: Sequence[str]) -> SealedVerdict:
    """Compare what was shown with the hashes of the sealed block."""
    place = {tx_hash: position for position, tx_hash in enumerate(sealed)}
    dropped = tuple(tx_hash for tx_hash in shown.hashes if tx_hash not in place)
    found = [place[tx_hash] for tx_hash in shown.hashes if tx_hash in place]
    if shown.whole:
        moved = sum(
            1 for position, tx_hash in enumerate(shown.hashes) if place.get(tx_hash, position) != position
        )
    else:
        moved = sum(1 for before, after in pairwise(found) if after < before)
    return SealedVerdict(not dropped and not moved, dropped, moved, len(sealed) - len(found))


class Confirmer:
    """Collects payloads and asks for their blocks, beside the stream."""

    def __init__(self, url: str, emit: Callable[[WatchEvent], None]) -> None:
        self._client = LowRateClient(url, timeout_s=5.0)
        self._emit = emit
        self._open: dict[str, ShownPayload] = {}
        self._waiting = Lru[str, ShownPayload](MAX_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._complained = False
        self.judged = 0
        self.held = 0
        self.dropped_transactions = 0
        self.unsealed = 0

    def see(self, event: WatchEvent) -> None:
        """Take in one event of the stream."""
        if event.payload_id is None:
            return
        if event.row is not None and event.block is not None:
            shown = self._open.setdefault(event.payload_id, ShownPayload(event.payload_id, event.block))
            shown.hashes += ["0x" + keccak256(raw).hex() for raw in event.row.flashblock.diff.transactions]
            shown.whole = shown.whole and event.row.total_transactions is not None
            # Gaps close a payload for the rules of a sequence; here it is over when the next one begins.
            for payload_id in [other for other in self._open if other != event.payload_id]:
                self._close(self._open.pop(payload_id), event.received_ns)

    def _close(self, shown: ShownPayload, now_ns: int) -> None:
        shown.closed_ns = now_ns
        self._waiting.put(shown.payload_id, shown)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def finish(self, patience_s: float = 3.0) -> None:
        """The stream is over: judge what is left within a moment, then stop."""
        for shown in self._open.values():
            self._close(shown, time.time_ns())
        self._open.clear()
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=patience_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.close()

    async def _work(self) -> None:
        started = {payload_id: time.monotonic() for payload_id in self._waiting}
        while self._waiting:
            for payload_id, shown in self._waiting.items():
                since = started.setdefault(payload_id, time.monotonic())
                sealed = await self._sealed(shown.block)
                if sealed is not None:
                    self._waiting.pop(payload_id)
                    self._report(shown, *sealed)
                elif time.monotonic() - since > GIVE_UP_AFTER_S:
                    self._waiting.pop(payload_id)
                    self.unsealed += 1
                    self._report_event("unsealed", shown, {"text": f"no block #{shown.block} was sealed"})
            if self._waiting:
                await asyncio.sleep(POLL_S)

    async def _sealed(self, number: int) -> tuple[str, list[str]] | None:
        """Hash and transaction hashes of a block; None while there is none."""
        try:
            block = await self._client.call("eth_getBlockByNumber", [hex(number), False])
        except RpcError as error:
            block = None
            self._complain(error)
        except FlashctlError as error:
            self._complain(error)
            return None
        if not isinstance(block, dict) or not isinstance(block.get("transactions"), list):
            return None
        block_hash = block.get("hash")
        if not isinstance(block_hash, str):
            return None
        return block_hash, [str(tx_hash).lower() for tx_hash in block["transactions"]]

    def _complain(self, error: FlashctlError) -> None:
        if not self._complained:
            self._complained = True
            _LOG.warning("--confirm: %s", error)

    def _report(self, shown: ShownPayload, block_hash: str, sealed: list[str]) -> None:
        verdict = judge(shown, sealed)
        self.judged += 1
        self.held += verdict.held
        self.dropped_transactions += len(verdict.dropped)
        delay_ms = round((time.time_ns() - shown.closed_ns) / 1e6, 3)
        details: dict[str, Any] = {
            "hash": block_hash,
            "held": verdict.held,
            "shown": len(shown.hashes),
            "sealed": len(sealed),
            "moved": verdict.moved,
            "unseen": verdict.unseen,
            "dropped": list(verdict.dropped),
            "seen_sealed_ms": delay_ms,
            "reorg_rate": self.reorg_rate,
        }
        if verdict.held:
            extra = f", {verdict.unseen} never shown" if verdict.unseen else ""
            details["text"] = f"sealed as shown: {len(shown.hashes)} tx{extra}"
            self._report_event("sealed", shown, details)
        else:
            details["text"] = f"{len(verdict.dropped)} tx shown but not sealed, {verdict.moved} moved"
            self._report_event("dropped", shown, details)

    @property
    def reorg_rate(self) -> float:
        """Share of judged payloads that did not hold."""
        return round((self.judged - self.held) / self.judged, 6) if self.judged else 0.0

    def _report_event(self, name: str, shown: ShownPayload, details: dict[str, Any]) -> None:
        self._emit(WatchEvent(name, time.time_ns(), shown.payload_id, shown.block, None, details))

    def report(self) -> dict[str, Any]:
        """The figures for the summary."""
        return {
            "payloads_judged": self.judged,
            "payloads_held": self.held,
            "transactions_dropped": self.dropped_transactions,
            "unsealed": self.unsealed,
            "reorg_rate": self.reorg_rate,
        }
