"""The metrics of an overlay node."""

from __future__ import annotations

import time
from collections.abc import Mapping

from flashctl.core.service.exposition import MetricFamily, counter, gauge
from flashctl.rpc.chain_follower import ChainFollower
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.overlay_worker import OverlayWorker

__all__ = ["OverlayMetrics"]


class OverlayMetrics:
    """Collects the counters of the parts at each scrape."""

    def __init__(self, prefix: str, overlay: Overlay, follower: OverlayWorker, chain: ChainFollower) -> None:
        self._prefix = prefix
        self._overlay = overlay
        self._follower = follower
        self._chain = chain

    def __call__(self) -> list[MetricFamily]:
        """The current values. Metrics that a Base node has keep its names, without `_total`."""
        counts, stream, view = self._overlay.counts, self._follower.counts, self._overlay.view
        head, prefix, chain = self._overlay.head, self._prefix, self._chain
        fetcher = self._follower.fetcher
        age = None if stream.last_flashblock_s is None else time.monotonic() - stream.last_flashblock_s
        counters = {
            "upstream_messages": ("Messages received from streams.", stream.messages),
            "upstream_errors": ("Messages that are no flashblocks.", stream.invalid),
            "reconnect_attempts": ("Streams that were lost or refused.", stream.reconnects),
            "executed_total": ("Flashblocks executed.", counts.flashblocks),
            "state_fetches_total": ("Batches of state fetched for execution.", fetcher.fetches),
            "state_fetch_errors_total": ("Those that failed and are asked for again.", fetcher.failed),
            "head_errors_total": ("Looks at the canonical head that failed.", chain.failed),
            "heads_behind_total": ("Heads shown that lie behind one shown before.", chain.behind),
            "reorgs_total": ("Heads that are not on top of those shown before.", chain.reorgs),
            "disagreements_total": ("Flashblocks after which our gas or logs differ.", counts.disagreements),
            "block_processing_error": ("Payloads given up.", counts.diverged),
            "blocks_confirmed_total": ("Blocks sealed with what was preconfirmed.", counts.confirmed),
            "blocks_truncated_total": ("Blocks sealed with more than was streamed.", counts.truncated),
            "pending_clear_reorg": ("Blocks sealed with something else.", counts.reorged),
        }
        gauges = {
            "pending_snapshot_height": (
                "Pending block number, 0 for none.",
                view.latest.number if view else 0,
            ),
            "pending_snapshot_fb_index": ("Index of its flashblock.", view.latest.index if view else 0),
            "canonical_height": ("Head of the canonical node.", head.number if head else 0),
            "streams_connected": ("Streams connected.", stream.connected),
            "stream_age_seconds": ("Since the last flashblock, -1 for none.", -1.0 if age is None else age),
        }
        shown = [counter(f"{prefix}_{name}", text, value) for name, (text, value) in counters.items()]
        shown += [gauge(f"{prefix}_{name}", text, value) for name, (text, value) in gauges.items()]
        retracted = {ended.value: count for ended, count in counts.retracted.items()}
        labelled: dict[str, tuple[str, str, Mapping[str, int]]] = {
            "unexpected_block_order": ("Sequence anomalies.", "kind", stream.anomalies),
            "retractions_total": ("Pending blocks taken back before they were sealed.", "reason", retracted),
            "ignored_total": ("Flashblocks of payloads that are not held.", "reason", counts.ignored),
        }
        for name, (text, label, values) in labelled.items():
            samples = [({label: value}, count) for value, count in tuple(values.items())]
            shown.append(counter(f"{prefix}_{name}", text, samples))
        return shown
