"""The builder's stream: each flashblock is checked by its round and published as the bytes received.

The connection is retried for ever, whatever ended it, a wrong peer included: the builder behind the URL may
be restarting, and the chain goes on without it meanwhile.
"""

from __future__ import annotations

import asyncio
import logging

from flashctl.boost.builder_frames import FrameReader, decode
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.boost.rounds import Drop, DropReason, Hold, Incoming, Publish, Rounds, Verdict
from flashctl.core.flashblocks.client import Connected, Disconnected, StreamFrame, StreamOptions, subscribe
from flashctl.core.hub import Hub
from flashctl.core.net.urls import mask_url
from flashctl.core.service import defects
from flashctl.errors import FlashctlError

__all__ = ["BuilderStream"]

_LOG = logging.getLogger(__name__)

WRONG_PEER_PAUSE_S = 1.0
"""Before retrying after an error that the stream client considers permanent."""

_EXPECTED = frozenset(
    {DropReason.DUPLICATE, DropReason.CLOSED, DropReason.NO_ROUND, DropReason.OTHER_PAYLOAD}
)
"""Reasons that are no fault of the builder: a replay after a reconnect, a tail after getPayload, a round that
began before boost did."""


class BuilderStream:
    """Receives frames from the builder, publishes flashblocks to the hub."""

    def __init__(self, rounds: Rounds, switch: ModeSwitch, metrics: BoostMetrics, hub: Hub | None) -> None:
        """`hub` None: flashblocks are used for blocks, but not published."""
        self._rounds = rounds
        self._switch = switch
        self._metrics = metrics
        self._hub = hub
        self._frames = FrameReader()
        self._lost_because: str | None = None
        """Why there is no connection; None while there is one."""

    async def follow(self, url: str, options: StreamOptions) -> None:
        """Follow the stream at `url` for ever."""
        while True:
            try:
                async for item in subscribe(url, options):
                    await self.handle(item)
            except FlashctlError as error:
                self._lost(str(error), WRONG_PEER_PAUSE_S)
            await asyncio.sleep(WRONG_PEER_PAUSE_S)

    async def handle(self, item: Connected | Disconnected | StreamFrame) -> None:
        """Process one item of the stream; a defective one costs its round at most."""
        try:
            match item:
                case Connected(url=url):
                    self._metrics.connected.set(1)
                    self._lost_because = None
                    _LOG.info("builder stream connected", extra={"url": mask_url(url)})
                case Disconnected(reason=reason, retry_in_s=delay):
                    self._lost(reason, delay)
                case StreamFrame(data=data, binary=binary, monotonic_ns=now_ns):
                    await self._receive(data, binary, now_ns)
        except Exception as error:
            defects.caught("boost.stream", error)
            self._rounds.disturb("defect")

    def _lost(self, reason: str, retry_in_s: float) -> None:
        """The connection is down: flashblocks that the builder sends meanwhile are missing from the round."""
        self._metrics.connected.set(0)
        self._metrics.reconnects.inc()
        self._rounds.disturb("the builder's stream broke off")
        # Repeated attempts that fail for the same reason are logged at DEBUG.
        level = logging.DEBUG if reason == self._lost_because else logging.WARNING
        self._lost_because = reason
        _LOG.log(level, "builder stream: %s", reason, extra={"retry_in_s": round(retry_in_s, 3)})

    async def _receive(self, data: bytes, binary: bool, now_ns: int) -> None:
        """Decode and check one message. One that cannot be decoded may have been the next flashblock, so its
        round counts as incomplete."""
        self._metrics.received.inc()
        try:
            if self._frames.is_heavy(data, binary=binary):
                flashblock = await self._frames.read(data, binary=binary)
            else:
                flashblock = decode(data, binary=binary)
        except FlashctlError as error:
            self._metrics.undecodable.inc()
            self._rounds.disturb(f"a message that is no flashblock: {error}")
            _LOG.warning("builder stream: not a flashblock: %s", error, extra={"bytes": len(data)})
            return
        for incoming, verdict in self._rounds.feed(Incoming(flashblock, data, binary), now_ns):
            self.released(incoming, verdict)

    def released(self, incoming: Incoming, verdict: Verdict) -> None:
        """Act on a verdict: publish, count, log faults."""
        self._metrics.judged(verdict)
        flashblock = incoming.flashblock
        where = {
            "block": flashblock.block_number,
            "index": flashblock.index,
            "payload_id": flashblock.payload_id,
        }
        match verdict:
            case Publish(round=round_):
                # Publishing starts at index 0 only, since subscribers cannot use a block from its middle;
                # a block whose publication has begun is published to its end, as it is preconfirmed.
                is_wanted = self._switch.mode is ExecutionMode.ENABLED and flashblock.index == 0
                if round_.published or is_wanted:
                    round_.published = True
                    self._publish(incoming)
                _LOG.debug("flashblock", extra={**where, "txs": len(flashblock.diff.transactions)})
            case Drop(reason=reason, detail=detail):
                level = logging.DEBUG if reason in _EXPECTED else logging.WARNING
                _LOG.log(level, "flashblock dropped: %s", reason.value, extra={**where, "detail": detail})
            case Hold(awaited=awaited):
                what = "the builder's payload id" if awaited is None else f"index {awaited}"
                _LOG.debug("flashblock waits for %s", what, extra=where)

    def _publish(self, incoming: Incoming) -> None:
        self._metrics.published.inc()
        if self._hub is not None:
            flashblock = incoming.flashblock
            self._hub.publish(
                incoming.data,
                binary=incoming.binary,
                payload_id=flashblock.payload_id,
                index=flashblock.index,
                block_number=flashblock.block_number,
            )

    async def close(self) -> None:
        """Nothing more will come."""
        self._frames.close()
