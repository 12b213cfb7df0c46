"""Boost's metrics, under the names rollup-boost exports, so that its dashboards keep working.

Durations and deltas are summaries, which is how rollup-boost exports its histograms; beside each is a
histogram, `_seconds` or `_histogram`, because quantiles of several instances cannot be aggregated.
"""

from __future__ import annotations

from functools import partial

from flashctl.boost.modes import ExecutionMode
from flashctl.boost.rounds import Drop, DropReason, Publish, Verdict
from flashctl.core.service.metrics import Metrics

__all__ = ["BoostMetrics"]


class BoostMetrics:
    """Boost's counters, gauges, summaries and histograms."""

    def __init__(self) -> None:
        metrics = self.registry = Metrics("rollup_boost")
        gauge, counter = metrics.gauge, partial(metrics.counter, exact=True)
        self.blocks_created = metrics.counter(
            "rpc_blocks_created", "Blocks returned to the consensus client.", ["source"], exact=True
        )
        self.mode = gauge("execution_mode", "3 enabled, 2 dry run, 1 disabled.")
        # rollup-boost doubles its prefix here; dashboards use the doubled name.
        self._mode_doubled = gauge("rollup_boost_execution_mode", "The same as execution_mode.")
        self.health = gauge("health_status", "What /healthz answers.")
        self.reconnects = counter(
            "flashblocks_ws_inbound_reconnect_attempts", "Connections lost or not made."
        )
        self.connected = gauge(
            "flashblocks_ws_inbound_connection_status", "1 while connected to the builder."
        )
        self.received = counter(
            "flashblocks_ws_inbound_messages_received", "Messages of the builder's stream."
        )
        self.undecodable = counter(
            "flashblocks_ws_inbound_invalid_messages", "Messages that are no flashblock."
        )
        service = "flashblocks_service"
        self.processed = counter(f"{service}_messages_processed", "Flashblocks judged.")
        self.published = counter(f"{service}_messages_published", "Flashblocks passed on to subscribers.")
        self.extend_errors = counter(
            f"{service}_extend_payload_errors", "Flashblocks that do not fit their block."
        )
        self.mismatches = counter(f"{service}_current_payload_id_mismatch", "Flashblocks of another payload.")
        self.buffered = counter(
            f"{service}_pending_flashblocks_buffered", "Flashblocks that beat the payload id or others."
        )
        self.dropped = counter(f"{service}_pending_flashblocks_dropped", "Dropped because too many waited.")
        self.late = counter(f"{service}_flashblocks_late", "Came after their block was taken.")
        self.in_last_block = gauge(f"{service}_flashblocks_gauge", "Flashblocks in the last builder block.")
        self.in_all_blocks = counter(f"{service}_flashblocks_counter", "Flashblocks in builder blocks.")
        self.missing = gauge(
            f"{service}_flashblocks_missing_gauge", "Fewer than the most ever, in the last block."
        )
        self.copies_dropped = gauge("copies_dropped", "Transactions that never reached the builder.")
        self.stuck = gauge(
            "stuck_transactions", "In the fallback's blocks and in none that was returned, for 3 and more."
        )
        self.stuck_sent = counter("stuck_transactions_sent", "Sent to the builder again for that.")
        self.left_out = counter("builder_left_out", "Payloads without the builder (--max-exclusion-blocks).")
        self.broken_promises = counter("broken_promises", "Blocks returned without a published flashblock.")
        self.gas_delta = metrics.distribution(
            "block_building_gas_delta",
            "Builder's gas minus the fallback's.",
            histogram="block_building_gas_delta_histogram",
            buckets=_DELTA_GAS,
        )
        self.transaction_delta = metrics.distribution(
            "block_building_tx_count_delta",
            "Builder's transactions minus the fallback's.",
            histogram="block_building_tx_count_delta_histogram",
            buckets=_DELTA_COUNT,
        )
        self.upstream_seconds = metrics.histogram(
            "upstream_seconds", "Engine calls made, by side.", ["upstream", "method", "status"]
        )
        self._spans = {
            span: metrics.distribution(
                f"{span}_duration",
                "Seconds to answer the consensus client.",
                ["status"],
                histogram=f"{span}_duration_seconds",
            )
            for span in (
                "fork_choice_updated_v3", "get_payload_v3", "get_payload_v4", "get_payload_v5",
                "new_payload_v3", "new_payload_v4", "exchange_capabilities", "forward",
            )
        }  # fmt: skip
        self._most_flashblocks = 0

    def set_mode(self, mode: ExecutionMode) -> None:
        """The execution mode changed."""
        self.mode.set(mode.gauge)
        self._mode_doubled.set(mode.gauge)

    def answered(self, span: str, seconds: float, *, ok: bool) -> None:
        """An incoming call was answered; calls without a span of their own are not timed."""
        histogram = self._spans.get(span)
        if histogram is not None:
            histogram.labels("ok" if ok else "error").observe(seconds)

    def judged(self, verdict: Verdict) -> None:
        """Count the verdict on a flashblock."""
        self.processed.inc()
        match verdict:
            case Publish():
                pass
            case Drop(reason=DropReason.OTHER_PAYLOAD | DropReason.NO_ROUND):
                self.mismatches.inc()
            case Drop(reason=DropReason.OVERFLOW):
                self.dropped.inc()
            case Drop(reason=DropReason.CLOSED):
                self.late.inc()
            case Drop(reason=DropReason.DUPLICATE):
                pass
            case Drop():
                self.extend_errors.inc()
            case _:
                self.buffered.inc()

    def used(self, flashblocks: int) -> None:
        """A builder block of so many flashblocks was returned."""
        self._most_flashblocks = max(self._most_flashblocks, flashblocks)
        self.in_last_block.set(flashblocks)
        self.in_all_blocks.inc(flashblocks)
        self.missing.set(self._most_flashblocks - flashblocks)


_DELTA_GAS = (-1e8, -1e7, -1e6, -1e5, 0.0, 1e5, 1e6, 1e7, 1e8)
_DELTA_COUNT = (-1000.0, -100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0, 1000.0)
