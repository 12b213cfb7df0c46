"""Publishes, counts and logs the flashblocks of a payload job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flashctl.builder.payload.budget import Refusal
from flashctl.builder.payload.job import BuiltFlashblock, Fate, JobObserver, JobOutcome
from flashctl.builder.payload.publisher import Publisher
from flashctl.core.hub import Prepared
from flashctl.core.service.metrics import Metrics
from flashctl.ethrpc.tx_waiters import TxWaiters

__all__ = ["PublishingObserver"]

_LOG = logging.getLogger(__name__)


class PublishingObserver(JobObserver):
    """Publishes flashblocks and keeps the builder's metrics."""

    def __init__(
        self, metrics: Metrics, publisher: Publisher | None, arrivals: TxWaiters | None = None
    ) -> None:
        self._publisher = publisher
        self.on_opened: Callable[[], object] | None = None
        """Called when index 0 is published: no flashblock is due for a moment."""
        self._arrivals = arrivals
        self.failed_in_a_row = 0
        """Consecutive failed payload jobs."""
        self._flashblocks = metrics.counter("flashblocks", "Flashblocks sealed.")
        self._transactions = metrics.counter("transactions", "Transactions built in, deposits included.")
        self._gas = metrics.counter("gas", "Gas of blocks that were built.")
        self._gas_so_far = (b"", 0)
        """Payload id and cumulative gas of the flashblock before."""
        self._bytes = metrics.counter("flashblock_bytes", "Bytes of published flashblocks.")
        self._refused = metrics.counter(
            "transactions_left_out", "Transactions that did not fit a flashblock.", ["reason"]
        )
        self._late = metrics.counter(
            "transactions_stopped", "Transactions stopped while they ran, by what became of them.", ["fate"]
        )
        self._ended = metrics.counter("payload_job_endings", "Payload jobs by how they ended.", ["reason"])
        self._missing = metrics.counter("missing_flashblocks", "Planned flashblocks that were never built.")
        self._offset = metrics.histogram(
            "flashblock_to_slot_end_seconds",
            "Time left until the block's timestamp when a flashblock is out.",
        )

    def message(self, made: BuiltFlashblock) -> Prepared | None:
        return self._publisher.message(made) if self._publisher is not None else None

    def made(self, made: BuiltFlashblock) -> None:
        header = made.sealed.header
        if self._publisher is not None and made.publishes:
            self._bytes.inc(self._publisher.publish(made))
            if self._arrivals is not None:
                self._arrivals.arrived(envelope.hash for envelope in made.added)
        if made.index == 0 and self.on_opened is not None:
            self.on_opened()
        self._flashblocks.inc()
        self._transactions.inc(len(made.added))
        payload_id, before = self._gas_so_far
        self._gas.inc(max(0, header.gas_used - (before if payload_id == made.payload_id else 0)))
        self._gas_so_far = (made.payload_id, header.gas_used)
        self._offset.observe(max(0.0, header.timestamp - time.time()))
        _LOG.debug(
            "flashblock",
            extra={
                "payload_id": "0x" + made.payload_id.hex(),
                "block": header.number,
                "index": made.index,
                "txs": len(made.added),
                "gas": header.gas_used,
            },
        )

    def refused(self, refusal: Refusal) -> None:
        self._refused.labels(refusal.value).inc()

    def full(self, refusal: Refusal, number: int) -> None:
        _LOG.info("block is full", extra={"block": number, "limit": refusal.value})

    def late(self, fate: Fate) -> None:
        self._late.labels(fate.value).inc()

    def ended(self, ending: JobOutcome, flashblocks: int, planned: int) -> None:
        self.failed_in_a_row = self.failed_in_a_row + 1 if ending is JobOutcome.FAILED else 0
        self._ended.labels(ending.value).inc()
        self._missing.inc(max(0, planned - flashblocks))
