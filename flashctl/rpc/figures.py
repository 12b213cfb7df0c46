"""The figures of an overlay node, for its metrics page."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flashctl.rpc.chain_follower import ChainFollower
from flashctl.rpc.follower import Follower
from flashctl.rpc.overlay import Overlay

__all__ = ["Figures"]


class Figures(Collector):
    """Reads the counters where they are kept, when somebody scrapes."""

    def __init__(self, prefix: str, overlay: Overlay, follower: Follower, chain: ChainFollower) -> None:
        self._prefix = prefix
        self._overlay = overlay
        self._follower = follower
        self._chain = chain

    def collect(self) -> list[Metric]:
        """The figures at this moment."""
        counts, stream, view = self._overlay.counts, self._follower.counts, self._overlay.view
        head, prefix, chain = self._overlay.head, self._prefix, self._chain
        fetcher = self._follower.fetcher
        age = None if stream.last_flashblock_s is None else time.monotonic() - stream.last_flashblock_s
        counters = {
            "upstream_messages": ("Messages received from streams.", stream.messages),
            "upstream_errors": ("Messages that are no flashblocks.", stream.invalid),
            "reconnect_attempts": ("Streams that were lost or refused.", stream.reconnects),
            "executed": ("Flashblocks executed.", counts.flashblocks),
            "state_fetches": ("Batches of state fetched for execution.", fetcher.fetches),
            "state_fetch_errors": ("Those that failed and are asked for again.", fetcher.failed),
            "head_errors": ("Looks at the canonical head that failed.", chain.failed),
            "heads_behind": ("Heads shown that lie behind one shown before.", chain.behind),
            "reorgs": ("Heads that are not on top of those shown before.", chain.reorgs),
            "disagreements": ("Flashblocks after which our gas or logs differ.", counts.disagreements),
            "block_processing_error": ("Payloads given up.", counts.diverged),
            "blocks_confirmed": ("Blocks sealed with what was preconfirmed.", counts.confirmed),
            "blocks_truncated": ("Blocks sealed with more than was streamed.", counts.truncated),
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
        shown: list[Metric] = [
            CounterMetricFamily(f"{prefix}_{name}", text, value) for name, (text, value) in counters.items()
        ]
        shown += [
            GaugeMetricFamily(f"{prefix}_{name}", text, value) for name, (text, value) in gauges.items()
        ]
        retracted = {ended.value: count for ended, count in counts.retracted.items()}
        labelled: dict[str, tuple[str, str, Mapping[str, int]]] = {
            "unexpected_block_order": ("Sequence anomalies.", "kind", stream.anomalies),
            "retractions": ("Pending blocks taken back before they were sealed.", "reason", retracted),
            "ignored": ("Flashblocks of payloads that are not held.", "reason", counts.ignored),
        }
        for name, (text, label, values) in labelled.items():
            family = CounterMetricFamily(f"{prefix}_{name}", text, labels=[label])
            for value, count in tuple(values.items()):
                family.add_metric([value], count)
            shown.append(family)
        return shown
